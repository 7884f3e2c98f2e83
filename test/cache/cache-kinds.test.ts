/**
 * Every cache kind with every storage type on every backend: tokens in random chunks, in rows of different
 * lengths, give the output of one pass.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/backend.ts';
import { open, setBackend } from '../../src/backend/registry.ts';
import {
  BlockPool,
  type CacheLayer,
  type CacheStorage,
  type KeyValueCache,
  loadCache,
  PagedCache,
  StaticCache,
  saveCache,
  WindowCache,
} from '../../src/cache/index.ts';
import { MemoryFolder } from '../../src/files/memory-folder.ts';
import { attend } from '../../src/ops/attend.ts';
import { tensor, zeros } from '../../src/ops/creation.ts';
import { BACKENDS, expectClose } from '../models/golden.ts';
import { allocated, expectedRow, feed, randomSequences, storageError, valueDim } from './attention-oracle.ts';

interface Kind {
  readonly name: string;
  readonly window?: number;
  readonly sinks?: number;
  make(backend: Backend, layer: CacheLayer, B: number, S: number, dtype: CacheStorage): KeyValueCache;
  /** Tokens allocated per row of S tokens. */
  slots(S: number): number;
}

const windowKind = (window: number, sinks: number): Kind => ({
  name: `window ${window}, ${sinks} sinks`,
  window,
  sinks,
  make: (backend, layer, batchSize, maxLength, dtype) =>
    new WindowCache({ backend, layers: [layer], batchSize, maxLength, dtype, window, sinks }),
  slots: (S) => Math.min(S, window + sinks),
});
const pagedKind = (blockSize: number, window?: number): Kind => ({
  name: `paged by ${blockSize}${window === undefined ? '' : `, window ${window}`}`,
  window,
  make: (backend, layer, batchSize, maxLength, dtype) => {
    const numBlocks = batchSize * Math.ceil(maxLength / blockSize);
    const pool = new BlockPool({ backend, layers: [{ ...layer, window }], numBlocks, blockSize, dtype });
    return new PagedCache({ pool, batchSize, maxLength, ownsPool: true });
  },
  slots: (S) => Math.ceil(S / blockSize) * blockSize,
});

const KINDS: readonly Kind[] = [
  {
    name: 'static',
    make: (backend, layer, batchSize, maxLength, dtype) =>
      new StaticCache({ backend, layers: [layer], batchSize, maxLength, dtype }),
    slots: (S) => S,
  },
  ...[windowKind(1000, 0), windowKind(11, 0), windowKind(1, 0), windowKind(7, 3), windowKind(13, 1)],
  ...[pagedKind(1), pagedKind(5), pagedKind(32), pagedKind(5, 7)],
];
const STORAGES: readonly CacheStorage[] = [
  'f32',
  'bf16',
  'f16',
  'q8_0',
  { key: 'q8_0', value: 'f16' },
  { key: 'f32', value: 'q8_0' },
];
/** H of a whole block, of one and a bit, and awkward ones; V's apart, and V as columns of K. */
const LAYERS: readonly CacheLayer[] = [
  { numKeyValueHeads: 2, headDim: 32 },
  { numKeyValueHeads: 1, headDim: 41, valueHeadDim: 19 },
  { numKeyValueHeads: 1, headDim: 41, latentDim: 37 },
  { numKeyValueHeads: 1, headDim: 80, latentDim: 64 },
];

const sides = (dtype: CacheStorage) => (typeof dtype === 'string' ? { key: dtype, value: dtype } : dtype);
const nameOf = (dtype: CacheStorage) => (typeof dtype === 'string' ? dtype : `${dtype.key}/${dtype.value}`);
const bytesOf = {
  f32: (n: number) => 4 * n,
  bf16: (n: number) => 2 * n,
  f16: (n: number) => 2 * n,
  q8_0: (n: number) => Math.ceil(n / 32) * 34,
};

