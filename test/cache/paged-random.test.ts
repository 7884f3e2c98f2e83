/**
 * Random operations on paged caches that share a pool, against a model of rows as arrays of numbered tokens.
 * After each operation every row has its tokens, and each block is counted once per row that holds it. At the
 * end all blocks are free.
 */
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/backend.ts';
import { setBackend } from '../../src/backend/registry.ts';
import { BlockPool, PagedCache } from '../../src/cache/index.ts';
import { tensor } from '../../src/ops/creation.ts';
import { decode } from '../../src/tensor/encode.ts';
import { runs } from '../runs.ts';

/** Two layers, so that a copied block is copied whole. */
const LAYERS = [
  { numKeyValueHeads: 1, headDim: 1 },
  { numKeyValueHeads: 2, headDim: 1, valueHeadDim: 2 },
];
const ROWS = 2;
const MAX_LENGTH = 13;

let backend: Backend;
beforeAll(async () => {
  backend = await setBackend('reference');
});

/** A cache and what its rows should hold. */
interface Pair {
  cache: PagedCache;
  rows: number[][];
}

class World {
  readonly pool: BlockPool;
  readonly pairs: Pair[] = [];
  readonly blockSize: number;
  #next = 1;

  constructor(numBlocks: number, blockSize: number) {
    this.blockSize = blockSize;
    this.pool = new BlockPool({ backend, layers: LAYERS, numBlocks, blockSize });
  }

  add(): void {
    this.pairs.push({
      cache: new PagedCache({ pool: this.pool, batchSize: ROWS, maxLength: MAX_LENGTH }),
      rows: [[], []],
    });
  }

