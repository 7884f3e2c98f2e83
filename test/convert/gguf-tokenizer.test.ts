/** A converted tokenizer gives the ids of its source, or is refused with the reason. */
import { describe, expect, test } from 'vitest';
import { Checkpoint } from '../../src/checkpoint/checkpoint.ts';
import { safetensorsCheckpoint } from '../../src/checkpoint/safetensors-checkpoint.ts';
import { ggufTokenizer } from '../../src/convert/gguf-tokenizer.ts';
import { MemoryFolder } from '../../src/files/memory-folder.ts';
import type { GgufValue } from '../../src/format/gguf.ts';
import { characterTokenizer } from '../../src/text/character-tokenizer.ts';
import { tokenizerFilesFromGguf } from '../../src/text/gguf-tokenizer.ts';
import { tokenizerFromGguf, type WritableTokenizer } from '../../src/text/tokenizer.ts';
import { byteLevelFixture } from '../text/fixtures.ts';

const size = 600;

function folder(files: Readonly<Record<string, unknown>>): Checkpoint {
  const texts = Object.entries(files).map(([name, file]) => {
    return [name, typeof file === 'string' ? file : JSON.stringify(file)];
  });
  const parts = {
    folder: new MemoryFolder('folder', Object.fromEntries(texts)),
    file: 'config.json',
    config: {},
  };
  return new Checkpoint(safetensorsCheckpoint, { folder: parts.folder }, { ...parts, tensors: new Map() });
}

const special = (id: number, content: string, flags: object = {}): object => ({
  id,
  content,
  special: true,
  normalized: false,
  ...flags,
});

/** A byte-level tokenizer.json of 520 tokens, with <s> 520 and </s> 521. */
function byteLevel(changes: object = {}): Record<string, unknown> {
  const { json } = tokenizerFilesFromGguf(byteLevelFixture('gpt-2').metadata);
  const vocab = Object.fromEntries(json.model.vocab as Map<string, number>);
  const added_tokens = [special(520, '<s>'), special(521, '</s>')];
  return {
    ...json,
    model: { ...json.model, vocab },
    added_tokens,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false },
    ...changes,
  };
}

const template = (before: boolean, after: boolean): object => ({
  type: 'TemplateProcessing',
  single: [
    ...(before ? [{ SpecialToken: { id: '<s>' } }] : []),
    { Sequence: { id: 'A' } },
    ...(after ? [{ SpecialToken: { id: '</s>' } }] : []),
  ],
  special_tokens: { '<s>': { ids: [520] }, '</s>': { ids: [521] } },
});