describe.each(BACKENDS)('%s', (name) => {
  const cases = KINDS.flatMap((kind) =>
    STORAGES.map((dtype) => [kind.name, nameOf(dtype), kind, dtype] as const),
  );
  test.each(cases)('%s, %s', async (_, __, kind, dtype) => {
    const { backend, held } = allocated(await setBackend(name));
    for (const layer of LAYERS) {
      const { latentDim } = layer;
      if (latentDim !== undefined && typeof dtype !== 'string') continue; // refused, below
      const [B, S] = [3, 47];
      const x = randomSequences(B, S, 3, layer);
      const lengths: number[] = [S, 31, 17];
      const cache = kind.make(open(name), layer, B, S, dtype);
      const own = kind.make(backend, layer, B, S, dtype);
      const { numKeyValueHeads: K, headDim: H } = layer;
      const Hv = valueDim(layer);
      const valueBytes = latentDim === undefined ? bytesOf[sides(dtype).value](Hv) : 0;
      const perToken = K * (bytesOf[sides(dtype).key](H) + valueBytes);
      expect(own.bytes).toBe(B * kind.slots(S) * perToken);
      expect(held()).toBe(own.bytes);
      own.dispose();
      expect(held()).toBe(0);

      // One pass over everything.
      const whole = feed(cache, x, [0, 0, 0], lengths);
      expect(cache.bytes).toBe(B * kind.slots(S) * perToken);
      const allowed = storageError(x, sides(dtype).key, sides(dtype).value);
      whole.forEach((out, row) => {
        const want = expectedRow(x, row, kind.window, kind.sinks).subarray(0, out.length);
        expectClose(out, want, Math.max(1e-5, allowed), 'against plain loops');
      });

      // The same in chunks that differ by row, with a failed pass between them.
      cache.reset();
      const at: number[] = [0, 0, 0];
      for (let step = 0; at.some((done, row) => done < lengths[row]); step++) {
        const counts = at.map((done, row) => Math.min((step * (row + 3) * 5) % 8, lengths[row] - done));
        if (Math.max(...counts) === 0) counts[0] = Math.min(1, lengths[0] - at[0]);
        if (Math.max(...counts) === 0) continue;
        if (step % 3 === 1)
          feed(
            cache,
            x,
            at.map(() => 0),
            counts,
            false,
          );
        const outs = feed(cache, x, at, counts);
        outs.forEach((out, row) => {
          const from = at[row] * x.N * Hv;
          expectClose(out, whole[row].subarray(from, from + out.length), 1e-5, `row ${row} at ${at[row]}`);
          at[row] += counts[row];
        });
      }
      expect(cache.lengths).toEqual(lengths);

      // A view that was kept is known for what it is, whatever has come into being since.
      const view = cache.view(0);
      cache.dispose();
      const later = Array.from({ length: 8 }, (_, i) => zeros([B, 1, x.N, (i + 1) * H]));
      expect(() => attend(later[0], view)).toThrow(
        'expected the view of a live cache, got one after dispose()',
      );
      for (const made of later) made.dispose();
    }
  });

  test.each(cases)('%s, %s: a fork and a stored copy go on alone', async (_, __, kind, dtype) => {
    await setBackend(name);
    // V apart, and V as columns of K.
    for (const layer of [LAYERS[1], LAYERS[2]]) {
      if (layer.latentDim !== undefined && typeof dtype !== 'string') continue;
      const x = randomSequences(3, 47, 3, layer);
      const other = randomSequences(3, 47, 3, layer, 99);
      const cache = kind.make(open(name), layer, 3, 47, dtype);
      // A full ring, a truncated row, and a pass that is not committed.
      feed(cache, x, [0, 0, 0], [30, 9, 2]);
      feed(cache, other, [30, 9, 2], [1, 0, 1]);
      cache.truncate(0, 30);
      cache.truncate(2, 2);
      const { bytes } = cache;
      feed(cache, other, [30, 9, 2], [3, 3, 3], false);
      const fork = cache.fork();
      const place = { folder: new MemoryFolder('memory'), file: 'cache.safetensors' };
      await saveCache(place, cache);
      const model = { backend: open(name), cacheLayers: [{ ...layer, window: undefined }] };
      const loaded = await loadCache(place, model);
      for (const copy of [fork, loaded]) {
        expect(copy.lengths).toEqual([30, 9, 2]);
        expect([copy.batchSize, copy.maxLength, copy.numLayers]).toEqual([3, 47, 1]);
        expect([copy.dtype, copy.valueDtype]).toEqual([cache.dtype, cache.valueDtype]);
      }
      expect(loaded.bytes).toBe(bytes);
      const forked = feed(fork, other, [30, 9, 2], [2, 0, 3]);
      const want = feed(cache, x, [30, 9, 2], [9, 0, 5]);
      const got = feed(loaded, x, [30, 9, 2], [9, 0, 5]);
      expect(got).toEqual(want);
      expect(fork.lengths).toEqual([32, 9, 5]);
      expect(forked[0][0]).not.toBe(want[0][0]);
      fork.dispose();
      expect(feed(loaded, x, [39, 9, 7], [8, 30, 2])).toEqual(feed(cache, x, [39, 9, 7], [8, 30, 2]));
      for (const one of [loaded, cache]) one.dispose();
      expect(() => fork.fork()).toThrow('called after dispose()');
      await expect(saveCache(place, cache)).rejects.toThrow('called after dispose()');
    }
  });

  test.each(KINDS.map((kind) => [kind.name, kind] as const))('%s: rollback', async (_, kind) => {
    await setBackend(name);
    const layer = LAYERS[0];
    const x = randomSequences(1, 40, 2, layer);
    const cache = kind.make(open(name), layer, 1, 40, 'f32');
    const whole = feed(cache, x, [0], [40])[0];
    cache.reset();
    feed(cache, x, [0], [5]);
    const other = randomSequences(1, 40, 2, layer, 99);
    let length = 5;
    for (const [ahead, back] of [
      [1, 1],
      [3, 2],
      [1, 0],
      [20, 1],
      [2, 1],
      [1, 1],
    ]) {
      feed(cache, other, [length], [ahead]);
      // A ring that is full goes back by one token at most.
      const target = length + ahead - (kind.window === undefined ? back : Math.min(back, 1));
      cache.truncate(0, target);
      length = target;
    }
    // The tail of the right sequence over whatever was there, as far as the window reaches back.
    cache.reset();
    feed(cache, x, [0], [30]);
    feed(cache, other, [30], [1]);
    cache.truncate(0, 30);
    const out = feed(cache, x, [30], [10])[0];
    expectClose(out, whole.subarray(30 * x.N * 32), 1e-5);
    cache.dispose();
  });
});

