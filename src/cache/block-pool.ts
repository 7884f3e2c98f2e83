/** The memory of paged caches: reference-counted blocks of tokens (Kwon et al. 2023, PagedAttention). */

import { grouped, printAsText } from '../arguments/inspect.ts';
import { anything } from '../arguments/kinds.ts';
import { optionKinds } from '../arguments/options.ts';
import type { BackendHandle } from '../backend/handle.ts';
import type { CacheLayer, CacheStorage } from './cache.ts';
import { allocateStores, droppedStores, type LayerStore } from './layer-store.ts';
import { type CacheSides, checkParts, checkSizes } from './parts.ts';

/** Options of `BlockPool`. */
export interface BlockPoolOptions {
  /** The backend that holds the memory; that of the models that use it. */
  readonly backend: BackendHandle;
  /** Heads and dims of each layer of the model. */
  readonly layers: readonly CacheLayer[];
  /** Blocks to allocate, >= 1. */
  readonly numBlocks: number;
  /** Tokens per block; default 32. */
  readonly blockSize?: number;
  /** Default `f32`. */
  readonly dtype?: CacheStorage;
}

const NAME = 'BlockPool';
const OPTIONS = optionKinds<BlockPoolOptions>({
  backend: anything,
  layers: anything,
  numBlocks: anything,
  blockSize: anything,
  dtype: anything,
});

/** The memory of one layer of a pool, for the caches that use it. */
export let storeOf: (pool: BlockPool, layer: number) => LayerStore | undefined;
/** The free blocks of a pool, the next one to be taken last. */
export let freeBlocksOf: (pool: BlockPool) => readonly number[];
/**
 * Takes these blocks, in a pool of which none is taken: one reference for each time that a block is listed.
 * @param free the order of the others, as from `freeBlocksOf`; those it leaves out are taken after them
 */
export let takeBlocks: (pool: BlockPool, blocks: readonly number[], free: readonly number[]) => void;

/**
 * The memory of paged caches: `numBlocks` blocks of `blockSize` tokens, each over all layers. Blocks are
 * reference-counted: rows of caches on one pool can share the blocks of a common prefix, and a block is free
 * when no row refers to it.
 *
 * Source: Kwon et al. 2023, "Efficient memory management for large language model serving with
 * PagedAttention".
 * @example
 * const layers = Array.from({ length: 2 }, () => ({ numKeyValueHeads: 2, headDim: 64 }));
 * const pool = new BlockPool({ backend: getBackend(), layers, numBlocks: 64 });
 * const cache = new PagedCache({ pool, batchSize: 4, maxLength: 512 });
 */
export class BlockPool {
  /** Blocks allocated. */
  readonly numBlocks: number;
  /** Tokens of a block. */
  readonly blockSize: number;
  /** What each layer keeps per token. */
  readonly layers: readonly CacheLayer[];
  /** How keys and values are stored. */
  readonly dtype: CacheSides;
  /** Bytes allocated. */
  readonly bytes: number;
  readonly #stores: readonly LayerStore[];
  readonly #references: Int32Array;
  /**
   * Free blocks, the lowest last: a row that grows alone gets adjacent blocks, which attention reads as one
   * segment.
   */
  readonly #free: number[];
  #disposed = false;

  /** @throws RangeError for a size below 1, or when out of memory (nothing stays allocated then). */
  constructor(options: BlockPoolOptions) {
    const parts = checkParts(NAME, options, OPTIONS);
    const { numBlocks, blockSize = 32 } = options;
    checkSizes(NAME, { numBlocks, blockSize });
    this.numBlocks = numBlocks;
    this.blockSize = blockSize;
    this.layers = parts.layers;
    this.dtype = parts.dtype;
    this.#stores = allocateStores(parts, () => numBlocks * blockSize);
    this.bytes = this.#stores.reduce((sum, { bytes }) => sum + bytes, 0);
    this.#references = new Int32Array(numBlocks);
    this.#free = Array.from({ length: numBlocks }, (_, i) => numBlocks - 1 - i);
    droppedStores.register(this, this.#stores, this);
    // Frozen: addresses are computed from these sizes.
    Object.freeze(this);
  }

  /** Number of blocks that no row refers to. */
  get freeBlocks(): number {
    return this.#free.length;
  }

  /** Its blocks and bytes. */
  toString(): string {
    if (this.#disposed) return `${NAME} (disposed)`;
    const { numBlocks, blockSize, freeBlocks, bytes } = this;
    return `${NAME} ${numBlocks} blocks of ${blockSize} tokens, ${freeBlocks} free, ${grouped(bytes)} bytes`;
  }

  static {
    printAsText(BlockPool);
  }

  /** Number of rows that refer to a block. @throws RangeError for an invalid block */
  references(block: number): number {
    return this.#references[this.#checkBlock('references', block)];
  }

  /** Allocates a block, with one reference. @throws RangeError when none is free */
  take(): number {
    const block = this.#free.pop();
    if (block === undefined) throw new RangeError(`${NAME}: none of ${this.numBlocks} blocks is free`);
    this.#references[block] = 1;
    return block;
  }

  /** Adds a reference. @throws RangeError for an invalid block, Error for a free one */
  retain(block: number): void {
    this.#checkBlock('retain', block);
    if (this.#references[block] < 1) throw new Error(`${NAME}.retain: block ${block} is free`);
    this.#references[block]++;
  }

  /** Removes a reference. @throws RangeError for an invalid block, Error for a free one */
  release(block: number): void {
    this.#checkBlock('release', block);
    if (this.#references[block] < 1) throw new Error(`${NAME}.release: block ${block} is free already`);
    if (--this.#references[block] === 0) this.#free.push(block);
  }

  /**
   * Copies the first `tokens` tokens of a block, all layers.
   * @throws RangeError for invalid blocks, or more tokens than a block has; nothing is copied then
   */
  copy(to: number, from: number, tokens: number): void {
    if (this.#disposed) throw new Error(`${NAME}.copy: called after dispose()`);
    this.#checkBlock('copy', to);
    this.#checkBlock('copy', from);
    if (!Number.isInteger(tokens) || tokens < 0 || tokens > this.blockSize) {
      throw new RangeError(`${NAME}.copy: expected 0 to ${this.blockSize} tokens, got ${tokens}`);
    }
    if (to === from) return;
    for (const store of this.#stores) store.copy(to * this.blockSize, store, from * this.blockSize, tokens);
  }

  #checkBlock(method: string, block: number): number {
    if (Number.isInteger(block) && block >= 0 && block < this.#references.length) return block;
    throw new RangeError(
      `${NAME}.${method}: expected a block below ${this.#references.length}, got ${block}`,
    );
  }

  // Block b starts at slot b * blockSize.
  static {
    storeOf = (pool, layer) => {
      if (pool.#disposed) throw new Error(`${NAME}: used after dispose()`);
      return pool.#stores[layer];
    };
    freeBlocksOf = (pool) => [...pool.#free];
    takeBlocks = (pool, blocks, free) => {
      for (const block of blocks) pool.#references[pool.#checkBlock('take', block)]++;
      const listed = new Set([...blocks, ...free]);
      const others = pool.#free.filter((block) => !listed.has(block));
      pool.#free.splice(0, pool.#free.length, ...others, ...free);
    };
  }

  /** Frees the memory. Caches on the pool can then only be disposed. Safe to call twice. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    droppedStores.unregister(this);
    for (const store of this.#stores) store.release();
  }
}
