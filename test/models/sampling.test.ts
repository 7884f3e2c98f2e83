/** Sampling against its definitions in plain code, and repeatability by seed. */
import { describe, expect, test } from 'vitest';
import { randomSource } from '../../src/models/random-source.ts';
import { checkSampling, greedyToken, type SamplingOptions, sampleToken } from '../../src/models/sampling.ts';

/**
 * Probabilities left by the filters, as transformers' warpers define them, over sorted copies of everything.
 */
function warped(logits: Float32Array, { temperature, topK, topP = 1, minP = 0 }: SamplingOptions): number[] {
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
  expect(sampleToken(logits, { temperature: 0, topK: 3 }, () => expect.fail('no draw'))).toBe(
    greedyToken(logits),
  );
});

describe.each<SamplingOptions>([
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
    for (let i = 0; i < draws; i++) counts[sampleToken(logits, options, () => (i + 0.5) / draws)]++;
    counts.forEach((count, id) => {
      if (want[id] === 0) expect(count, `token ${id}`).toBe(0);
      else expect(Math.abs(count / draws - want[id]), `token ${id}`).toBeLessThan(2 / draws);
    });
  });
});

test('ties at the k-th place all stay; masked and infinite logits are handled', () => {
  const tied = Float32Array.of(3, 1, 1, 1, 0);
  const seen = new Set<number>();
  for (let i = 0; i < 100; i++) seen.add(sampleToken(tied, { temperature: 1, topK: 2 }, () => i / 100));
  expect([...seen].sort()).toEqual([0, 1, 2, 3]);
  const masked = Float32Array.of(-Infinity, 0, -Infinity, 0);
  for (const options of [{}, { topK: 3 }, { topP: 0.9999 }, { minP: 0.5 }]) {
    for (let i = 0; i < 20; i++)
      expect(sampleToken(masked, { temperature: 1, ...options }, () => i / 20) % 2).toBe(1);
  }
  expect(sampleToken(Float32Array.of(0, Infinity, 0), { temperature: 1 }, () => 0)).toBe(1);
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
  expect(() => randomSource(1.5)).toThrow(
    new RangeError('generate: expected seed to be a safe integer, got 1.5'),
  );
});

test.each([
  [{ temperature: -1 }, 'temperature >= 0, got -1'],
  [{ temperature: Number.NaN }, 'temperature >= 0, got NaN'],
  [{ temperature: 1, topK: 0 }, 'topK to be a positive integer, got 0'],
  [{ temperature: 1, topK: 1.5 }, 'topK to be a positive integer, got 1.5'],
  [{ temperature: 1, topP: 0 }, 'topP in (0, 1], got 0'],
  [{ temperature: 1, topP: 1.01 }, 'topP in (0, 1], got 1.01'],
  [{ temperature: 1, minP: -0.1 }, 'minP in [0, 1], got -0.1'],
])('checkSampling %o', (options, text) => {
  expect(() => checkSampling('generate', options)).toThrow(new RangeError(`generate: expected ${text}`));
});