  /** Tokens with numbers of their own: `[ROWS, T]`. */
  tokens(counts: readonly number[]): number[][] {
    return counts.map((count) => Array.from({ length: count }, () => this.#next++));
  }

  write(cache: PagedCache, layer: number, tokens: readonly number[][]): void {
    const T = Math.max(1, ...tokens.map((row) => row.length));
    const part = (K: number, H: number, sign: number) => {
      const flat = new Float32Array(ROWS * T * K * H);
      tokens.forEach((row, b) => {
        row.forEach((token, t) => {
          flat.fill(sign * (token + layer / 4), (b * T + t) * K * H, (b * T + t + 1) * K * H);
        });
      });
      return tensor(flat, { shape: [ROWS, T, K, H] });
    };
    const { numKeyValueHeads: K, headDim: H, valueHeadDim: Hv = H } = LAYERS[layer];
    const key = part(K, H, 1);
    const value = part(K, Hv, -1);
    cache.write(layer, key, value);
    key.dispose();
    value.dispose();
  }

  /** Whether the pool has the blocks that a pass needs, counted from the model alone. */
  fits(pair: Pair, counts: readonly number[], shared: (row: number) => boolean): boolean {
    let needed = 0;
    counts.forEach((count, row) => {
      const held = pair.rows[row].length;
      const blocks = (tokens: number) => Math.ceil(tokens / this.blockSize);
      needed +=
        blocks(held + count) - blocks(held) + (count > 0 && held % this.blockSize > 0 && shared(row) ? 1 : 0);
    });
    return needed <= this.pool.freeBlocks;
  }

  check(): void {
    const used = new Map<string, number>();
    for (const { cache, rows } of this.pairs) {
      expect(cache.lengths).toEqual(rows.map((row) => row.length));
      for (let layer = 0; layer < LAYERS.length; layer++) {
        const view = cache.view(layer);
        rows.forEach((row, b) => {
          expect(contents(view, b)).toEqual(row.map((token) => token + layer / 4));
        });
      }
      const blocks = new Set<number>();
      for (const row of cache.view(0).rows) {
        for (const { keyByteOffset, length } of row.segments) {
          for (let slot = keyByteOffset / 4; slot < keyByteOffset / 4 + length; slot++)
            blocks.add(Math.floor(slot / this.blockSize));
        }
      }
      expect(cache.bytes).toBe(blocks.size * (this.pool.bytes / this.pool.numBlocks));
      cache.view(0).rows.forEach((row, b) => {
        const own = new Set<number>();
        for (const { keyByteOffset, length } of row.segments)
          for (let slot = keyByteOffset / 4; slot < keyByteOffset / 4 + length; slot++)
            own.add(Math.floor(slot / this.blockSize));
        expect(own.size).toBe(Math.ceil(rows[b].length / this.blockSize));
        for (const block of own) used.set(String(block), (used.get(String(block)) ?? 0) + 1);
      });
    }
    let referenced = 0;
    for (let block = 0; block < this.pool.numBlocks; block++) {
      expect(this.pool.references(block)).toBe(used.get(String(block)) ?? 0);
      if (this.pool.references(block) > 0) referenced++;
    }
    expect(this.pool.freeBlocks).toBe(this.pool.numBlocks - referenced);
  }
}

function contents(view: ReturnType<PagedCache['view']>, row: number): number[] {
  const out: number[] = [];
  for (const { key, keyByteOffset, length } of view.rows[row].segments) {
    const all = decode(
      'f32',
      backend.read(key, keyByteOffset, length * view.keyTokenStride * 4),
      length * view.keyTokenStride,
    );
    for (let i = 0; i < length; i++) out.push(all[i * view.keyTokenStride]);
  }
  return out;
}

const row = fc.nat({ max: ROWS - 1 });
const which = fc.nat({ max: 3 });
const counts = fc.array(fc.nat({ max: 6 }), { minLength: ROWS, maxLength: ROWS });
const operation = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('append' as const), which, counts }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('fail' as const), which, counts, layers: fc.nat({ max: 2 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('truncate' as const), which, row, length: fc.nat({ max: 13 }) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('share' as const),
      which,
      row,
      from: which,
      fromRow: row,
      length: fc.nat({ max: 14 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('fork' as const), which }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reset' as const), which }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('dispose' as const), which }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('new' as const) }) },
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

function apply(world: World, op: Operation): void {
  if (op.kind === 'new') {
    if (world.pairs.length < 4) world.add();
    return;
  }
  const pair = world.pairs[op.which % world.pairs.length];
  if (pair === undefined) return;
  const { cache, rows } = pair;
  switch (op.kind) {
    case 'append':
    case 'fail': {
      const shared = (index: number) => {
        const segments = cache.view(0).rows[index].segments;
        const last = segments[segments.length - 1];
        const slot = last.keyByteOffset / 4 + last.length - 1;
        return world.pool.references(Math.floor(slot / world.blockSize)) > 1;
      };
      const tooLong = op.counts.some((count, index) => rows[index].length + count > MAX_LENGTH);
      if (tooLong || !world.fits(pair, op.counts, shared)) {
        expect(() => cache.reserve(op.counts)).toThrow(RangeError);
        return;
      }
      const tokens = world.tokens(op.counts);
      cache.reserve(op.counts);
      const layers = op.kind === 'fail' ? op.layers : LAYERS.length;
      for (let layer = 0; layer < layers; layer++) world.write(cache, layer, tokens);
      if (op.kind === 'append') {
        cache.commit();
        tokens.forEach((row, index) => {
          rows[index].push(...row);
        });
      } else cache.truncate(0, rows[0].length); // drops the pass
      return;
    }
    case 'truncate':
      if (op.length > rows[op.row].length)
        expect(() => cache.truncate(op.row, op.length)).toThrow(RangeError);
      else {
        cache.truncate(op.row, op.length);
        rows[op.row].length = op.length;
      }
      return;
    case 'share': {
      const from = world.pairs[op.from % world.pairs.length];
      const source = from.rows[op.fromRow];
      if (op.length > source.length) {
        expect(() => cache.share(op.row, from.cache, op.fromRow, op.length)).toThrow(RangeError);
        return;
      }
      const prefix = source.slice(0, op.length);
      cache.share(op.row, from.cache, op.fromRow, op.length);
      rows[op.row] = prefix;
      return;
    }
    case 'fork':
      if (world.pairs.length < 4)
        world.pairs.push({ cache: cache.fork(), rows: rows.map((row) => [...row]) });
      return;
    case 'reset':
      cache.reset();
      pair.rows = [[], []];
      return;
    case 'dispose':
      cache.dispose();
      cache.dispose();
      world.pairs.splice(world.pairs.indexOf(pair), 1);
      return;
  }
}

describe('PagedCache', () => {
  test('random operations', () => {
    let operations = 0;
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 5 }),
        fc.array(operation, { minLength: 1, maxLength: 40 }),
        (numBlocks, blockSize, list) => {
          const world = new World(numBlocks, blockSize);
          world.add();
          world.add();
          for (const op of list) {
            apply(world, op);
            world.check();
            operations++;
          }
          for (const { cache } of world.pairs) cache.dispose();
          expect(world.pool.freeBlocks).toBe(numBlocks);
          world.pool.dispose();
        },
      ),
      { numRuns: runs(600, 3000) },
    );
    expect(operations).toBeGreaterThan(2_000);
  });

  test('a block let go twice is an error, not a second owner', () => {
    const pool = new BlockPool({ backend, layers: LAYERS, numBlocks: 2 });
    const block = pool.take();
    pool.release(block);
    expect(() => pool.release(block)).toThrow(`BlockPool.release: block ${block} is free already`);
    expect(() => pool.retain(block)).toThrow('is free');
    pool.take();
    pool.take();
    expect(() => pool.take()).toThrow('none of 2 blocks is free');
    pool.dispose();
    pool.dispose();
  });

  test('no room in the pool: a RangeError with the numbers before anything is written', () => {
    const pool = new BlockPool({ backend, layers: LAYERS, numBlocks: 3, blockSize: 4 });
    const cache = new PagedCache({ pool, batchSize: 2, maxLength: 100 });
    expect(() => cache.reserve([9, 4])).toThrow(
      new RangeError("PagedCache.reserve: expected 4 free blocks of 4 tokens, got 3 of the pool's 3"),
    );
    expect(pool.freeBlocks).toBe(3);
    expect(() => cache.commit()).toThrow('expected reserve() first');
    cache.reserve([8, 4]);
    expect(pool.freeBlocks).toBe(0);
    cache.reserve([1, 0]);
    expect(pool.freeBlocks).toBe(2);
    cache.dispose();
    expect(pool.freeBlocks).toBe(3);
    expect(() => cache.share(0, cache, 0)).toThrow('called after dispose()');
  });
});
