/** Speculation changes the number of passes and nothing else: greedy tokens, and the distribution of drawn ones. */

import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chooseToken } from '../../../src/models/generation/choose-token.ts';
import { lookUp } from '../../../src/models/generation/propose.ts';
import { randomSource } from '../../../src/models/generation/random-source.ts';
import { type GenerateOptions, generateBatch, loadModel, type Model } from '../../../src/models/index.ts';
import { BACKENDS, collect, GOLDEN, loadTiny } from '../golden.ts';

const backend = BACKENDS.includes('wasm') ? 'wasm' : 'reference';

test('prompt lookup finds the latest occurrence of the longest run', () => {
  expect(lookUp([1, 2, 3, 4, 9, 2, 3, 4], 3)).toEqual([9, 2, 3]);
  expect(lookUp([1, 2, 3, 8, 2, 3, 9, 2, 3], 2)).toEqual([9, 2]);
  // Two in a row win over a later single one.
  expect(lookUp([5, 6, 7, 6, 1, 5, 6], 1)).toEqual([7]);
  expect(lookUp([4, 4, 4], 5)).toEqual([4]);
  expect(lookUp([1, 2, 3], 5)).toEqual([]);
  expect(lookUp([1], 5)).toEqual([]);
  expect(lookUp([1, 1], 0)).toEqual([]);
});

/** A chi-square test: 7 degrees of freedom exceed 24.3 once in 1,000 times. */
test('a proposed token is accepted so that the distribution stays', () => {
  const scores = Float32Array.of(0.3, 1.7, -0.4, 0.9, -Infinity, 1.1, 0, -1, 0.5);
  const proposed = Float32Array.of(1.2, 0.1, 0.8, -Infinity, 1, 0.2, -0.5, 1.4, 0.5);
  const total = scores.reduce((sum, value) => sum + Math.exp(value), 0);
  const random = randomSource(3);
  const counts = new Array<number>(scores.length).fill(0);
  const draws = 40_000;
  let accepted = 0;
  for (let i = 0; i < draws; i++) {
    const token = chooseToken(proposed, 1, random);
    const chosen = chooseToken(scores, 1, random, { token, scores: proposed });
    if (chosen === token) accepted++;
    counts[chosen]++;
  }
  const statistic = counts.reduce((sum, count, id) => {
    const expected = (Math.exp(scores[id]) / total) * draws;
    return expected === 0 ? sum : sum + (count - expected) ** 2 / expected;
  }, 0);
  expect(counts[4]).toBe(0);
  expect(statistic).toBeLessThan(24.3);
  // The sum of min(p, q).
  const other = proposed.reduce((sum, value) => sum + Math.exp(value), 0);
  const overlap = scores.reduce(
    (sum, value, id) => sum + Math.min(Math.exp(value) / total, Math.exp(proposed[id]) / other),
    0,
  );
  expect(Math.abs(accepted / draws - overlap)).toBeLessThan(0.01);
});

