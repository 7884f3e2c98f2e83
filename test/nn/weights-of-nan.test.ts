/** A masked key, value or bias, also NaN, changes no attention weight, on any path that computes weights. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { getBackend, grad, setBackend, slice, softmax, sum, type Tensor, tensor } from '../../src/index.ts';
import {
  dotProductAttention,
  dotProductAttentionWeights,
  MultiHeadAttention,
  Rngs,
} from '../../src/nn/index.ts';
import { key as randomKey } from '../../src/random/index.ts';
import { backends } from '../ops/backends.ts';

const bad = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
/** One query, two keys, one head of two dims. */
const shape = [1, 2, 1, 2];
const query = () => tensor([1, 0], { shape: [1, 1, 1, 2] });
const keys = (last: number) => tensor([1, 0, last, last], { shape });
const first = () => tensor([1, 0], { shape: [1, 1, 1, 2] });
const numbers = (x: Tensor) => Array.from(x.dataSync(), Number);

let before: string;
beforeAll(() => {
  before = getBackend().name;
});
afterAll(async () => {
  await setBackend(before as 'native');
});

describe.each(backends.map(({ name }) => name))('on %s', (backend) => {
  beforeAll(() => setBackend(backend));

  test.each(bad)('dotProductAttentionWeights with a masked key of %d', (value) => {
    expect(numbers(dotProductAttentionWeights(query(), keys(value), { mask: first() }))).toEqual([1, 0]);
  });

  test.each(bad)('dotProductAttentionWeights with a masked bias of %d', (value) => {
    const bias = tensor([0, value], { shape: [1, 1, 1, 2] });
    expect(numbers(dotProductAttentionWeights(query(), keys(0), { mask: first(), bias }))).toEqual([1, 0]);
  });

  test('a key that is seen still spoils its row', () => {
    expect(numbers(dotProductAttentionWeights(query(), keys(Number.NaN)))).toEqual([Number.NaN, Number.NaN]);
  });

  test('isCausal and a query that sees nothing', () => {
    const two = tensor([1, 0, 1, 0], { shape });
    const causal = dotProductAttentionWeights(two, keys(Number.NaN), { isCausal: true });
    expect(numbers(causal)).toEqual([1, 0, Number.NaN, Number.NaN]);
    const none = tensor([0, 0], { shape: [1, 1, 1, 2] });
    expect(numbers(dotProductAttentionWeights(query(), keys(Number.NaN), { mask: none }))).toEqual([0, 0]);
  });

  test.each(['f16', 'bf16'] as const)('in %s', (dtype) => {
    const weights = dotProductAttentionWeights(query(), keys(Number.NaN), { mask: first(), dtype });
    expect([weights.dtype, numbers(weights)]).toEqual([dtype, [1, 0]]);
  });

  test('gradients of what is seen stay numbers', () => {
    const weighted = (q: Tensor) =>
      sum(slice(dotProductAttentionWeights(q, keys(2), { mask: first() }), [0, 0, 0, 0], [1, 1, 1, 1]));
    expect(numbers(grad(weighted)(query()))).toEqual([0, 0]);
    const plain = (q: Tensor) =>
      sum(slice(dotProductAttentionWeights(q, keys(0)), [0, 0, 0, 0], [1, 1, 1, 1]));
    // w (1 - w) / sqrt(2) of w = sigmoid(1 / sqrt(2))
    const w = 1 / (1 + Math.exp(-Math.SQRT1_2));
    expect(numbers(grad(plain)(query()))[0]).toBeCloseTo(w * (1 - w) * Math.SQRT1_2, 6);
  });

  test('dropout drawn for all and for each', () => {
    for (const broadcastDropout of [true, false]) {
      const options = { dropoutRate: 0.5, dropoutRng: randomKey(0), broadcastDropout, mask: first() };
      const values = tensor([1, 1, Number.NaN, Number.NaN], { shape });
      for (const x of numbers(dotProductAttention(query(), keys(Number.NaN), values, options))) {
        expect([0, 2]).toContain(x);
      }
    }
  });

  test.each([false, true])('sowWeights of a module, decode %s', (decode) => {
    const layer = new MultiHeadAttention({ numHeads: 1, inFeatures: 2, decode, rngs: new Rngs(0) });
    const tokens = tensor([1, 2, Number.NaN, Number.NaN], { shape: [1, 2, 2] });
    if (decode) layer.initCache([1, 3, 2]);
    const output = layer.forward(tokens, undefined, undefined, { isCausal: true, sowWeights: true });
    const own = numbers(layer.pop().attentionWeights[0]).slice(0, decode ? 3 : 2);
    expect(own).toEqual(decode ? [1, 0, 0] : [1, 0]);
    expect(numbers(output).slice(0, 2).every(Number.isFinite)).toBe(true);
  });

  test('softmax of -Infinity beside numbers', () => {
    expect(numbers(softmax(tensor([0, Number.NEGATIVE_INFINITY])))).toEqual([1, 0]);
  });
});
