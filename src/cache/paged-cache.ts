/** A cache whose rows are lists of blocks from a pool (`BlockPool`). */

import { printAsText } from '../arguments/inspect.ts';
import { aBoolean, anything, describe } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { CacheView } from '../ops/attend.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { BlockPool, freeBlocksOf, storeOf, takeBlocks } from './block-pool.ts';
import type { CacheDType, KeyValueCache } from './cache.ts';
import { cacheText } from './cache-text.ts';
import type { LayerStore } from './layer-store.ts';
import { checkSizes } from './parts.ts';
import { Reservation } from './reservation.ts';
import { type CacheSnapshot, type PagedState, registerAccess } from './snapshot.ts';

/** Options of `PagedCache`. */
export interface PagedCacheOptions {
  /** The pool of blocks; several caches may share it. */
  readonly pool: BlockPool;
  /** B >= 1 */
  readonly batchSize: number;
  /** Maximum tokens per row; the pool may run out of blocks earlier. */
  readonly maxLength: number;
  /** Whether this cache owns the pool and frees it; `bytes` is then the pool's. Default false. */
  readonly ownsPool?: boolean;
}

const NAME = 'PagedCache';
const OPTIONS = optionKinds<PagedCacheOptions>({
  pool: anything,
  batchSize: anything,
  maxLength: anything,
  ownsPool: aBoolean,
});

/** Adjacent blocks, read as one segment of slots from `slot` on. */
interface Run {
  readonly slot: number;
  readonly length: number;
}

/**
 * A cache whose rows are lists of blocks from a pool. A row allocates blocks as it grows. Rows with a common
 * prefix share its blocks; a write into a shared block copies it first. Layers with a window also keep older
 * tokens, because a block spans all layers.
 */
export class PagedCache implements KeyValueCache {
  /** Where the blocks come from. */
  readonly pool: BlockPool;
  readonly batchSize: number;
  readonly maxLength: number;
  readonly numLayers: number;
  readonly dtype: CacheDType;
  readonly valueDtype: CacheDType;
  readonly #ownsPool: boolean;
  readonly #pass: Reservation;
  /** Block table of each row: the blocks of its committed tokens. */
  readonly #tables: number[][];
  /** During a pass: the block tables after commit, and the blocks allocated for them. */
  #pending: number[][] | undefined;
  #taken: number[] = [];
  /** The segments of each row in a view; computed once for all layers. */
  #runs: readonly (readonly Run[])[] | undefined;
  #disposed = false;

  /** @throws RangeError for a size below 1 */
  constructor(options: PagedCacheOptions) {
    checkOptions(NAME, options, OPTIONS);
    const { pool, batchSize, maxLength, ownsPool = false } = options;
    checkSizes(NAME, { batchSize, maxLength });
    if (!(pool instanceof BlockPool))
      throw new TypeError(`${NAME}: expected pool to be a BlockPool, got ${describe(pool)}`);
    this.pool = pool;
    this.batchSize = batchSize;
    this.maxLength = maxLength;
    this.numLayers = pool.layers.length;
    ({ key: this.dtype, value: this.valueDtype } = pool.dtype);
    this.#ownsPool = ownsPool;
    this.#pass = new Reservation(NAME, batchSize, maxLength, pool.layers.length);
    this.#tables = Array.from({ length: batchSize }, () => []);
    registerAccess(this, {
      snapshot: () => this.#snapshot(),
      restore: (state) => this.#restore(state as PagedState),
    });
    // Frozen: addresses are computed from these sizes.
    Object.freeze(this);
  }

