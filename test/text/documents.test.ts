/**
 * How documents begin according to a tokenizer's files, and windows in which every token is predicted once.
 */
import { describe, expect, test } from 'vitest';
import { characterTokenizer, characterTokenizerJson } from '../../src/text/character-tokenizer.ts';
import { documentStart, documentWindows } from '../../src/text/documents.ts';
import { type TokenizerConfigJson, tokenizerFromGguf, tokenizerFromJson } from '../../src/text/tokenizer.ts';
import { byteLevelFixture, sentencePieceFixture } from './fixtures.ts';

/** A tokenizer of characters with three tokens around texts. */
function surrounded(single: readonly string[], config: TokenizerConfigJson = {}) {
  const json = characterTokenizerJson('xyz');
  const added = ['<s>', '</s>', '[gMASK]'].map((content, i) => ({ id: 3 + i, content, special: true }));
  const piece = (id: string) =>
    id === '$A' ? { Sequence: { id: 'A', type_id: 0 } } : { SpecialToken: { id, type_id: 0 } };
  const special = Object.fromEntries(
    added.map(({ id, content }) => [content, { id: content, ids: [id], tokens: [content] }]),
  );
  const pieces = single.map(piece);
  return tokenizerFromJson(
    {
      ...json,
      added_tokens: added,
      post_processor: {
        ...{ type: 'TemplateProcessing', single: pieces, pair: pieces },
        special_tokens: special,
      },
    },
    { bos_token: '<s>', eos_token: '</s>', ...config },
  );
}

describe('documentStart', () => {
  test.each<[string, string[], number[]]>([
    ['nothing', ['$A'], []],
    ['bos (Llama 3, Gemma)', ['<s>', '$A'], [3]],
    ['eos behind a text is left off', ['<s>', '$A', '</s>'], [3]],
    ['only eos', ['$A', '</s>'], []],
    ['the same token on both sides', ['<s>', '$A', '<s>'], [3]],
    ['two tokens (GLM)', ['[gMASK]', '<s>', '$A'], [5, 3]],
  ])('of a template with %s', (_, single, want) => {
    expect(documentStart(surrounded(single))).toEqual(want);
  });

  test('of a tokenizer of characters: nothing', () => {
    expect(documentStart(characterTokenizer('hello'))).toEqual([]);
  });

  // The defaults where a header has no add_bos_token: llama.cpp 0c1e570, src/llama-vocab.cpp.
  test.each([
    ['llama-bpe', true],
    ['tekken', true],
    ['gpt-2', false],
    ['smollm', false],
    ['qwen2', false],
    ['starcoder', false],
    ['falcon', false],
    ['gpt-4o', false],
  ] as const)('of a GGUF header with the pre-tokenizer %s', (pre, adds) => {
    const { metadata } = byteLevelFixture('gpt-2');
    metadata.set('tokenizer.ggml.pre', pre);
    metadata.delete('tokenizer.ggml.add_bos_token');
    metadata.set('tokenizer.ggml.bos_token_id', 5);
    expect(documentStart(tokenizerFromGguf(metadata))).toEqual(adds ? [5] : []);
    metadata.set('tokenizer.ggml.add_bos_token', !adds);
    expect(documentStart(tokenizerFromGguf(metadata))).toEqual(adds ? [] : [5]);
  });

  test('of SentencePiece: bos, unless the header says otherwise', () => {
    const { metadata } = sentencePieceFixture();
    expect(documentStart(tokenizerFromGguf(metadata))).toEqual([]);
    metadata.delete('tokenizer.ggml.add_bos_token');
    expect(documentStart(tokenizerFromGguf(metadata))).toEqual([1]);
    metadata.set('tokenizer.ggml.add_eos_token', true);
    expect(documentStart(tokenizerFromGguf(metadata))).toEqual([1]);
  });
});

describe('documentWindows', () => {
  const tokens = [10, 11, 12, 13, 14, 15];

  test('without a start share a token', () => {
    expect(documentWindows(tokens, [], 3)).toEqual([
      [10, 11, 12],
      [12, 13, 14],
      [14, 15],
    ]);
  });

  test('with one predict every token, the first too', () => {
    expect(documentWindows(tokens, [1], 3)).toEqual([
      [1, 10, 11],
      [1, 12, 13],
      [1, 14, 15],
    ]);
    expect(documentWindows(Int32Array.from(tokens), [1, 2], 6)).toEqual([
      [1, 2, 10, 11, 12, 13],
      [1, 2, 14, 15],
    ]);
  });

  test('of a length without room for a token are refused', () => {
    expect(() => documentWindows(tokens, [1], 1)).toThrow(
      new RangeError('expected windows of more than 1 tokens (1 of them start tokens), got 1'),
    );
    expect(() => documentWindows(tokens, [], 1)).toThrow(RangeError);
    expect(documentWindows([], [1], 4)).toEqual([]);
    expect(documentWindows([5], [], 4)).toEqual([]);
  });
});
