/** Tokenizers of GGUF headers written as Hugging Face files, read again: the same ids and texts. */
import { expect, test } from 'vitest';
import { encodeTokenizerFiles, type TokenizerFiles } from '../../src/text/encode-tokenizer-files.ts';
import { tokenizerFilesFromGguf } from '../../src/text/gguf-tokenizer.ts';
import { tokenizerFromGguf, tokenizerFromJson } from '../../src/text/tokenizer.ts';
import { byteLevelFixture, sentencePieceFixture } from './fixtures.ts';

const TEXTS = [
  '',
  'hello world',
  ' hello  hello',
  'héllo\n😀',
  'low lower newest',
  '<s>hello</s>',
  'a'.repeat(9),
];

function parsed(files: TokenizerFiles, name: string) {
  return JSON.parse(new TextDecoder().decode(files.get(name)));
}

test.each([
  ['byte-level', () => byteLevelFixture('gpt-2')],
  ['SentencePiece, whose merges follow from scores', sentencePieceFixture],
])('%s', (_, fixture) => {
  const { metadata: own, cases } = fixture();
  const metadata = new Map([...own, ['tokenizer.ggml.add_bos_token', true]] as const);
  const texts = [...TEXTS, ...cases.map(({ text }) => text)];
  const { json, config } = tokenizerFilesFromGguf(metadata);
  const files = encodeTokenizerFiles(json, config);
  const was = tokenizerFromGguf(metadata);
  const read = parsed(files, 'tokenizer.json');
  const is = tokenizerFromJson(read, parsed(files, 'tokenizer_config.json'));
  for (const text of texts) {
    for (const addSpecialTokens of [true, false]) {
      const ids = was.encode(text, { addSpecialTokens });
      expect(is.encode(text, { addSpecialTokens }), JSON.stringify(text)).toEqual(ids);
      expect(is.decode(ids)).toBe(was.decode(ids));
    }
  }
  expect(read.model.merges.length).toBeGreaterThan(0);
  expect(is.bosTokenId).toBe(was.bosTokenId);
});

test('chat templates are files of their own', () => {
  const templates = [
    { name: 'default', template: '{{ 1 }}' },
    { name: 'tool_use', template: '{{ 2 }}' },
  ];
  const { json } = tokenizerFilesFromGguf(byteLevelFixture('gpt-2').metadata);
  const files = encodeTokenizerFiles(json, { chat_template: templates, pad_token: null });
  expect([...files.keys()]).toEqual([
    'tokenizer.json',
    'tokenizer_config.json',
    'chat_template.jinja',
    'additional_chat_templates/tool_use.jinja',
  ]);
  expect(parsed(files, 'tokenizer_config.json')).not.toHaveProperty('pad_token');
  expect(new TextDecoder().decode(files.get('chat_template.jinja'))).toBe('{{ 1 }}');
});