  /** Bytes of the whole pool if owned, else of the blocks this cache refers to, each counted once. */
  get bytes(): number {
    const { bytes, numBlocks } = this.pool;
    if (this.#ownsPool) return bytes;
    return new Set([...this.#tables.flat(), ...this.#taken]).size * (bytes / numBlocks);
  }

  get lengths(): readonly number[] {
    return [...this.#pass.lengths];
  }

  /** @throws RangeError also when the pool has too few free blocks; nothing is reserved then. */
  reserve(tokensPerRow: number | readonly number[]): void {
    this.#checkAlive('reserve');
    this.#drop();
    this.#pass.begin(tokensPerRow);
    const { blockSize, freeBlocks, numBlocks } = this.pool;
    const tokens = this.#pass.tokens('reserve');
    const copies = this.#tables.map((table, row) => tokens[row] > 0 && this.#sharesTail(table, row));
    const needs = this.#tables.map(
      (table, row) => Math.ceil(this.#pass.visible(row) / blockSize) - table.length + (copies[row] ? 1 : 0),
    );
    const needed = needs.reduce((sum, need) => sum + need, 0);
    if (needed > freeBlocks) {
      this.#pass.cancel();
      throw new RangeError(
        `${NAME}.reserve: expected ${needed} free blocks of ${blockSize} tokens, got ${freeBlocks} of the pool's ${numBlocks}`,
      );
    }
    this.#pending = this.#tables.map((table, row) => {
      const next = copies[row] ? table.slice(0, -1) : [...table];
      for (let i = 0; i < needs[row]; i++) next.push(this.#take());
      if (copies[row]) {
        const used = this.#pass.lengths[row] % blockSize;
        this.pool.copy(next[table.length - 1], table[table.length - 1], used);
      }
      return next;
    });
  }

  write(layer: number, key: Tensor, value?: Tensor, firstRow?: number): void {
    const tokens = this.#pass.tokens('write');
    const store = this.#store('write', layer);
    store.check(`${NAME}.write`, layer, key, value, tokens, firstRow);
    for (let row = 0; row < this.batchSize; row++) {
      const start = this.#pass.lengths[row];
      let from = ((firstRow ?? 0) + row) * key.shape[1];
      for (const { slot, length } of this.#runsOf(row, start, start + tokens[row])) {
        store.write(slot, key, value, from, length);
        from += length;
      }
    }
    this.#pass.markWritten(layer);
  }

  view(layer: number): CacheView {
    const store = this.#store('view', layer);
    this.#runs ??= this.#tables.map((_, row) => this.#runsOf(row, 0, this.#pass.visible(row)));
    return store.view(
      this.#runs.map((runs, row) => ({
        length: this.#pass.visible(row),
        segments: runs.map(({ slot, length }) => store.segment(slot, length)),
      })),
    );
  }