const pieces = [
  '<unk>',
  '<s>',
  '</s>',
  ...Array.from({ length: 256 }, (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`),
];
const letters = ['▁', 't', 'h', 'e', 'a', 'th', 'the', '▁the', '▁a'];
const mark = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
const prepended = { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, mark] };

function sentencePiece(changes: object = {}): Record<string, unknown> {
  const merges = [
    ['t', 'h'],
    ['th', 'e'],
    ['▁', 'the'],
    ['▁', 'a'],
  ];
  return {
    model: {
      type: 'BPE',
      vocab: Object.fromEntries([...pieces, ...letters].map((text, id) => [text, id])),
      merges,
      unk_token: '<unk>',
      fuse_unk: true,
      byte_fallback: true,
    },
    added_tokens: [special(0, '<unk>'), special(1, '<s>'), special(2, '</s>')],
    normalizer: mark,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
      ],
    },
    ...changes,
  };
}

async function converted(files: Readonly<Record<string, unknown>>): Promise<Map<string, GgufValue>> {
  const pairs = await ggufTokenizer(folder(files), size);
  return new Map<string, GgufValue>([
    ['general.architecture', 'llama'],
    ...[...pairs].map(([key, { value }]) => [key, value as GgufValue] as const),
  ]);
}

describe('converted to GGUF, the ids are those of the folder', () => {
  const config = { bos_token: '<s>', eos_token: '</s>' };
  test.each<[string, Record<string, unknown>, boolean, boolean, boolean | undefined]>([
    [
      'byte-level without bos',
      { 'tokenizer.json': byteLevel(), 'tokenizer_config.json': config },
      false,
      false,
      undefined,
    ],
    [
      'bos in the post-processor',
      {
        'tokenizer.json': byteLevel({ post_processor: template(true, false) }),
        'tokenizer_config.json': config,
      },
      true,
      false,
      undefined,
    ],
    [
      'bos and eos in the post-processor, no config',
      {
        'tokenizer.json': byteLevel({ post_processor: template(true, true) }),
        'tokenizer_config.json': { eos_token: '</s>' },
      },
      true,
      true,
      undefined,
    ],
    [
      'the flag before the post-processor',
      {
        'tokenizer.json': byteLevel({ post_processor: template(true, false) }),
        'tokenizer_config.json': { ...config, add_bos_token: false },
      },
      false,
      false,
      undefined,
    ],
    [
      'a special token of the config alone',
      {
        'tokenizer.json': byteLevel(),
        'tokenizer_config.json': { ...config, additional_special_tokens: ['<x>'] },
      },
      false,
      false,
      undefined,
    ],
    [
      'NFC, as Qwen has it',
      {
        'tokenizer.json': byteLevel({
          normalizer: { type: 'NFC' },
          pre_tokenizer: {
            type: 'Sequence',
            pretokenizers: [
              {
                type: 'Split',
                pattern: {
                  Regex:
                    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
                },
                behavior: 'Isolated',
              },
              { type: 'ByteLevel', use_regex: false },
            ],
          },
        }),
      },
      false,
      false,
      undefined,
    ],
    [
      'SentencePiece without bos',
      { 'tokenizer.json': sentencePiece(), 'tokenizer_config.json': config },
      false,
      false,
      false,
    ],
    [
      'SentencePiece with a space in front',
      {
        'tokenizer.json': sentencePiece({ normalizer: prepended }),
        'tokenizer_config.json': { ...config, add_bos_token: true },
      },
      true,
      false,
      true,
    ],
    [
      'Metaspace that never prepends',
      {
        'tokenizer.json': sentencePiece({
          normalizer: null,
          pre_tokenizer: { type: 'Metaspace', prepend_scheme: 'never', split: false },
        }),
      },
      false,
      false,
      false,
    ],
  ])('%s', async (_, files, bos, eos, space) => {
    const metadata = await converted(files);
    expect(metadata.get('tokenizer.ggml.add_bos_token')).toBe(bos);
    expect(metadata.get('tokenizer.ggml.add_eos_token')).toBe(eos);
    expect(metadata.get('tokenizer.ggml.add_space_prefix')).toBe(space);
    const before = (await safetensorsCheckpoint.text(folder(files))).makeTokenizer!();
    const after = tokenizerFromGguf(metadata);
    for (const text of ['', 'the the', ' a the', 'the<s>a</s> the<x>', 'cafe\u0301 12\n\n', '  é中']) {
      expect(after.encode(text)).toEqual(before.encode(text));
    }
  });
});

describe('what GGUF cannot say is refused with the reason', () => {
  test.each<[string, Record<string, unknown>, RegExp]>([
    [
      "NFC without Qwen's cutting",
      byteLevel({ normalizer: { type: 'NFC' } }),
      /pre_tokenizer: .*got another with NFC/,
    ],
    [
      'Lowercase',
      byteLevel({ normalizer: { type: 'Lowercase' } }),
      /normalizer: expected none or NFC, got Lowercase/,
    ],
    [
      'NFC of SentencePiece',
      sentencePiece({ normalizer: { type: 'Sequence', normalizers: [{ type: 'NFC' }, mark] } }),
      /got NFC, Replace/,
    ],
    [
      'a prefix space',
      byteLevel({ pre_tokenizer: { type: 'ByteLevel', add_prefix_space: true } }),
      /without add_prefix_space/,
    ],
    [
      'Metaspace first',
      sentencePiece({ normalizer: null, pre_tokenizer: { type: 'Metaspace', prepend_scheme: 'first' } }),
      /got first/,
    ],
    [
      'Metaspace always',
      sentencePiece({ normalizer: null, pre_tokenizer: { type: 'Metaspace', prepend_scheme: 'always' } }),
      /got always/,
    ],
    [
      'two tokens in front',
      byteLevel({ post_processor: { type: 'BertProcessing', cls: ['<s>', 520], sep: ['<s>', 520] } }),
      /expected eos/,
    ],
    [
      'a token that swallows spaces',
      byteLevel({ added_tokens: [special(520, '<s>', { rstrip: true })] }),
      /rstrip.*"<s>"/,
    ],
    [
      'merges in another order',
      sentencePiece({
        model: {
          ...(sentencePiece().model as object),
          merges: [
            ['▁', 'a'],
            ['t', 'h'],
          ],
        },
      }),
      /merges in the order/,
    ],
  ])('%s', async (_, json, message) => {
    await expect(converted({ 'tokenizer.json': json })).rejects.toThrow(message);
  });
});

test('the unknown token that only the model names is not taken to be token 0', async () => {
  const base = sentencePiece() as { model: { vocab: Record<string, number> } };
  const texts = Object.keys(base.model.vocab).filter((text) => text !== 'a' && text !== '<unk>');
  const vocab = Object.fromEntries(['a', ...texts, '<unk>'].map((text, id) => [text, id]));
  const json = sentencePiece({
    model: { ...base.model, vocab },
    added_tokens: [special(vocab['<s>'], '<s>'), special(vocab['</s>'], '</s>')],
  });
  const files = { 'tokenizer.json': json, 'tokenizer_config.json': {} };
  const header = await converted(files);
  expect(header.get('tokenizer.ggml.unknown_token_id')).toBe(vocab['<unk>']);
  const { makeTokenizer: made } = await safetensorsCheckpoint.text(folder(files));
  const bare = { addSpecialTokens: false };
  expect(tokenizerFromGguf(header).encode('the tea', bare)).toEqual(made?.().encode('the tea', bare));
});

test('a character-level tokenizer becomes a byte-level one with the same ids', async () => {
  const text = 'Call me Ishmael — some\n“years” ago! Œ';
  const own = characterTokenizer(text);
  const files = await (own as WritableTokenizer).files();
  const utf8 = new TextDecoder();
  const header = await converted(
    Object.fromEntries([...files].map(([name, bytes]) => [name, JSON.parse(utf8.decode(bytes))])),
  );
  const tokenizer = tokenizerFromGguf(header);
  expect(tokenizer.encode(text)).toEqual(own.encode(text));
  expect(tokenizer.decode(own.encode(text))).toBe(text);
});
