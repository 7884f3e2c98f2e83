/** Sampling against its definitions in plain code, and repeatability by seed. */
import { describe, expect, test } from 'vitest';
import { logitsProcessors, type SamplingOptions } from '../../../src/models/generation/logits-processors.ts';
import { checkSeed, randomSource } from '../../../src/models/generation/random-source.ts';
import { greedyToken, pickToken, type RandomSource } from '../../../src/models/generation/sampling.ts';

type Draw = SamplingOptions & { readonly temperature: number };

/** A token as `generate` chooses it. */
function choose(logits: Float32Array, options: Draw, random: RandomSource): number {
  const context = { promptLength: 0, endTokenIds: [], vocabSize: logits.length, maxNewTokens: 1 };
  const processed = logits.slice();
  for (const process of logitsProcessors('test', options, context)) process(processed, []);
  return pickToken(processed, { temperature: options.temperature, random });
}

/**
 * Probabilities left by the filters, as transformers' warpers define them, over sorted copies of everything.
 */
function warped(logits: Float32Array, { temperature, topK, topP = 1, minP = 0 }: Draw): number[] {
  let scores = Array.from(logits, (value) => value / temperature);
  const softmax = (values: number[]) => {
    const max = Math.max(...values);
    const weights = values.map((value) => Math.exp(value - max));
    const sum = weights.reduce((a, b) => a + b, 0);
    return weights.map((weight) => weight / sum);
  };
  if (topK !== undefined) {
    const floor = [...scores].sort((a, b) => b - a)[Math.min(topK, scores.length) - 1];
    scores = scores.map((score) => (score < floor ? -Infinity : score));
  }
  if (topP < 1) {
    const probabilities = softmax(scores);
    const ascending = scores.map((_, i) => i).sort((a, b) => scores[a] - scores[b] || b - a);
    let sum = 0;
    ascending.forEach((id, i) => {
      sum += probabilities[id];
      if (sum <= 1 - topP && i < ascending.length - 1) scores[id] = -Infinity;
    });
  }
  if (minP > 0) {
    const probabilities = softmax(scores);
    const floor = minP * Math.max(...probabilities);
    scores = scores.map((score, i) => (probabilities[i] < floor ? -Infinity : score));
  }
  return softmax(scores);
}

function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

const random = randomSource(7);
const logits = Float32Array.from({ length: 41 }, () => 2 * normal(random));

test('greedy takes the largest, the lowest index of equals', () => {
  expect(greedyToken(Float32Array.of(1, 5, 5, -2))).toBe(1);
  expect(greedyToken(Float32Array.of(-Infinity, -3))).toBe(1);
  expect(() => greedyToken(Float32Array.of(1, Number.NaN))).toThrow(
    new RangeError('sampling: expected logits to be numbers, got NaN for token 1'),
  );
  expect(() => greedyToken(Float32Array.of(-Infinity, -Infinity))).toThrow(
    'above -Infinity among 2, got none',
  );
  expect(choose(logits, { temperature: 0, topK: 3 }, () => expect.fail('no draw'))).toBe(greedyToken(logits));
});

describe.each<Draw>([
  { temperature: 1 },
  { temperature: 0.6 },
  { temperature: 1, topK: 5 },
  { temperature: 2, topK: 1 },
  { temperature: 1, topK: 99 },
  { temperature: 1.3, topP: 0.8 },
  { temperature: 1, topP: 0.01 },
  { temperature: 1, topP: 0.999 },
  { temperature: 1, minP: 0.1 },
  { temperature: 1, minP: 1 },
  { temperature: 0.9, topK: 12, topP: 0.9, minP: 0.05 },
])('%o', (options) => {
  test('draws follow the filtered probabilities', () => {
    const want = warped(logits, options);
    // Evenly spaced uniform numbers: the counts are the probabilities to within one draw per token.
    const draws = 20_000;
    const counts = new Array<number>(logits.length).fill(0);
    for (let i = 0; i < draws; i++) counts[choose(logits, options, () => (i + 0.5) / draws)]++;
    counts.forEach((count, id) => {
      if (want[id] === 0) expect(count, `token ${id}`).toBe(0);
      else expect(Math.abs(count / draws - want[id]), `token ${id}`).toBeLessThan(2 / draws);
    });
  });
});

