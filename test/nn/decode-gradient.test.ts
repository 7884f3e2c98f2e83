/** Gradients stop at a cache: asking for the gradient of a value written into one is an error, not zeros. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BlockPool, PagedCache, StaticCache, WindowCache } from '../../src/cache/index.ts';
import { getBackend, grad, mul, ones, setBackend, sum, valueAndGrad } from '../../src/index.ts';
import { Linear, MultiHeadAttention, MultiHeadLatentAttention, Param, Rngs } from '../../src/nn/index.ts';
import { createModel, llamaConfig } from '../../src/train/index.ts';
import { backends } from '../ops/backends.ts';

const IN_A_CACHE = 'keys and values in a cache have no gradient';
const x = () => ones([1, 2, 8]);
const mha = () => {
  const layer = new MultiHeadAttention({ numHeads: 2, inFeatures: 8, decode: true, rngs: new Rngs(0) });
  layer.initCache([1, 4, 8]);
  return layer;
};
const mla = () => {
  const dims = { kvLoraRank: 4, qkNopeHeadDim: 2, qkRopeHeadDim: 2, vHeadDim: 4 };
  const sizes = { hiddenSize: 8, numAttentionHeads: 2, ...dims };
  const layer = new MultiHeadLatentAttention({ ...sizes, decode: true, rngs: new Rngs(0) });
  layer.initCache([1, 4, 8]);
  return layer;
};

let before: string;
beforeAll(() => {
  before = getBackend().name;
});
afterAll(async () => {
  await setBackend(before as 'native');
});

describe.each(backends.map(({ name }) => name))('on %s', (backend) => {
  beforeAll(() => setBackend(backend));

  test('MultiHeadAttention', () => {
    const layer = mha();
    const loss = (module: MultiHeadAttention) => sum(module.forward(x()));
    expect(() => grad(loss)(layer)).toThrow(`MultiHeadAttention: ${IN_A_CACHE}`);
    expect(layer.cacheIndex?.count).toBe(0);
    // Outside of grad, and for a pass without a cache, all is as ever.
    expect(layer.forward(x()).shape).toEqual([1, 2, 8]);
    layer.decode = false;
    const gradients = grad(loss)(layer);
    for (const path of ['key.kernel', 'value.kernel'] as const) {
      expect(path in gradients).toBe(true);
    }
    expect(sum(mul(gradients['value.kernel'], gradients['value.kernel'])).dataSync()[0]).toBeGreaterThan(0);
  });

  test.each([true, false])('MultiHeadLatentAttention, absorbed %s', (absorbed) => {
    const loss = (module: MultiHeadLatentAttention) => sum(module.forward(x(), { absorbed }));
    expect(() => grad(loss)(mla())).toThrow(`MultiHeadLatentAttention: ${IN_A_CACHE}`);
  });

  test('caches of models', () => {
    const layers = [{ numKeyValueHeads: 1, headDim: 4 }];
    const sizes = { backend: getBackend(), layers, batchSize: 1, maxLength: 8 };
    const pool = new BlockPool({ backend: getBackend(), layers, numBlocks: 2, blockSize: 4 });
    const caches = [
      new StaticCache(sizes),
      new WindowCache({ ...sizes, window: 4 }),
      new PagedCache({ pool, batchSize: 1, maxLength: 8 }),
    ];
    const [key, value] = [ones([1, 2, 1, 4]), ones([1, 2, 1, 4])];
    for (const cache of caches) {
      const write = (written: typeof value) => {
        cache.reserve(2);
        cache.write(0, key, mul(written, 2));
        return sum(written);
      };
      expect(() => grad(write)(value)).toThrow(IN_A_CACHE);
      expect(cache.lengths).toEqual([0]);
    }
  });

  test('a model with a cache', () => {
    const sizes = { vocabSize: 7, hiddenSize: 8, numLayers: 1, numHeads: 2, numKeyValueHeads: 1 };
    const model = createModel(llamaConfig(sizes));
    const cache = model.initCache({ batchSize: 1, maxLength: 8 });
    const loss = (m: typeof model) => sum(m.forward([[1, 2, 3]], { cache }));
    expect(() => valueAndGrad(loss)(model)).toThrow(IN_A_CACHE);
    model.dispose();
  });

  test('a value assigned to a variable', () => {
    const linear = new Linear({ inFeatures: 2, outFeatures: 2, rngs: new Rngs(0) });
    const kept = new Param(ones([2, 2]));
    const into = (module: Linear) => {
      kept.value = mul(module.kernel.value, 2);
      return sum(kept.value);
    };
    expect(() => grad(into)(linear)).toThrow(
      'Variable: a value assigned inside of a differentiated function',
    );
    const own = (module: Linear) => {
      module.kernel.value = ones([2, 2]);
      return sum(module.kernel.value);
    };
    expect(() => grad(own)(linear)).toThrow('Variable: a value assigned inside of a differentiated function');
  });
});
