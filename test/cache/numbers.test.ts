/** Invalid numbers for caches: every kind refuses them on every backend, before it allocates memory. */
import { describe, expect, test } from 'vitest';
import { BlockPool, type CacheLayer, PagedCache, StaticCache, WindowCache } from '../../src/cache/index.ts';
import { setBackend, zeros } from '../../src/index.ts';
import { backends } from '../ops/backends.ts';

describe.each(backends.map(({ name }) => name))('%s', (name) => {
  const makers = async () => {
    const backend = await setBackend(name);
    return [
      [
        'StaticCache',
        (layer: CacheLayer) => new StaticCache({ backend, layers: [layer], batchSize: 1, maxLength: 4 }),
      ],
      [
        'WindowCache',
        (layer: CacheLayer) => new WindowCache({ backend, layers: [layer], batchSize: 1, maxLength: 4 }),
      ],
      ['BlockPool', (layer: CacheLayer) => new BlockPool({ backend, layers: [layer], numBlocks: 2 })],
    ] as const;
  };

  test.each([Number.NaN, 1.5, -5, 0, Infinity])('a window of %d', async (window) => {
    for (const [kind, make] of await makers()) {
      expect(() => make({ numKeyValueHeads: 1, headDim: 4, window })).toThrow(
        new RangeError(`${kind}: expected window to be a positive integer, got ${window}`),
      );
    }
  });

  test.each(['numKeyValueHeads', 'headDim', 'valueHeadDim'] as const)('%s', async (field) => {
    for (const value of [Number.NaN, 1.5, -5, 0, 2 ** 53]) {
      const expected = value === 2 ** 53 ? 'an integer below 2^53' : 'a positive integer';
      for (const [kind, make] of await makers()) {
        expect(() => make({ numKeyValueHeads: 1, headDim: 4, [field]: value })).toThrow(
          new RangeError(`${kind}: expected ${field} to be ${expected}, got ${value}`),
        );
      }
    }
  });

  test('sizes whose product is past what can be counted', async () => {
    for (const [, make] of await makers()) {
      expect(() => make({ numKeyValueHeads: 2 ** 30, headDim: 2 ** 30 })).toThrow(RangeError);
    }
  });

  test('layers that answer differently when they are read again', async () => {
    for (const [kind, make] of await makers()) {
      let reads = 0;
      const layer = {
        numKeyValueHeads: 1,
        headDim: 4,
        // Once for its kind, once for its value.
        get valueHeadDim() {
          return reads++ < 2 ? 4 : 2 ** 20;
        },
      };
      const cache = make(layer);
      expect(cache.bytes).toBe((kind === 'BlockPool' ? 64 : 4) * 8 * 4);
      cache.dispose();
    }
  });

  test('blocks and rows that are not there', async () => {
    const backend = await setBackend(name);
    const layers = [{ numKeyValueHeads: 1, headDim: 4 }];
    const pool = new BlockPool({ backend, layers, numBlocks: 3, blockSize: 2 });
    for (const block of [-1, 3, 0.5, Number.NaN]) {
      const refused = new RangeError(`BlockPool.copy: expected a block below 3, got ${block}`);
      expect(() => pool.copy(block, 0, 1)).toThrow(refused);
      expect(() => pool.copy(0, block, 1)).toThrow(refused);
      for (const method of ['retain', 'release', 'references'] as const) {
        expect(() => pool[method](block)).toThrow(
          `BlockPool.${method}: expected a block below 3, got ${block}`,
        );
      }
    }
    for (const tokens of [-1, 3, 0.5, Number.NaN]) {
      expect(() => pool.copy(0, 1, tokens)).toThrow(
        new RangeError(`BlockPool.copy: expected 0 to 2 tokens, got ${tokens}`),
      );
    }
    const paged = new PagedCache({ pool, batchSize: 2, maxLength: 4 });
    const fixed = new StaticCache({ backend, layers, batchSize: 2, maxLength: 4 });
    for (const row of [-1, 2, 0.5, 'length' as unknown as number]) {
      expect(() => paged.share(row, paged, 0)).toThrow('expected a row below 2');
      expect(() => paged.share(0, paged, row)).toThrow('expected a row below 2');
      expect(() => paged.truncate(row, 0)).toThrow('expected a row below 2');
      expect(() => fixed.truncate(row, 0)).toThrow('expected a row below 2');
    }
    fixed.reserve(2);
    const kv = zeros([2, 2, 1, 4]);
    for (const layer of [-1, 1, 0.5, Number.NaN]) {
      expect(() => fixed.view(layer)).toThrow(RangeError);
      expect(() => fixed.write(layer, kv, kv)).toThrow(RangeError);
    }
  });
});
