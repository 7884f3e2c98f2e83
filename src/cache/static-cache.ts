/** A cache of fixed capacity, allocated up front. */

import { printAsText } from '../arguments/inspect.ts';
import { anything } from '../arguments/kinds.ts';
import { optionKinds } from '../arguments/options.ts';
import type { BackendHandle } from '../backend/handle.ts';
import type { CacheView } from '../ops/attend.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { CacheDType, CacheLayer, CacheStorage, KeyValueCache } from './cache.ts';
import { cacheText } from './cache-text.ts';
import { allocateStores, droppedStores, type LayerStore } from './layer-store.ts';
import { type CacheParts, checkParts, checkSizes } from './parts.ts';
import { Reservation } from './reservation.ts';
import { type CacheSnapshot, copied, registerAccess } from './snapshot.ts';

/** Options of `StaticCache`. */
export interface StaticCacheOptions {
  /** The backend that holds the memory; that of the model. */
  readonly backend: BackendHandle;
  /** Heads and dims of each layer of the model. */
  readonly layers: readonly CacheLayer[];
  /** B >= 1 */
  readonly batchSize: number;
  /** Tokens a row can hold, >= 1. */
  readonly maxLength: number;
  /** Default `f32`. */
  readonly dtype?: CacheStorage;
}

const NAME = 'StaticCache';
const OPTIONS = optionKinds<StaticCacheOptions>({
  backend: anything,
  layers: anything,
  batchSize: anything,
  maxLength: anything,
  dtype: anything,
});

/**
 * A cache of fixed capacity: `[B, maxLength]` tokens per layer, allocated up front. Each row is one
 * contiguous segment; the capacity that a row does not use is wasted.
 * @example
 * const layers = [{ numKeyValueHeads: 2, headDim: 64 }];
 * const cache = new StaticCache({ backend: getBackend(), layers, batchSize: 1, maxLength: 128, dtype: 'bf16' });
 * cache.reserve(1);
 * cache.write(0, zeros([1, 1, 2, 64]), zeros([1, 1, 2, 64])); // one token: [B, T, K, H]
 * const out = attend(zeros([1, 1, 8, 64]), cache.view(0)); // [B, T, N, H]
 * cache.commit();
 */
export class StaticCache implements KeyValueCache {
  readonly batchSize: number;
  readonly maxLength: number;
  readonly numLayers: number;
  readonly dtype: CacheDType;
  readonly valueDtype: CacheDType;
  readonly bytes: number;
  readonly #parts: CacheParts;
  readonly #stores: readonly LayerStore[];
  readonly #pass: Reservation;
  #disposed = false;

  /** @throws RangeError for a size below 1, or when out of memory (nothing stays allocated then). */
  constructor(options: StaticCacheOptions) {
    const parts = checkParts(NAME, options, OPTIONS);
    const { batchSize, maxLength } = options;
    checkSizes(NAME, { batchSize, maxLength });
    this.batchSize = batchSize;
    this.maxLength = maxLength;
    this.numLayers = parts.layers.length;
    this.#parts = parts;
    ({ key: this.dtype, value: this.valueDtype } = parts.dtype);
    this.#stores = allocateStores(parts, () => batchSize * maxLength);
    this.#pass = new Reservation(NAME, batchSize, maxLength, parts.layers.length);
    this.bytes = this.#stores.reduce((sum, { bytes }) => sum + bytes, 0);
    droppedStores.register(this, this.#stores, this);
    registerAccess(this, {
      snapshot: () => this.#snapshot(),
      restore: ({ lengths }) => this.#pass.assignAll(lengths),
    });
    // Frozen: addresses are computed from these sizes.
    Object.freeze(this);
  }

  get lengths(): readonly number[] {
    return [...this.#pass.lengths];
  }

  reserve(tokensPerRow: number | readonly number[]): void {
    this.#checkAlive('reserve');
    this.#pass.begin(tokensPerRow);
  }

  write(layer: number, key: Tensor, value?: Tensor, firstRow?: number): void {
    const tokens = this.#pass.tokens('write');
    const store = this.#store('write', layer);
    store.check(`${NAME}.write`, layer, key, value, tokens, firstRow);
    for (let row = 0; row < this.batchSize; row++) {
      const slot = row * this.maxLength + this.#pass.lengths[row];
      store.write(slot, key, value, ((firstRow ?? 0) + row) * key.shape[1], tokens[row]);
    }
    this.#pass.markWritten(layer);
  }

  view(layer: number): CacheView {
    const store = this.#store('view', layer);
    return store.view(
      this.#pass.lengths.map((_, row) => {
        const length = this.#pass.visible(row);
        return { length, segments: [store.segment(row * this.maxLength, length)] };
      }),
    );
  }

  commit(): void {
    this.#checkAlive('commit');
    this.#pass.commit();
  }

  truncate(row: number, length: number): void {
    this.#checkAlive('truncate');
    this.#pass.truncate(row, length);
  }

  fork(): StaticCache {
    this.#checkAlive('fork');
    const { batchSize, maxLength } = this;
    return copied(new StaticCache({ ...this.#parts, batchSize, maxLength }), this);
  }

  /** Its rows, layers, dtype and bytes. */
  toString(): string {
    return cacheText(NAME, this, this.#disposed);
  }

  static {
    printAsText(StaticCache);
  }

  reset(): void {
    this.#checkAlive('reset');
    this.#pass.reset();
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    droppedStores.unregister(this);
    for (const store of this.#stores) store.release();
  }

  #snapshot(): CacheSnapshot {
    this.#checkAlive('save');
    const { batchSize, maxLength, lengths } = this;
    const { layers, dtype } = this.#parts;
    const ranges = lengths.map((length, row) => [row * maxLength, length] as const);
    return {
      state: { kind: 'static', batchSize, maxLength, dtype, layers, lengths },
      stores: this.#stores,
      ranges: layers.map(() => ranges),
    };
  }

  #store(method: string, layer: number): LayerStore {
    this.#checkAlive(method);
    const store = this.#stores[layer];
    if (!store)
      throw new RangeError(`${NAME}.${method}: expected a layer below ${this.numLayers}, got ${layer}`);
    return store;
  }

  #checkAlive(method: string): void {
    if (this.#disposed) throw new Error(`${NAME}.${method}: called after dispose()`);
  }
}
