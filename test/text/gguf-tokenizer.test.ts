/** Tokenizers from GGUF headers with small vocabularies, against SentencePiece and Rust `tokenizers`. */
import { describe, expect, test } from 'vitest';
import { tokenizerFromGguf } from '../../src/text/tokenizer.ts';
import { byteLevelFixture, sentencePieceFixture } from './fixtures.ts';

describe('SentencePiece vocabulary', () => {
  const { metadata, cases } = sentencePieceFixture();
  const tokenizer = tokenizerFromGguf(metadata);

  test.each(cases)('$text', ({ text, ids, decoded }) => {
    expect(tokenizer.encode(text)).toEqual(ids);
    expect(tokenizer.decode(ids)).toBe(decoded);
  });

  test('takes linear time on a long text', () => {
    const text = 'the lighthouse keeper, '.repeat(10_000);
    const start = process.cpuUsage();
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    // 80 ms where this was written; several seconds without the cut at word starts.
    expect(process.cpuUsage(start).user / 1000).toBeLessThan(2000);
  });

  test('begins with bos and a space unless the header says otherwise', () => {
    const header = new Map(metadata);
    header.delete('tokenizer.ggml.add_bos_token');
    const withBos = tokenizerFromGguf(header);
    expect(withBos.encode('a')).toEqual([1, ...tokenizer.encode('a')]);
    expect(withBos.encode('a', { addSpecialTokens: false })).toEqual(tokenizer.encode('a'));
    expect(withBos.bosTokenId).toBe(1);
    expect(withBos.eosTokenIds).toEqual([2]);
    header.set('tokenizer.ggml.add_space_prefix', false);
    expect(tokenizerFromGguf(header).decode(tokenizerFromGguf(header).encode(' a'))).toBe('<s> a');
    expect(tokenizerFromGguf(header).encode(' a')).toEqual(withBos.encode('a'));
  });

  test('special tokens in the text are recognised, and a word behind one starts anew', () => {
    expect(tokenizer.encode('<s>the</s>the')).toEqual([
      1,
      ...tokenizer.encode('the'),
      2,
      ...tokenizer.encode('the'),
    ]);
  });
});

describe.each([
  'gpt-2',
  'smollm',
  'starcoder',
  'refact',
  'llama-bpe',
  'dbrx',
  'qwen2',
  'tekken',
  'gpt-4o',
  'deepseek-v3',
])('byte-level vocabulary cut as %s', (pre) => {
  const { metadata, cases } = byteLevelFixture(pre);
  const tokenizer = tokenizerFromGguf(metadata);

  test.each(cases)('$text', ({ text, ids }) => {
    expect(tokenizer.encode(text)).toEqual(ids[pre]);
    expect(tokenizer.decode(ids[pre])).toBe(pre === 'qwen2' ? text.normalize('NFC') : text);
  });
});

