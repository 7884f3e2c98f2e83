/** Streamed text equals the text decoded at once, for any ids; random ids are mostly invalid UTF-8. */
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { StreamingDecoder } from '../../src/text/streaming-decoder.ts';
import { type DecodeOptions, type Tokenizer, tokenizerFromGguf } from '../../src/text/tokenizer.ts';
import { byteLevelFixture, modelMetadata, noModel, sentencePieceFixture } from './fixtures.ts';

function stream(tokenizer: Tokenizer, ids: readonly number[], options?: DecodeOptions): string[] {
  const decoder = new StreamingDecoder(tokenizer, options);
  return [...ids.map((id) => decoder.push(id)), decoder.flush()];
}

const text = fc.string({ unit: 'binary', maxLength: 60 });

describe.each([
  ['byte-level', async () => tokenizerFromGguf(byteLevelFixture('gpt-2').metadata)],
  ['SentencePiece', async () => tokenizerFromGguf(sentencePieceFixture().metadata)],
  ['SmolLM2', async () => (noModel === undefined ? tokenizerFromGguf(await modelMetadata()) : undefined)],
] as const)('streaming: %s', (_, make) => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    const made = await make();
    if (made !== undefined) tokenizer = made;
  });

  test('random ids', (context) => {
    if (tokenizer === undefined) context.skip(noModel);
    const id = fc.integer({ min: 0, max: tokenizer.vocabSize + 3 });
    // The lowest ids hold the special tokens and the single bytes.
    const ids = fc.array(fc.oneof(id, fc.integer({ min: 0, max: 300 })), { maxLength: 40 });
    fc.assert(
      fc.property(ids, fc.boolean(), (list, skipSpecialTokens) => {
        expect(stream(tokenizer, list, { skipSpecialTokens }).join('')).toBe(
          tokenizer.decode(list, { skipSpecialTokens }),
        );
      }),
      { numRuns: 1000 },
    );
  });

  test('random texts, also cut off inside a character', (context) => {
    if (tokenizer === undefined) context.skip(noModel);
    fc.assert(
      fc.property(text, fc.nat(60), (sample, length) => {
        const ids = tokenizer.encode(sample);
        expect(stream(tokenizer, ids).join('')).toBe(tokenizer.decode(ids));
        const cut = ids.slice(0, length);
        expect(stream(tokenizer, cut).join('')).toBe(tokenizer.decode(cut));
      }),
      { numRuns: 500 },
    );
  });

  test('a character comes whole, and comes when it is there', (context) => {
    if (tokenizer === undefined) context.skip(noModel);
    const sample = '😀 the 灯台 𝒜!';
    const pieces = stream(tokenizer, tokenizer.encode(sample));
    expect(pieces.join('')).toBe(sample);
    expect(pieces.filter((piece) => piece.includes('\uFFFD'))).toEqual([]);
    expect(pieces.at(-1)).toBe('');
  });

  test('a text of replacement characters is not held back for ever', (context) => {
    if (tokenizer === undefined) context.skip(noModel);
    const ids = tokenizer.encode('\uFFFD'.repeat(50));
    const pieces = stream(tokenizer, ids);
    expect(pieces.join('')).toBe('\uFFFD'.repeat(50));
    expect(pieces.at(-1)!.length).toBeLessThanOrEqual(1);
  });
});