/** Plain, windows (a ring that overwrites), other rotary frequencies from token 17 on, latent rows. */
describe.each([
  ['tiny-llama/gqa-tied', 'tiny-llama/mqa'],
  ['tiny-mistral/window', 'tiny-phi3/longrope'],
  ['tiny-phi3/longrope', 'tiny-mistral/window'],
  ['tiny-deepseek/v2-lite', 'tiny-deepseek/v2-dense'],
])('%s with the draft model %s', (name, draftName) => {
  let model: Model;
  let other: Model;
  beforeAll(async () => {
    model = await loadModel(join(GOLDEN, name), { backend });
    other = await loadModel(join(GOLDEN, draftName), { backend });
  });
  afterAll(() => {
    model.dispose();
    other.dispose();
  });
  const prompts = Array.from({ length: 12 }, (_, i) =>
    Array.from({ length: 1 + ((i * 5) % 23) }, (_, t) => (i * 13 + ((t % 5) * 7 + t * (i % 3))) % 37),
  );
  const kinds = (): Record<string, GenerateOptions> => ({
    'prompt lookup': { promptLookup: 5 },
    'another draft model': { draftModel: other },
    'itself as the draft model': { draftModel: model },
  });
  const settings: readonly GenerateOptions[] = [
    {},
    { maxNewTokens: 1 },
    { repetitionPenalty: 1.4, noRepeatNgramSize: 2, minNewTokens: 4, stop: [3, 9, 12] },
    { stop: [3, 9, 12] },
  ];

  test('greedy tokens are those without it, one by one and in a batch', async () => {
    for (const setting of settings) {
      const common = { maxNewTokens: 16, stop: [], ...setting };
      const want: number[][] = [];
      for (const prompt of prompts) want.push(await collect(model, prompt, common));
      for (const [kind, options] of Object.entries(kinds())) {
        const both = { ...common, ...options };
        for (const [i, prompt] of prompts.entries())
          expect(await collect(model, prompt, both), kind).toEqual(want[i]);
        const rows = await generateBatch(model, prompts, { ...both, n: 2 });
        expect(
          rows.map((row) => row.map(({ tokens }) => tokens)),
          kind,
        ).toEqual(want.map((row) => [row, row]));
      }
    }
  });

  test('with prompt lookup the same seed draws the same tokens', async () => {
    for (const [i, prompt] of prompts.entries()) {
      const options = { maxNewTokens: 16, stop: [], temperature: 0.8, topP: 0.9, seed: i };
      const want = await collect(model, prompt, options);
      expect(await collect(model, prompt, { ...options, promptLookup: 4 })).toEqual(want);
    }
  });

  test('a given cache holds the prompt and the yielded tokens but for the last one', async () => {
    const prompt = prompts[7];
    const want = await collect(model, prompt, { maxNewTokens: 16, stop: [] });
    for (const options of Object.values(kinds())) {
      const cache = model.initCache({ batchSize: 1, maxLength: 60 });
      const first = await collect(model, prompt, { maxNewTokens: 9, stop: [], cache, ...options });
      expect(first).toEqual(want.slice(0, 9));
      expect(cache.lengths).toEqual([prompt.length + 8]);
      const rest = { maxNewTokens: 7, stop: [], cache, ...options };
      expect(await collect(model, first.slice(-1), rest)).toEqual(want.slice(9));
      cache.dispose();
    }
  });
});

/** Answers of two tokens by chi-square against the exact probabilities. */
test('drawn tokens keep their distribution with a draft model', async () => {
  const model = await loadTiny('gqa-tied', backend);
  const draftModel = await loadTiny('mqa', backend);
  const prompt = [5, 17, 40];
  const options = { maxNewTokens: 3, stop: [], temperature: 1, topK: 4 };
  const softmaxTop4 = (tokens: number[]) => {
    const logits = model.forward([tokens], { logits: 'last' });
    const top = Array.from(logits.dataSync(), (value, id) => ({ id, value }))
      .sort((a, b) => b.value - a.value)
      .slice(0, 4);
    logits.dispose();
    const total = top.reduce((sum, { value }) => sum + Math.exp(value), 0);
    return top.map(({ id, value }) => ({ id, p: Math.exp(value) / total }));
  };
  const want = new Map<string, number>();
  for (const a of softmaxTop4(prompt))
    for (const b of softmaxTop4([...prompt, a.id]))
      for (const c of softmaxTop4([...prompt, a.id, b.id]))
        want.set(`${a.id} ${b.id} ${c.id}`, a.p * b.p * c.p);
  const draws = 3000;
  const counts = new Map<string, number>();
  for (let i = 0; i < draws / 100; i++) {
    const [row] = await generateBatch(model, [prompt], { ...options, draftModel, n: 100, seed: 1000 * i });
    for (const { tokens } of row) counts.set(tokens.join(' '), (counts.get(tokens.join(' ')) ?? 0) + 1);
  }
  expect([...counts.keys()].filter((key) => !want.has(key))).toEqual([]);
  // Rare answers count together. The bound is 5 standard deviations of chi-square above its mean.
  let [statistic, bins, rest, restWant] = [0, 0, 0, 0];
  for (const [key, p] of want) {
    const count = counts.get(key) ?? 0;
    if (p * draws < 8) {
      rest += count;
      restWant += p * draws;
      continue;
    }
    statistic += (count - p * draws) ** 2 / (p * draws);
    bins++;
  }
  statistic += restWant > 0 ? (rest - restWant) ** 2 / restWant : 0;
  expect(bins).toBeGreaterThan(10);
  expect(statistic).toBeLessThan(bins + 5 * Math.sqrt(2 * bins));
  model.dispose();
  draftModel.dispose();
});
