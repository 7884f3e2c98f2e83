/**
 * How texts are split under each name of `tokenizer.ggml.pre`, against llama.cpp's own code; where that only
 * approximates the family's tokenizer.json, against Rust `tokenizers`.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { preTokenizerRecipe } from '../../src/text/gguf-pre-tokenizers.ts';
import { preTokenizerOf } from '../../src/text/pre-tokenizers.ts';

const golden = JSON.parse(
  readFileSync(fileURLToPath(new URL('../golden/tokenizers/pre-tokenizers.json', import.meta.url)), 'utf8'),
) as {
  texts: string[];
  names: Record<string, string>;
  not_byte_level: string[];
  /** By way of cutting: the words of each text, a letter for each byte. */
  words: Record<string, string[][]>;
};

function cut(name: string, text: string): readonly string[] {
  const splits = preTokenizerRecipe(name).splits.map((regex) => ({
    type: 'Split',
    pattern: { Regex: regex },
  }));
  const bytes = { type: 'ByteLevel', use_regex: false };
  const words = preTokenizerOf({ type: 'Sequence', pretokenizers: [...splits, bytes] });
  return words!({ texts: [text], atStart: true }).texts;
}

describe.each(Object.entries(golden.names))('%s', (name, kind) => {
  test.each(golden.texts.map((text, i) => [text, golden.words[kind][i]] as const))('%j', (text, words) => {
    expect(cut(name, text)).toEqual(words);
  });
});

test.each(golden.not_byte_level)('%s is refused, since its vocabulary is not byte-level', (name) => {
  expect(() => preTokenizerRecipe(name)).toThrow(`a byte-level vocabulary, got '${name}'`);
});