describe('latent rows', () => {
  const backend = open('reference');
  const make = (latentDim: number, dtype?: CacheStorage) =>
    new StaticCache({
      backend,
      layers: [{ numKeyValueHeads: 1, headDim: 8, latentDim }],
      batchSize: 1,
      maxLength: 4,
      dtype,
    });

  test('values are columns of the keys, in one type', () => {
    expect(() => make(9)).toThrow('StaticCache: expected latentDim from 1 to headDim=8, got 9');
    expect(() => make(0)).toThrow('StaticCache: expected latentDim from 1 to headDim=8, got 0');
    expect(() => make(6, { key: 'f32', value: 'f16' })).toThrow(
      'StaticCache: expected one dtype for latent rows, got f32 and f16',
    );
  });

  test('only keys are written', async () => {
    await setBackend('reference');
    const cache = make(6);
    const rows = tensor(new Float32Array(8), { shape: [1, 1, 1, 8] });
    cache.reserve(1);
    expect(() => cache.write(0, rows, rows)).toThrow(
      'StaticCache.write: expected no value for layer 0, whose values are columns of its keys',
    );
    cache.write(0, rows);
    cache.commit();
    expect(cache.bytes).toBe(4 * 8 * 4);
    cache.dispose();
    cache.dispose();
  });
});

describe('rings', () => {
  beforeAll(async () => {
    await setBackend('reference');
  });
  const layer = { numKeyValueHeads: 1, headDim: 4 };
  const make = (options: { window?: number; sinks?: number }) =>
    new WindowCache({
      backend: open('reference'),
      layers: [layer, { ...layer, window: 6 }],
      batchSize: 1,
      maxLength: 30,
      ...options,
    });

  test('tokens that are gone are refused with the numbers, and nothing changes', () => {
    const cache = make({});
    const one = (count: number) => {
      const x = randomSequences(1, 30, 1, layer);
      cache.reserve(count);
      feedBoth(cache, x, count);
      cache.commit();
    };
    one(10);
    expect(() => cache.truncate(0, 5)).toThrow(
      new RangeError(
        'WindowCache.truncate: a query at 5 needs the tokens from 0 on, but row 0 of layer 1 holds those from 4 on',
      ),
    );
    expect(cache.lengths).toEqual([10]);
    cache.truncate(0, 9);
    expect(() => cache.truncate(0, 8)).toThrow(RangeError);
    cache.truncate(0, 0);
    one(6);
    cache.truncate(0, 2);
    one(28);
    expect(() => cache.reserve(1)).toThrow(
      'WindowCache.reserve: row 0 holds 30 of 30 tokens, no room for 1 more',
    );
    expect(cache.bytes).toBe((30 + 6) * 4 * 4 * 2);
    cache.dispose();
    expect(() => cache.view(0)).toThrow('called after dispose()');
  });

  test('bytes count a pass that stands beside the ring', () => {
    const cache = make({ window: 5, sinks: 2 });
    const rest = cache.bytes;
    expect(rest).toBe((7 + 8) * 4 * 4 * 2);
    const x = randomSequences(1, 30, 1, layer);
    cache.reserve(20);
    feedBoth(cache, x, 20);
    expect(cache.bytes).toBe(rest + 2 * 20 * 4 * 4 * 2);
    cache.reserve(1);
    expect(cache.bytes).toBe(rest);
    cache.dispose();
  });

  test('sizes are checked', () => {
    expect(() => make({ window: 0 })).toThrow('WindowCache: expected window to be a positive integer, got 0');
    expect(() => make({ sinks: -1 })).toThrow(
      'WindowCache: expected sinks to be a non-negative integer, got -1',
    );
  });

  function feedBoth(cache: WindowCache, x: ReturnType<typeof randomSequences>, count: number) {
    const part = tensor(x.key.slice(0, count * 4), { shape: [1, count, 1, 4] });
    for (const index of [0, 1]) cache.write(index, part, part);
  }
});