  commit(): void {
    this.#checkAlive('commit');
    this.#pass.commit();
    this.#pending?.forEach((next, row) => {
      const table = this.#tables[row];
      table.forEach((block, i) => {
        if (next[i] !== block) this.pool.release(block); // replaced by its copy
      });
      this.#tables[row] = next;
    });
    this.#pending = undefined;
    this.#taken = [];
    this.#runs = undefined;
  }

  truncate(row: number, length: number): void {
    this.#checkAlive('truncate');
    this.#pass.truncate(row, length);
    this.#drop();
    const table = this.#tables[row];
    const kept = Math.ceil(length / this.pool.blockSize);
    for (const block of table.splice(kept)) this.pool.release(block);
  }

  /**
   * Makes a row hold the first `length` tokens of another row, here or in another cache of the pool, without
   * copying them: both refer to the same blocks until one writes. The row's own tokens are removed; an
   * unfinished pass is discarded.
   * @param length default: all of the other row's tokens
   * @throws RangeError for an invalid row or length, Error for a cache of another pool
   */
  share(row: number, source: PagedCache, sourceRow: number, length?: number): void {
    this.#checkAlive('share');
    source.#checkAlive('share');
    if (source.pool !== this.pool) throw new Error(`${NAME}.share: expected a cache of the same pool`);
    for (const [cache, index] of [
      [this, row],
      [source, sourceRow],
    ] as const) {
      if (!Number.isInteger(index) || cache.#tables[index] === undefined) {
        throw new RangeError(`${NAME}.share: expected a row below ${cache.batchSize}, got ${index}`);
      }
    }
    const held = source.#pass.lengths[sourceRow];
    const tokens = length ?? held;
    const most = Math.min(held, this.maxLength);
    if (!Number.isInteger(tokens) || tokens < 0 || tokens > most) {
      throw new RangeError(`${NAME}.share: expected a length up to ${most}, got ${tokens}`);
    }
    this.#drop();
    const next = source.#tables[sourceRow].slice(0, Math.ceil(tokens / this.pool.blockSize));
    for (const block of next) this.pool.retain(block);
    for (const block of this.#tables[row]) this.pool.release(block);
    this.#tables[row] = next;
    this.#pass.assign(row, tokens);
  }

  /** A cache on the same pool with the same rows, sharing their blocks until one of them writes. */
  fork(): PagedCache {
    this.#checkAlive('fork');
    const { pool, batchSize, maxLength } = this;
    const copy = new PagedCache({ pool, batchSize, maxLength });
    for (let row = 0; row < batchSize; row++) copy.share(row, this, row);
    return copy;
  }

  /** Its rows, layers, dtype and bytes. */
  toString(): string {
    return cacheText(NAME, this, this.#disposed);
  }

  static {
    printAsText(PagedCache);
  }

  reset(): void {
    this.#checkAlive('reset');
    this.#drop();
    this.#pass.reset();
    this.#releaseRows();
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#drop();
    this.#releaseRows();
    this.#disposed = true;
    if (this.#ownsPool) this.pool.dispose();
  }

  #snapshot(): CacheSnapshot {
    this.#checkAlive('save');
    const { batchSize, maxLength, lengths, pool } = this;
    const { layers, dtype, blockSize, numBlocks } = pool;
    /** Block -> tokens in it. Rows that share a block may use different parts of it. */
    const used = new Map<number, number>();
    const tables = this.#tables.map((table, row) => {
      table.forEach((block, i) => {
        const tokens = Math.min(blockSize, lengths[row] - i * blockSize);
        used.set(block, Math.max(tokens, used.get(block) ?? 0));
      });
      return [...table];
    });
    const ranges = [...used].map(([block, tokens]) => [block * blockSize, tokens] as const);
    return {
      state: {
        ...{ kind: 'paged', batchSize, maxLength, dtype, layers, lengths },
        ...{ blockSize, numBlocks, tables, free: freeBlocksOf(pool) },
      },
      stores: layers.map((_, layer) => this.#store('save', layer)),
      ranges: layers.map(() => ranges),
    };
  }

  /** For a cache that is alone on its pool. */
  #restore({ lengths, tables, free }: PagedState): void {
    takeBlocks(this.pool, tables.flat(), free);
    tables.forEach((table, row) => {
      this.#tables[row] = [...table];
    });
    this.#pass.assignAll(lengths);
  }

  #releaseRows(): void {
    for (const table of this.#tables) for (const block of table.splice(0)) this.pool.release(block);
  }

  /** Releases the blocks of an unfinished pass. */
  #drop(): void {
    for (const block of this.#taken.splice(0)) this.pool.release(block);
    this.#pending = undefined;
    this.#runs = undefined;
  }

  #take(): number {
    const block = this.pool.take();
    this.#taken.push(block);
    return block;
  }

  /** Whether the row's last block is shared and partly filled, so that a write must copy it. */
  #sharesTail(table: readonly number[], row: number): boolean {
    return (
      this.#pass.lengths[row] % this.pool.blockSize > 0 && this.pool.references(table[table.length - 1]) > 1
    );
  }

  /** Tokens `start` … `end` of a row as runs of adjacent slots. */
  #runsOf(row: number, start: number, end: number): Run[] {
    const { blockSize } = this.pool;
    const table = this.#pending?.[row] ?? this.#tables[row];
    const runs: Run[] = [];
    for (let p = start; p < end; ) {
      const inside = p % blockSize;
      const count = Math.min(blockSize - inside, end - p);
      const slot = table[Math.floor(p / blockSize)] * blockSize + inside;
      const last = runs[runs.length - 1];
      if (last !== undefined && last.slot + last.length === slot)
        runs[runs.length - 1] = { slot: last.slot, length: last.length + count };
      else runs.push({ slot, length: count });
      p += count;
    }
    return runs;
  }

  #store(method: string, layer: number): LayerStore {
    this.#checkAlive(method);
    const store = storeOf(this.pool, layer);
    if (!store)
      throw new RangeError(`${NAME}.${method}: expected a layer below ${this.numLayers}, got ${layer}`);
    return store;
  }

  #checkAlive(method: string): void {
    if (this.#disposed) throw new Error(`${NAME}.${method}: called after dispose()`);
  }
}
