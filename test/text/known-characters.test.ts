/**
 * A character tokenizer reports the characters of a text that it lacks, and their number, instead of dropping
 * them.
 */
import { describe, expect, test } from 'vitest';
import { characterTokenizer, characterTokenizerJson } from '../../src/text/character-tokenizer.ts';
import { type TokenizerJson, tokenizerFromJson } from '../../src/text/tokenizer.ts';

const made = characterTokenizer('abc😀 ');
const saved = characterTokenizerJson('abc😀 ');
const added = { id: 5, content: '<s>', special: true };
const withAdded = tokenizerFromJson({ ...saved, added_tokens: [added] });

describe.each([
  ['the tokenizer', (text: string) => made.encode(text)],
  ['one read from its file', (text: string) => tokenizerFromJson(saved).encode(text)],
  ['one with another token, which takes the general way', (text: string) => withAdded.encode(text)],
])('%s', (_, encode) => {
  test('encodes what it has', () => {
    expect(encode('a cab 😀')).toEqual([1, 0, 3, 1, 2, 0, 4]);
    expect(encode('')).toEqual([]);
  });

  test('refuses what it lacks, with the characters and their number', () => {
    expect(() => encode('aébé😃')).toThrow(
      new RangeError(
        'encode: expected characters of the vocabulary (5 characters), got 3 characters without a token: "é" (2), "😃" (1)',
      ),
    );
    expect(() => encode('a\nb')).toThrow('got 1 character without a token: "\\n" (1)');
    expect(() => encode('0123456789')).toThrow(
      /got 10 characters without a token: "0" \(1\).* and 2 others$/,
    );
  });
});

test('they can be counted before', () => {
  expect([...made.unknownCharacters('aébé😃')]).toEqual([
    ['é', 2],
    ['😃', 1],
  ]);
  expect(made.unknownCharacters('abc').size).toBe(0);
});

test('tokens that were added are no unknown characters', () => {
  expect(withAdded.encode('<s>ab')).toEqual([5, 1, 2]);
  expect(() => withAdded.encode('<s>a<b')).toThrow('got 1 character without a token: "<" (1)');
});

test('tokenizers that can write any text take any text', () => {
  const unknown = { id: 5, content: '?', special: true };
  const model = { ...saved.model, unk_token: '?', vocab: { ...saved.model.vocab, '?': 5 } };
  const tokenizer = tokenizerFromJson({ ...saved, model, added_tokens: [unknown] } as TokenizerJson);
  expect(tokenizer.encode('aé')).toEqual([1, 5]);
});

test('its file gives the same texts and ids', () => {
  const read = tokenizerFromJson(saved);
  expect(made.vocabSize).toBe(read.vocabSize);
  for (const ids of [[1, 0, 3, 4], [], [99, 2]]) expect(made.decode(ids)).toBe(read.decode(ids));
  expect(() => made.decode('ab' as never)).toThrow(TypeError);
  expect(() => characterTokenizer('')).toThrow('characterTokenizer: expected a text, got an empty one');
});