describe('GGUF header', () => {
  test('added tokens: control ones are special, user-defined ones are not', () => {
    const { metadata } = byteLevelFixture('gpt-2');
    const tokens = [
      ...(metadata.get('tokenizer.ggml.tokens') as string[]),
      '<|im_start|>',
      '<|im_end|>',
      '<think>',
    ];
    const n = tokens.length;
    const types = new Int32Array(n).fill(1);
    types.set([3, 3, 4], n - 3);
    metadata.set('tokenizer.ggml.tokens', tokens);
    metadata.set('tokenizer.ggml.token_type', types);
    metadata.set('tokenizer.ggml.bos_token_id', n - 3);
    metadata.set('tokenizer.ggml.add_bos_token', true);
    metadata.set('tokenizer.ggml.add_eos_token', true);
    metadata.set('tokenizer.ggml.eos_token_id', n - 2);
    const tokenizer = tokenizerFromGguf(metadata);
    expect(tokenizer.encode('<think>')).toEqual([n - 3, n - 1, n - 2]);
    expect(tokenizer.decode([n - 3, n - 1, n - 2])).toBe('<|im_start|><think><|im_end|>');
    expect(tokenizer.decode([n - 3, n - 1, n - 2], { skipSpecialTokens: true })).toBe('<think>');
    expect(tokenizer.eosTokenIds).toEqual([n - 2]);
    expect(tokenizer.bosTokenId).toBe(n - 3);
  });

  test('a token that is control by its text is one token, whatever its type', () => {
    const { metadata } = byteLevelFixture('gpt-2');
    const tokens = [
      ...(metadata.get('tokenizer.ggml.tokens') as string[]),
      '<|im_end|>',
      '<|fim_prefix|>',
      '<|other|>',
    ];
    const n = tokens.length;
    metadata.set('tokenizer.ggml.tokens', tokens);
    for (const types of [undefined, new Int32Array(n).fill(1)]) {
      if (types === undefined) metadata.delete('tokenizer.ggml.token_type');
      else metadata.set('tokenizer.ggml.token_type', types);
      const tokenizer = tokenizerFromGguf(metadata);
      expect(tokenizer.encode('<|im_end|><|fim_prefix|>')).toEqual([n - 3, n - 2]);
      expect(tokenizer.isSpecial(n - 3)).toBe(true);
      expect(tokenizer.encode('<|other|>').length).toBeGreaterThan(3);
    }
  });

  test('the ends of a turn end a generation, but not the end of a message of gpt-oss', () => {
    const { metadata } = byteLevelFixture('gpt-4o');
    const tokens = [
      ...(metadata.get('tokenizer.ggml.tokens') as string[]),
      '<|end|>',
      '<|return|>',
      '<|call|>',
    ];
    const n = tokens.length;
    const types = new Int32Array(n).fill(1);
    types.fill(3, n - 3);
    metadata.set('tokenizer.ggml.tokens', tokens);
    metadata.set('tokenizer.ggml.token_type', types);
    expect(tokenizerFromGguf(metadata).eosTokenIds).toEqual([n - 2, n - 1]);
    metadata.set('tokenizer.ggml.tokens', [...tokens.slice(0, -1), '<|eot_id|>']);
    expect(tokenizerFromGguf(metadata).eosTokenIds).toEqual([n - 3, n - 2, n - 1]);
  });

  test('the chat template of the header is used', () => {
    const { metadata } = byteLevelFixture('gpt-2');
    expect(() => tokenizerFromGguf(metadata).applyChatTemplate([])).toThrow('with a chat template');
    metadata.set(
      'tokenizer.chat_template',
      '{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ bos_token }}',
    );
    metadata.set('tokenizer.ggml.bos_token_id', 3);
    const tokenizer = tokenizerFromGguf(metadata);
    expect(tokenizer.applyChatTemplate([{ role: 'user', content: 'hi' }])).toBe('user: hi\n$');
    metadata.set('tokenizer.chat_templates', ['tool_use']);
    metadata.set('tokenizer.chat_template.tool_use', 'tools: {{ tools|length }}');
    const several = tokenizerFromGguf(metadata);
    expect([...several.chatTemplates.keys()]).toEqual(['default', 'tool_use']);
    expect(several.applyChatTemplate([{ role: 'user', content: 'hi' }], { tools: [{}] })).toBe('tools: 1');
  });

  test.each([
    ['tokenizer.ggml.pre', 'klingon', "tokenizer.ggml.pre to be one of default, gpt-2, .*, got 'klingon'"],
    ['tokenizer.ggml.model', 't5', "tokenizer.ggml.model to be 'gpt2' or 'llama', got 't5'"],
    ['tokenizer.ggml.model', undefined, 'a tokenizer.ggml.model in the GGUF header, got none'],
    ['tokenizer.ggml.tokens', undefined, 'tokenizer.ggml.tokens to be an array of strings, got none'],
    ['tokenizer.ggml.merges', ['ab'], 'merges to be \'left right\', got "ab"'],
    ['tokenizer.ggml.bos_token_id', 'one', 'tokenizer.ggml.bos_token_id to be a token id, got "one"'],
    ['tokenizer.ggml.add_bos_token', 1, 'tokenizer.ggml.add_bos_token to be true or false, got 1'],
  ])('%s = %j is refused by name', (key, value, message) => {
    const { metadata } = byteLevelFixture('gpt-2');
    if (value === undefined) metadata.delete(key);
    else metadata.set(key, value);
    expect(() => tokenizerFromGguf(metadata)).toThrow(new RegExp(`^tokenizer: expected .*${message}`));
  });

  test('scores too short for the vocabulary are refused', () => {
    const { metadata } = sentencePieceFixture();
    metadata.set('tokenizer.ggml.scores', new Float32Array(3));
    expect(() => tokenizerFromGguf(metadata)).toThrow('tokenizer.ggml.scores to have 480 values, got 3');
  });
});
