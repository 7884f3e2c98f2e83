/**
 * Ids and texts of small tokenizer.json files, one for each component and option, against Rust `tokenizers`.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { tokenizerFromJson } from '../../src/text/tokenizer.ts';
import type { AddedTokenJson, ModelJson, Step, TokenizerJson } from '../../src/text/tokenizer-json.ts';

interface Golden {
  readonly texts: readonly string[];
  readonly models: Readonly<Record<string, ModelJson>>;
  readonly added_tokens: readonly AddedTokenJson[][];
  readonly normalizers: readonly (Step | null)[];
  readonly pre_tokenizers: readonly (Step | null)[];
  readonly post_processors: readonly (Step | null)[];
  readonly decoders: readonly (Step | null)[];
  readonly cases: readonly {
    readonly model: string;
    /** Places in the five lists above. */
    readonly parts: readonly [number, number, number, number, number];
    /** Place of the text, its ids, their text, their text without special tokens. */
    readonly rows: readonly (readonly [number, number[], string, string])[];
  }[];
}

const path =
  process.env.GQA_PIPELINES ?? fileURLToPath(new URL('../golden/tokenizers/pipelines.json', import.meta.url));
const golden = JSON.parse(readFileSync(path, 'utf8')) as Golden;

const cases = golden.cases.map(({ model, parts, rows }) => {
  const [added, normalizer, preTokenizer, postProcessor, decoder] = parts;
  const json: TokenizerJson = {
    model: golden.models[model],
    added_tokens: golden.added_tokens[added],
    normalizer: golden.normalizers[normalizer],
    pre_tokenizer: golden.pre_tokenizers[preTokenizer],
    post_processor: golden.post_processors[postProcessor],
    decoder: golden.decoders[decoder],
  };
  const { normalizer: n, pre_tokenizer: p, post_processor: o, decoder: d } = json;
  const name = [
    model,
    `added ${added}`,
    ...[n, p, o, d].map((step) => JSON.stringify(step).slice(0, 120)),
  ].join(' ');
  return { name, json, rows };
});

describe('tokenizer.json of each component gives the ids and texts of the Rust library', () => {
  test.each(cases)('$name', ({ json, rows }) => {
    const tokenizer = tokenizerFromJson(json);
    const got = rows.map(([text]) => {
      const ids = tokenizer.encode(golden.texts[text]);
      return [text, ids, tokenizer.decode(ids), tokenizer.decode(ids, { skipSpecialTokens: true })];
    });
    expect(got).toEqual(rows);
  });
});
