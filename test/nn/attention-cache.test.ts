/**
 * For any value assigned to a cache or its index, a step writes inside its memory or throws before it writes.
 */
import { afterAll, describe, expect, test } from 'vitest';
import { ones, setBackend, type Tensor, tensor, zeros } from '../../src/index.ts';
import { Cache, MultiHeadAttention, MultiHeadLatentAttention, Rngs } from '../../src/nn/index.ts';
import { backends } from '../ops/backends.ts';

const D = 16;
const attention = () =>
  new MultiHeadAttention({ numHeads: 2, inFeatures: D, decode: true, rngs: new Rngs(0) });
const latent = () =>
  new MultiHeadLatentAttention({
    hiddenSize: D,
    numAttentionHeads: 2,
    kvLoraRank: 8,
    qkNopeHeadDim: 4,
    qkRopeHeadDim: 4,
    vHeadDim: 8,
    decode: true,
    rngs: new Rngs(0),
  });
const scalar = (value: number) => tensor(Int32Array.of(value), { shape: [] });
const numbers = (cache: Cache | undefined) => [...(cache?.value.dataSync() ?? [])];

afterAll(() => setBackend('reference'));

describe.each(backends.map(({ name }) => name))('%s', (name) => {
  describe.each([
    ['MultiHeadAttention', attention],
    ['MultiHeadLatentAttention', latent],
  ])('%s', (_, make) => {
    /** After one step of a cache of 8 tokens. */
    const started = async () => {
      await setBackend(name);
      const layer = make();
      layer.initCache([1, 8, D]);
      layer.forward(ones([1, 1, D])).dispose();
      const caches = () =>
        layer instanceof MultiHeadAttention
          ? [numbers(layer.cachedKey), numbers(layer.cachedValue)]
          : [numbers(layer.cachedRows)];
      return { layer, caches, before: caches() };
    };

    test.each([-1, -2, -(2 ** 31)])('an index of %i is refused when it is set', async (index) => {
      const { layer, caches, before } = await started();
      expect(() => {
        if (layer.cacheIndex) layer.cacheIndex.value = scalar(index);
      }).toThrow(
        new RangeError(`cacheIndex: expected a number of tokens from 0 to 2147483647, got ${index}`),
      );
      expect(layer.cacheIndex?.count).toBe(1);
      layer.forward(ones([1, 1, D])).dispose();
      expect(caches()).not.toEqual(before);
    });

    test.each([
      [Number.NaN, 'NaN'],
      [1.5, '1.5'],
      [Infinity, 'Infinity'],
    ])('a float index of %d is refused when it is set', async (index, shown) => {
      const { layer } = await started();
      expect(() => {
        if (layer.cacheIndex) layer.cacheIndex.value = tensor(index);
      }).toThrow(`cacheIndex: expected a number of tokens from 0 to 2147483647, got ${shown}`);
      expect(layer.cacheIndex?.count).toBe(1);
    });

    test('an index of another shape is refused when it is set', async () => {
      const { layer } = await started();
      for (const value of [zeros([1], { dtype: 'i32' }), zeros([2], { dtype: 'i32' }), 3, undefined]) {
        expect(() => {
          if (layer.cacheIndex) layer.cacheIndex.value = value as Tensor;
        }).toThrow(/expected a value \[\], got \[[12]\]|expected the value to be a tensor/);
      }
      expect(layer.cacheIndex?.count).toBe(1);
    });

    test.each([8, 9, 2 ** 31 - 1])('an index of %i has no room', async (index) => {
      const { layer, caches, before } = await started();
      if (layer.cacheIndex) layer.cacheIndex.value = scalar(index);
      expect(() => layer.forward(ones([1, 1, D]))).toThrow(
        new RangeError(
          `${layer.constructor.name}: expected at most 8 tokens in the cache, got ${index} and 1 more`,
        ),
      );
      expect(caches()).toEqual(before);
    });

    test.each([-1, 0.5, Number.NaN, '1'])('a count of %s in the place of the own one', async (count) => {
      const { layer, caches, before } = await started();
      Object.defineProperty(layer.cacheIndex, 'count', { value: count });
      expect(() => layer.forward(ones([1, 1, D]))).toThrow('expected at most 8 tokens in the cache');
      expect(caches()).toEqual(before);
    });
  });

  test('caches of other shapes and types in the place of the own ones', async () => {
    await setBackend(name);
    const layer = attention();
    layer.initCache([1, 8, D]);
    layer.forward(ones([1, 1, D])).dispose();
    const { cachedKey, cachedValue } = layer;
    const before = [numbers(cachedKey), numbers(cachedValue)];
    const shapes = [[1, 1, 2, 8], [1, 8, 1, 8], [1, 8, 2, 4], [2, 8, 2, 8], [8], []];
    for (const value of [
      ...shapes.map((shape) => zeros(shape)),
      zeros([1, 8, 2, 8], { dtype: 'i32' }),
      zeros([1, 8, 2, 8], { dtype: 'bool' }),
    ]) {
      layer.cachedValue = new Cache(value);
      expect(() => layer.forward(ones([1, 1, D]))).toThrow(
        /cache shape error|at most 1 tokens|to be of floats/,
      );
      [layer.cachedKey, layer.cachedValue] = [layer.cachedValue, cachedValue];
      expect(() => layer.forward(ones([1, 1, D]))).toThrow(
        /cache shape error|at most 1 tokens|to be of floats/,
      );
      layer.cachedKey = cachedKey;
      expect([numbers(cachedKey), numbers(cachedValue)]).toEqual(before);
    }
    expect(layer.cacheIndex?.count).toBe(1);
  });

  test('cached rows of another width or backend, and freed ones', async () => {
    await setBackend(name);
    const layer = latent();
    layer.initCache([1, 8, D]);
    layer.cachedRows = new Cache(zeros([1, 8, 11]));
    expect(() => layer.forward(ones([1, 1, D]))).toThrow('expected cached rows of 12 values, got [1, 8, 11]');
    layer.cachedRows = new Cache(zeros([1, 8, 12]));
    layer.cachedRows.dispose();
    expect(() => layer.forward(ones([1, 1, D]))).toThrow('after dispose()');
    await setBackend(name === 'wasm' ? 'reference' : 'wasm');
    const elsewhere = new Cache(zeros([1, 8, 12]));
    await setBackend(name);
    layer.cachedRows = elsewhere;
    expect(() => layer.forward(ones([1, 1, D]))).toThrow('on one backend');
  });
});
