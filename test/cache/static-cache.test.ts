/**
 * The cache protocol on the static cache: tokens count only after commit, and a failed pass loses nothing.
 */
import { beforeEach, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/backend.ts';
import type { KeyValueView } from '../../src/backend/calls/attention.ts';
import { setBackend } from '../../src/backend/registry.ts';
import { type CacheDType, type CacheLayer, StaticCache } from '../../src/cache/index.ts';
import { attend } from '../../src/ops/attend.ts';
import { tensor } from '../../src/ops/creation.ts';
import { decode } from '../../src/tensor/encode.ts';
import { scope } from '../../src/tensor/scope.ts';
import { isFreed, type Storage } from '../../src/tensor/storage.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { BACKENDS } from '../models/golden.ts';

/** Two layers of different shapes. */
const LAYERS = [
  { numKeyValueHeads: 2, headDim: 3 },
  { numKeyValueHeads: 1, headDim: 5, valueHeadDim: 7 },
];

/** `[B, T, K, H]` of numbers that name row, token, head and dim; all exact in bf16. */
function values(B: number, T: number, K: number, H: number, base: number): Tensor {
  const flat: number[] = [];
  for (let i = 0; i < B * T * K * H; i++) flat.push(base + i);
  return tensor(Float32Array.from(flat), { shape: [B, T, K, H] });
}

function writeAll(cache: StaticCache, T: number, base: number): void {
  LAYERS.forEach(({ numKeyValueHeads: K, headDim: H, valueHeadDim: Hv = H }, layer) => {
    cache.write(layer, values(cache.batchSize, T, K, H, base), values(cache.batchSize, T, K, Hv, -base));
  });
}

/** Every visible key of a row, and every value. */
function contents(backend: Backend, view: KeyValueView, row: number): { key: number[]; value: number[] } {
  const { length, segments } = view.rows[row];
  const key: number[] = [];
  const value: number[] = [];
  for (const segment of segments) {
    const read = (storage: typeof segment.key, offset: number, perToken: number) => {
      const count = segment.length * perToken;
      const bytes = backend.read(storage, offset, count * (view.keyDtype === 'f32' ? 4 : 2));
      return decode(view.keyDtype, bytes, count);
    };
    key.push(...read(segment.key, segment.keyByteOffset, view.keyTokenStride));
    value.push(...read(segment.value, segment.valueByteOffset, view.valueTokenStride));
  }
  return {
    key: key.slice(0, length * view.keyTokenStride),
    value: value.slice(0, length * view.valueTokenStride),
  };
}

const range = (start: number, count: number) => Array.from({ length: count }, (_, i) => start + i);

describe.each(BACKENDS)('StaticCache on %s', (name) => {
  let backend: Backend;
  beforeEach(async () => {
    backend = await setBackend(name);
  });
  const make = (
    options: {
      batchSize?: number;
      maxLength?: number;
      dtype?: CacheDType;
      layers?: readonly CacheLayer[];
    } = {},
  ) => new StaticCache({ backend, layers: LAYERS, batchSize: 1, maxLength: 11, ...options });

  test.each(['f32', 'f16', 'bf16'] as const)('%s: what was written is what the view shows', (dtype) => {
    const cache = make({ dtype, batchSize: 2 });
    expect(cache.bytes).toBe(2 * 11 * (6 + 6 + 5 + 7) * (dtype === 'f32' ? 4 : 2));
    cache.reserve(2);
    writeAll(cache, 2, 10);
    expect(contents(backend, cache.view(0), 1)).toEqual({
      key: range(10 + 12, 12),
      value: range(-10 + 12, 12),
    });
    cache.commit();
    cache.reserve(1);
    writeAll(cache, 1, 100);
    expect(cache.view(1).rows.map((row) => row.length)).toEqual([3, 3]);
    expect(contents(backend, cache.view(1), 0)).toEqual({
      key: [...range(10, 10), ...range(100, 5)],
      value: [...range(-10, 14), ...range(-100, 7)],
    });
    cache.commit();
    expect(cache.lengths).toEqual([3, 3]);
    cache.dispose();
  });

  test('rows take their own count of the first tokens', () => {
    const cache = make({ batchSize: 3 });
    cache.reserve([2, 0, 1]);
    writeAll(cache, 2, 10);
    cache.commit();
    expect(cache.lengths).toEqual([2, 0, 1]);
    expect(contents(backend, cache.view(0), 0).key).toEqual(range(10, 12));
    expect(contents(backend, cache.view(0), 1).key).toEqual([]);
    expect(contents(backend, cache.view(0), 2).key).toEqual(range(10 + 24, 6));
    cache.reserve([1, 2, 0]);
    writeAll(cache, 2, 100);
    expect(contents(backend, cache.view(0), 0).key).toEqual([...range(10, 12), ...range(100, 6)]);
    expect(contents(backend, cache.view(0), 1).key).toEqual(range(112, 12));
    expect(contents(backend, cache.view(0), 2).key).toEqual(range(34, 6));
    cache.dispose();
  });

  test('no room: a RangeError with the numbers, and nothing changed', () => {
    const cache = make({ batchSize: 2 });
    cache.reserve([9, 4]);
    writeAll(cache, 9, 1);
    cache.commit();
    const before = [0, 1].map((row) => contents(backend, cache.view(0), row));
    expect(() => cache.reserve([3, 1])).toThrow(
      new RangeError('StaticCache.reserve: row 0 holds 9 of 11 tokens, no room for 3 more'),
    );
    expect(() => cache.write(0, values(2, 3, 2, 3, 5), values(2, 3, 2, 3, 5))).toThrow(
      'expected reserve() first',
    );
    expect(() => cache.commit()).toThrow('expected reserve() first');
    expect(cache.lengths).toEqual([9, 4]);
    expect([0, 1].map((row) => contents(backend, cache.view(0), row))).toEqual(before);
    cache.reserve([2, 7]);
    cache.dispose();
  });

  test('a failure before commit leaves the cache as it was', () => {
    const cache = make();
    cache.reserve(2);
    writeAll(cache, 2, 10);
    cache.commit();
    const before = contents(backend, cache.view(0), 0);
    cache.reserve(3);
    cache.write(0, values(1, 3, 2, 3, 50), values(1, 3, 2, 3, 50));
    // Layer 1 gets layer 0's shape.
    expect(() => cache.write(1, values(1, 3, 2, 3, 50), values(1, 3, 2, 3, 50))).toThrow(
      new RangeError('StaticCache.write: expected key of layer 1 to be [1, T >= 3, 1, 5], got [1, 3, 2, 3]'),
    );
    expect(() => cache.commit()).toThrow('layer 1 was not written');
    expect(cache.lengths).toEqual([2]);
    cache.reserve(1);
    expect(cache.view(0).rows[0].length).toBe(3);
    writeAll(cache, 1, 90);
    cache.commit();
    const { key } = contents(backend, cache.view(0), 0);
    expect(key).toEqual([...before.key, ...range(90, 6)]);
    cache.dispose();
  });

  test('a pass commits once', () => {
    const cache = make();
    cache.reserve(1);
    writeAll(cache, 1, 10);
    cache.commit();
    expect(() => cache.commit()).toThrow(new Error('StaticCache.commit: expected reserve() first'));
    expect(cache.lengths).toEqual([1]);
    cache.reserve(0);
    cache.commit();
    expect(cache.lengths).toEqual([1]);
    cache.dispose();
  });

  test('truncate and reset forget tokens; what comes next overwrites them', () => {
    const cache = make({ batchSize: 2 });
    cache.reserve(3);
    writeAll(cache, 3, 10);
    cache.commit();
    cache.truncate(1, 1);
    expect(cache.lengths).toEqual([3, 1]);
    cache.reserve([0, 1]);
    writeAll(cache, 1, 70);
    cache.commit();
    expect(contents(backend, cache.view(0), 1).key).toEqual([...range(10 + 18, 6), ...range(76, 6)]);
    expect(contents(backend, cache.view(0), 0).key).toEqual(range(10, 18));
    expect(() => cache.truncate(0, 4)).toThrow('expected a length from 0 to 3 for row 0, got 4');
    expect(() => cache.truncate(2, 0)).toThrow('expected a row below 2, got 2');
    // An unfinished pass goes, too.
    cache.reserve(1);
    cache.truncate(0, 2);
    expect(() => cache.commit()).toThrow(Error);
    cache.reset();
    expect(cache.lengths).toEqual([0, 0]);
    cache.dispose();
  });

  test('wrong arguments', () => {
    const cache = make();
    expect(() => cache.reserve(-1)).toThrow('expected non-negative token counts, got -1 for row 0');
    expect(() => cache.reserve(1.5)).toThrow(RangeError);
    expect(() => cache.reserve([1, 1])).toThrow('expected a count for each of 1 rows, got 2');
    expect(() => cache.view(2)).toThrow('expected a layer below 2, got 2');
    expect(() => make({ batchSize: 0 })).toThrow('expected batchSize to be a positive integer, got 0');
    expect(() => make({ maxLength: 2.5 })).toThrow('expected maxLength to be a positive integer, got 2.5');
    expect(() => make({ dtype: 'i32' as CacheDType })).toThrow(
      'expected dtype f32, f16, bf16 or q8_0, got i32',
    );
    for (const layer of [
      { numKeyValueHeads: 0, headDim: 3 },
      { numKeyValueHeads: 1, headDim: -3 },
      { numKeyValueHeads: 1, headDim: 3, valueHeadDim: Number.NaN },
    ]) {
      expect(() => make({ layers: [layer] })).toThrow(
        /^StaticCache: expected (numKeyValueHeads|headDim|valueHeadDim) to be a positive integer, got/,
      );
    }
    cache.reserve(1);
    const whole = tensor(new Int32Array(6), { shape: [1, 1, 2, 3] });
    expect(() => cache.write(0, whole, whole)).toThrow(
      new TypeError('StaticCache.write: expected key of layer 0 to be of floats, got i32'),
    );
    expect(() => cache.write(0, [[1]] as never, whole)).toThrow(TypeError);
    const view = cache.view(0);
    cache.dispose();
    cache.dispose();
    expect(() => attend(values(1, 1, 2, 3, 0), view)).toThrow(
      new Error('attend: expected the view of a live cache, got one after dispose()'),
    );
    expect(() => cache.reserve(1)).toThrow('called after dispose()');
    expect(() => cache.view(0)).toThrow('called after dispose()');
  });

  test('scopes do not free a cache', () => {
    const cache = scope(() => {
      const inner = make();
      inner.reserve(1);
      writeAll(inner, 1, 10);
      inner.commit();
      return { inner };
    }).inner;
    expect(contents(backend, cache.view(0), 0).key).toEqual(range(10, 6));
    cache.dispose();
  });
});

test('memory that cannot be had leaves nothing allocated', async () => {
  const backend = await setBackend('reference');
  const storages: Storage[] = [];
  let left = 3;
  const scarce = Object.create(backend, {
    allocate: {
      value: (bytes: number) => {
        if (left-- === 0) throw new RangeError('no memory left');
        const storage = backend.allocate(bytes);
        storages.push(storage);
        return storage;
      },
    },
  }) as Backend;
  expect(() => new StaticCache({ backend: scarce, layers: LAYERS, batchSize: 1, maxLength: 4 })).toThrow(
    'no memory left',
  );
  expect(storages.map(isFreed)).toEqual([true, true, true]);
});
