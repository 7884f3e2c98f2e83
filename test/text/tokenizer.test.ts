/** Tokenizers from tokenizer.json and tokenizer_config.json, and the contract of every tokenizer. */
import { describe, expect, test } from 'vitest';
import { tokenizerFilesFromGguf } from '../../src/text/gguf-tokenizer.ts';
import { type TokenizerConfigJson, type TokenizerJson, tokenizerFromJson } from '../../src/text/tokenizer.ts';
import { byteLevelFixture, sentencePieceFixture } from './fixtures.ts';

const digitsThenGpt2 = {
  type: 'Sequence',
  pretokenizers: [
    { type: 'Digits', individual_digits: true },
    { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
  ],
};

/** A byte-level tokenizer.json as Hugging Face writes them, with two special tokens at its end. */
function byteLevelJson(changes: Partial<TokenizerJson> = {}): TokenizerJson {
  const { json } = tokenizerFilesFromGguf(byteLevelFixture('gpt-2').metadata);
  const n = Object.keys(json.model.vocab).length;
  const added_tokens = ['<s>', '</s>'].map((content, i) => ({
    id: n + i,
    content,
    special: true,
    normalized: false,
  }));
  return { ...json, added_tokens, pre_tokenizer: digitsThenGpt2, ...changes };
}

const bos = 520;
const eos = 521;

describe('tokenizer.json', () => {
  test.each(byteLevelFixture('smollm').cases)('Digits and ByteLevel on $text', ({ text, ids }) => {
    expect(tokenizerFromJson(byteLevelJson()).encode(text)).toEqual(ids.smollm);
  });

  test.each(byteLevelFixture('gpt-2').cases)('ByteLevel on $text', ({ text, ids }) => {
    const [, byteLevel] = digitsThenGpt2.pretokenizers;
    expect(tokenizerFromJson(byteLevelJson({ pre_tokenizer: byteLevel })).encode(text)).toEqual(ids['gpt-2']);
  });

  test('ByteLevel with a prefix space puts one in front of a text that has none', () => {
    const prefixed = { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true };
    const tokenizer = tokenizerFromJson(byteLevelJson({ pre_tokenizer: prefixed }));
    for (const text of ['hello', '\n', '𝒜𐍈', '😀'])
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(` ${text}`);
    expect(tokenizer.decode(tokenizer.encode(' hello'))).toBe(' hello');
    expect(tokenizer.encode('')).toEqual([]);
  });

  test('add_bos_token and add_eos_token go before the post-processor of the file', () => {
    const template = {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [],
      special_tokens: { '<s>': { id: '<s>', ids: [bos], tokens: ['<s>'] } },
    };
    const json = byteLevelJson({ post_processor: template });
    const encode = (config: TokenizerConfigJson): number[] =>
      tokenizerFromJson(json, {
        bos_token: '<s>',
        eos_token: { content: '</s>', lstrip: false },
        ...config,
      }).encode('a');
    const [a] = tokenizerFromJson(byteLevelJson()).encode('a');
    expect(encode({})).toEqual([bos, a]);
    expect(encode({ add_bos_token: null })).toEqual([bos, a]);
    expect(encode({ add_bos_token: false })).toEqual([a]);
    expect(encode({ add_bos_token: true, add_eos_token: true })).toEqual([bos, a, eos]);
    expect(tokenizerFromJson(json).encode('a', { addSpecialTokens: false })).toEqual([a]);
  });

  test('special tokens that only the config lists are special', () => {
    const config: TokenizerConfigJson = {
      eos_token: '<|end|>',
      added_tokens_decoder: { 522: { content: '<|end|>', special: true, normalized: false } },
    };
    const tokenizer = tokenizerFromJson(byteLevelJson(), config, { eosTokenIds: [eos, 522] });
    expect(tokenizer.encode('<|end|>')).toEqual([522]);
    expect(tokenizer.vocabSize).toBe(523);
    expect(tokenizer.eosTokenIds).toEqual([522, eos]);
    expect(tokenizer.isSpecial(522)).toBe(true);
  });

  test('the template of the config is the default one, and a template file goes before it', () => {
    const messages = [{ role: 'user', content: 'hi' }];
    const named = [
      { name: 'tool_use', template: 'tools' },
      {
        name: 'default',
        template: '{{ messages[0].content }}{% if add_generation_prompt %}>{% endif %}{{ thinking }}',
      },
    ];
    const json = byteLevelJson();
    expect(tokenizerFromJson(json, { chat_template: named }).applyChatTemplate(messages)).toBe('hi');
    const tokenizer = tokenizerFromJson(json, { chat_template: named });
    expect(
      tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true, variables: { thinking: '!' } }),
    ).toBe('hi>!');
    const extras = { chatTemplate: '{{ raise_exception("roles must alternate") }}' };
    const refusing = tokenizerFromJson(json, { chat_template: 'x' }, extras);
    expect(() => refusing.applyChatTemplate(messages)).toThrow('roles must alternate');
    expect(tokenizerFromJson(json).chatTemplate).toBeUndefined();
    expect(tokenizerFromJson(json, { chat_template: named }).applyChatTemplate(messages, { tools: [] })).toBe(
      'tools',
    );
    const files = { additionalChatTemplates: new Map([['tool_use', 'of a file']]) };
    const own = tokenizerFromJson(json, { chat_template: named }, files);
    expect([own.chatTemplate, [...own.chatTemplates]]).toEqual([undefined, [['tool_use', 'of a file']]]);
  });

  test('Metaspace that splits starts a piece at every space', () => {
    const { json } = tokenizerFilesFromGguf(sentencePieceFixture().metadata);
    const metaspace = { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' };
    const split = tokenizerFromJson({ ...json, normalizer: null, pre_tokenizer: metaspace });
    const whole = tokenizerFromJson({
      ...json,
      normalizer: null,
      pre_tokenizer: { ...metaspace, split: false },
    });
    expect(whole.encode('the   oil').length).toBeLessThan(split.encode('the   oil').length);
    expect(split.decode(split.encode('the   oil'))).toBe('the   oil');
  });
});

describe.each([
  ['byte-level', tokenizerFromJson(byteLevelJson())],
  ['SentencePiece', tokenizerFromJson(tokenizerFilesFromGguf(sentencePieceFixture().metadata).json)],
])('every tokenizer: %s', (_, tokenizer) => {
  test('no ids have no text, and ids outside the vocabulary none either', () => {
    expect(tokenizer.decode([])).toBe('');
    expect(tokenizer.decode([tokenizer.vocabSize, 1_000_000, -1])).toBe('');
    const [a] = tokenizer.encode('a');
    expect(tokenizer.decode([a, 1_000_000])).toBe('a');
    expect(tokenizer.encode('')).toEqual([]);
  });

  test('a byte order mark and the end of a text are kept', () => {
    for (const text of ['\ufeffa', 'a\ufeff', 'a\n', 'a .', "n't 's"]) {
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    }
  });

  test('what is not a string is refused', () => {
    expect(() => tokenizer.encode(3 as unknown as string)).toThrow(TypeError);
  });
});
