/**
 * The memory of paged caches (Kwon et al. 2023, PagedAttention): blocks of `blockSize` tokens, each over all layers, counted by
 * how many rows refer to them. Caches on one pool share blocks of equal prefixes; the last to let go frees a block.
 */
import type { Backend } from '../backend/backend.ts';
import type { CacheLayer, CacheStorage } from './cache.ts';
import {
  allocateStores,
  checkParts,
  checkSizes,
  checkStorage,
  droppedStores,
  type LayerStore,
} from './layer-store.ts';

export interface BlockPoolOptions {
  /** Where the memory is; the backend of the models that write it. */
  readonly backend: Backend;
  readonly layers: readonly CacheLayer[];
  readonly numBlocks: number;
  /** Tokens of a block; default 32. */
  readonly blockSize?: number;
  /** Default `f32`. */
  readonly dtype?: CacheStorage;
}

const NAME = 'BlockPool';

export class BlockPool {
  readonly numBlocks: number;
  readonly blockSize: number;
  readonly layers: readonly CacheLayer[];
  readonly dtype: CacheStorage;
  /** Bytes allocated. */
  readonly bytes: number;
  readonly #stores: readonly LayerStore[];
  readonly #references: Int32Array;
  /** Free blocks, the lowest last: rows that grow alone get neighbours, which attention reads as one piece. */
  readonly #free: number[];
  #disposed = false;

  /** @throws RangeError for a size below 1, or when the memory cannot be had (nothing stays allocated then). */
  constructor(options: BlockPoolOptions) {
    checkParts(NAME, options);
    const { backend, layers, numBlocks, blockSize = 32, dtype = 'f32' } = options;
    checkSizes(NAME, { numBlocks, blockSize });
    checkStorage(NAME, dtype);
    this.numBlocks = numBlocks;
    this.blockSize = blockSize;
    this.layers = layers;
    this.dtype = dtype;
    this.#stores = allocateStores(NAME, backend, layers, () => numBlocks * blockSize, dtype);
    this.bytes = this.#stores.reduce((sum, { bytes }) => sum + bytes, 0);
    this.#references = new Int32Array(numBlocks);
    this.#free = Array.from({ length: numBlocks }, (_, i) => numBlocks - 1 - i);
    droppedStores.register(this, this.#stores, this);
  }

  get freeBlocks(): number {
    return this.#free.length;
  }

  /** Rows that refer to a block. */
  references(block: number): number {
    return this.#references[block];
  }

  /** The memory of one layer; block b is slots b * blockSize … */
  store(layer: number): LayerStore | undefined {
    if (this.#disposed) throw new Error(`${NAME}.store: called after dispose()`);
    return this.#stores[layer];
  }

  /** A block with one reference. @throws RangeError when none is free */
  take(): number {
    const block = this.#free.pop();
    if (block === undefined) throw new RangeError(`${NAME}: none of ${this.numBlocks} blocks is free`);
    this.#references[block] = 1;
    return block;
  }

  retain(block: number): void {
    if (this.#references[block] < 1) throw new Error(`${NAME}.retain: block ${block} is free`);
    this.#references[block]++;
  }

  /** @throws Error when the block is free already */
  release(block: number): void {
    if (this.#references[block] < 1) throw new Error(`${NAME}.release: block ${block} is free already`);
    if (--this.#references[block] === 0) this.#free.push(block);
  }

  /** Copies the first `tokens` tokens of a block, all layers. */
  copy(to: number, from: number, tokens: number): void {
    for (const store of this.#stores) store.copy(to * this.blockSize, store, from * this.blockSize, tokens);
  }

  /** Frees the memory; caches on it can be disposed and nothing else. Safe to call twice. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    droppedStores.unregister(this);
    for (const store of this.#stores) store.release();
  }
}
