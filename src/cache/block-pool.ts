/** The memory of paged caches: reference-counted blocks of tokens (Kwon et al. 2023, PagedAttention). */

import { anything } from '../arguments/kinds.ts';
import { optionKinds } from '../arguments/options.ts';
import type { BackendHandle } from '../backend/handle.ts';
import type { CacheLayer, CacheStorage } from './cache.ts';
import {
  allocateStores,
  type CacheSides,
  checkParts,
  checkSizes,
  droppedStores,
  type LayerStore,
} from './layer-store.ts';

/** Options of `BlockPool`. */
export interface BlockPoolOptions {
  /** Where the memory is; the backend of the models that write it. */
  readonly backend: BackendHandle;
  /** What each layer of the model keeps per token. */
  readonly layers: readonly CacheLayer[];
  /** Blocks to allocate, >= 1. */
  readonly numBlocks: number;
  /** Tokens of a block; default 32. */
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

/** The memory of one layer of a pool, for the caches on it. */
export let storeOf: (pool: BlockPool, layer: number) => LayerStore | undefined;

/**
 * The memory of paged caches: `numBlocks` blocks of `blockSize` tokens, each over all layers. A block counts the rows that
 * refer to it; caches on one pool share the blocks of equal prefixes, and a block is free when no row refers to it.
 *
 * Source: Kwon et al. 2023, "Efficient memory management for large language model serving with PagedAttention".
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
  /** Free blocks, the lowest last: rows that grow alone get neighbours, which attention reads as one piece. */
  readonly #free: number[];
  #disposed = false;

  /** @throws RangeError for a size below 1, or when the memory cannot be had (nothing stays allocated then). */
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
    // The sizes that places are worked out from.
    Object.freeze(this);
  }

  /** Blocks that no row refers to. */
  get freeBlocks(): number {
    return this.#free.length;
  }

  /** Rows that refer to a block. @throws RangeError for a block that is not there */
  references(block: number): number {
    return this.#references[this.#checkBlock('references', block)];
  }

  /** A block with one reference. @throws RangeError when none is free */
  take(): number {
    const block = this.#free.pop();
    if (block === undefined) throw new RangeError(`${NAME}: none of ${this.numBlocks} blocks is free`);
    this.#references[block] = 1;
    return block;
  }

  /** One row more refers to a block. @throws RangeError for a block that is not there, Error for a free one */
  retain(block: number): void {
    this.#checkBlock('retain', block);
    if (this.#references[block] < 1) throw new Error(`${NAME}.retain: block ${block} is free`);
    this.#references[block]++;
  }

  /** One row less does. @throws RangeError for a block that is not there, Error when it is free already */
  release(block: number): void {
    this.#checkBlock('release', block);
    if (this.#references[block] < 1) throw new Error(`${NAME}.release: block ${block} is free already`);
    if (--this.#references[block] === 0) this.#free.push(block);
  }

  /**
   * Copies the first `tokens` tokens of a block, all layers.
   * @throws RangeError for blocks that are not there, or more tokens than a block has; nothing is copied then
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

  // Block b is slots b * blockSize …
  static {
    storeOf = (pool, layer) => {
      if (pool.#disposed) throw new Error(`${NAME}: used after dispose()`);
      return pool.#stores[layer];
    };
  }

  /** Frees the memory; caches on it can be disposed and nothing else. Safe to call twice. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    droppedStores.unregister(this);
    for (const store of this.#stores) store.release();
  }
}