test.each<Draw>([
  { temperature: 0.7 },
  { temperature: 1, topK: 2 },
  { temperature: 1, topP: 0.5 },
  { temperature: 1, minP: 0.5 },
  { temperature: 1, typicalP: 0.5 },
])('NaN is an error, and a largest logit of Infinity is taken: %o', (options) => {
  for (const at of [0, 2]) {
    const row = Float32Array.of(1, 3, 2, 1, 0);
    row[at] = Number.NaN;
    expect(() => choose(row, options, () => 0.5)).toThrow(`got NaN for token ${at}`);
    row[at] = Number.POSITIVE_INFINITY;
    expect(choose(row, options, () => 0.99)).toBe(at);
  }
});

test('ties at the k-th place all stay; masked and infinite logits are handled', () => {
  const tied = Float32Array.of(3, 1, 1, 1, 0);
  const seen = new Set<number>();
  for (let i = 0; i < 100; i++) seen.add(choose(tied, { temperature: 1, topK: 2 }, () => i / 100));
  expect([...seen].sort()).toEqual([0, 1, 2, 3]);
  const masked = Float32Array.of(-Infinity, 0, -Infinity, 0);
  for (const options of [{}, { topK: 3 }, { topP: 0.9999 }, { minP: 0.5 }]) {
    for (let i = 0; i < 20; i++)
      expect(choose(masked, { temperature: 1, ...options }, () => i / 20) % 2).toBe(1);
  }
  expect(choose(Float32Array.of(0, Infinity, 0), { temperature: 1 }, () => 0)).toBe(1);
});

test('a random source repeats for a seed, differs between seeds, and is even', () => {
  const take = (seed: number, count: number) => {
    const next = randomSource(seed);
    return Array.from({ length: count }, next);
  };
  expect(take(5, 8)).toEqual(take(5, 8));
  const firsts = [0, 1, 2, -1, 2 ** 32, 2 ** 40 + 1].map((seed) => take(seed, 1)[0]);
  expect(new Set(firsts).size).toBe(firsts.length);
  const many = take(3, 100_000);
  expect(many.every((value) => value >= 0 && value < 1)).toBe(true);
  expect(Math.abs(many.reduce((a, b) => a + b, 0) / many.length - 0.5)).toBeLessThan(0.005);
  const bins = new Array<number>(16).fill(0);
  for (const value of many) bins[Math.floor(value * 16)]++;
  for (const count of bins) expect(Math.abs(count - 6250)).toBeLessThan(400);
  expect(() => checkSeed('generate', 1.5)).toThrow(
    new RangeError('generate: expected seed to be a safe integer, got 1.5'),
  );
});

/** A chi-square test of 40,000 draws: 40 degrees of freedom exceed 73.4 once in 1,000 times. */
test('draws of a seed follow the probabilities', () => {
  const options = { temperature: 1.2 };
  const want = warped(logits, options);
  const draws = 40_000;
  const next = randomSource(11);
  const counts = new Array<number>(logits.length).fill(0);
  for (let i = 0; i < draws; i++) counts[choose(logits, options, next)]++;
  const statistic = counts.reduce((sum, count, id) => {
    const expected = want[id] * draws;
    return sum + (count - expected) ** 2 / expected;
  }, 0);
  expect(counts.length).toBe(41);
  expect(Math.min(...want) * draws).toBeGreaterThan(5);
  expect(statistic).toBeLessThan(73.4);
});

test('a temperature whose quotients leave f32 still takes the likeliest', () => {
  for (const sign of [1, -1]) {
    const row = Float32Array.of(3, 1, 2).map((value) => value * sign);
    const options = { temperature: 1e-40, topP: 0.9, minP: 0.1, typicalP: 0.9 };
    expect(choose(row, options, () => 0.5)).toBe(greedyToken(row));
  }
});
