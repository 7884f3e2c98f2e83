/**
 * A cache of fixed capacity: per layer one storage for keys `[B, maxLength, K, H]` and one for values
 * `[B, maxLength, K, Hv]`, allocated up front. A row is one segment, so a token costs no bookkeeping; a row's unused
 * capacity is the price.
 */
import type { Backend, KeyValueView, Operand } from '../backend/backend.ts';
import { byteLengthOf } from '../tensor/dtype.ts';
import { type Shape, shapeText } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { CacheLayer, KeyValueCache } from './cache.ts';
import { Reservation } from './reservation.ts';

/** How a static cache can store keys and values. */
export type StaticCacheDType = 'f32' | 'f16' | 'bf16';

export interface StaticCacheOptions {
  /** Where the memory is; the backend of the model that writes it. */
  readonly backend: Backend;
  readonly layers: readonly CacheLayer[];
  /** B >= 1 */
  readonly batchSize: number;
  /** Tokens a row can hold, >= 1. */
  readonly maxLength: number;
  /** Default `f32`. */
  readonly dtype?: StaticCacheDType;
}

/** One layer's memory. */
interface LayerStore {
  readonly key: Operand;
  readonly value: Operand;
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  readonly valueHeadDim: number;
}

/** Frees the memory of caches that were dropped without `dispose`. */
const registry = new FinalizationRegistry<readonly LayerStore[]>(release);

function release(stores: readonly LayerStore[]): void {
  for (const { key, value } of stores) {
    key.storage.release();
    value.storage.release();
  }
}

export class StaticCache implements KeyValueCache {
  readonly batchSize: number;
  readonly maxLength: number;
  readonly numLayers: number;
  readonly dtype: StaticCacheDType;
  readonly bytes: number;
  readonly #backend: Backend;
  readonly #stores: LayerStore[] = [];
  readonly #pass: Reservation;
  #disposed = false;

  /** @throws RangeError for a size below 1, or when the memory cannot be had (nothing stays allocated then). */
  constructor(options: StaticCacheOptions) {
    const { backend, layers, batchSize, maxLength, dtype = 'f32' } = options;
    for (const [name, size] of Object.entries({ batchSize, maxLength })) {
      if (!Number.isSafeInteger(size) || size < 1) {
        throw new RangeError(`StaticCache: expected ${name} to be a positive integer, got ${size}`);
      }
    }
    if (dtype !== 'f32' && dtype !== 'f16' && dtype !== 'bf16') {
      throw new TypeError(`StaticCache: expected dtype f32, f16 or bf16, got ${dtype}`);
    }
    this.batchSize = batchSize;
    this.maxLength = maxLength;
    this.numLayers = layers.length;
    this.dtype = dtype;
    this.#backend = backend;
    this.#pass = new Reservation('StaticCache', batchSize, maxLength, layers.length);
    let bytes = 0;
    const allocate = (shape: Shape): Operand => {
      const byteLength = byteLengthOf(dtype, shape[0] * shape[1] * shape[2] * shape[3]);
      bytes += byteLength;
      const operand: Operand = { storage: backend.allocate(byteLength), dtype, shape };
      // Touches every page now: no decode step waits for one, and what `bytes` says is resident from the start.
      backend.fill(operand, 0);
      return operand;
    };
    try {
      for (const { numKeyValueHeads: K, headDim: H, valueHeadDim: Hv = H } of layers) {
        const key = allocate([batchSize, maxLength, K, H]);
        let value: Operand;
        try {
          value = allocate([batchSize, maxLength, K, Hv]);
        } catch (error) {
          key.storage.release();
          throw error;
        }
        this.#stores.push({ key, value, numKeyValueHeads: K, headDim: H, valueHeadDim: Hv });
      }
    } catch (error) {
      release(this.#stores);
      throw error;
    }
    this.bytes = bytes;
    registry.register(this, this.#stores, this);
  }

  get lengths(): readonly number[] {
    return [...this.#pass.lengths];
  }

  reserve(tokensPerRow: number | readonly number[]): void {
    this.#checkAlive('reserve');
    this.#pass.begin(tokensPerRow);
  }

  write(layer: number, key: Tensor, value: Tensor): void {
    const tokens = this.#pass.tokens('write');
    const store = this.#store('write', layer);
    this.#check('key', layer, key, store.numKeyValueHeads, store.headDim, tokens);
    this.#check('value', layer, value, store.numKeyValueHeads, store.valueHeadDim, tokens);
    this.#copy(store.key, key, tokens);
    this.#copy(store.value, value, tokens);
    this.#pass.markWritten(layer);
  }

  view(layer: number): KeyValueView {
    const { key, value, numKeyValueHeads, headDim, valueHeadDim } = this.#store('view', layer);
    const keyRowBytes = byteLengthOf(this.dtype, this.maxLength * numKeyValueHeads * headDim);
    const valueRowBytes = byteLengthOf(this.dtype, this.maxLength * numKeyValueHeads * valueHeadDim);
    const rows: KeyValueView['rows'][number][] = [];
    for (let row = 0; row < this.batchSize; row++) {
      const length = this.#pass.visible(row);
      const segment = {
        key: key.storage,
        keyByteOffset: row * keyRowBytes,
        value: value.storage,
        valueByteOffset: row * valueRowBytes,
        length,
      };
      rows.push({ length, segments: [segment] });
    }
    return {
      keyDtype: this.dtype,
      valueDtype: this.dtype,
      numKeyValueHeads,
      headDim,
      valueHeadDim,
      keyTokenStride: numKeyValueHeads * headDim,
      keyHeadStride: headDim,
      valueTokenStride: numKeyValueHeads * valueHeadDim,
      valueHeadStride: valueHeadDim,
      rows,
    };
  }

  commit(): void {
    this.#checkAlive('commit');
    this.#pass.commit();
  }

  truncate(row: number, length: number): void {
    this.#checkAlive('truncate');
    this.#pass.truncate(row, length);
  }

  reset(): void {
    this.#checkAlive('reset');
    this.#pass.reset();
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    registry.unregister(this);
    release(this.#stores);
  }

  /** Copies each row's own count of tokens behind its committed ones, converting to the cache's dtype. */
  #copy(out: Operand, x: Tensor, tokens: readonly number[]): void {
    const perToken = x.shape[2] * x.shape[3];
    for (let row = 0; row < this.batchSize; row++) {
      if (tokens[row] === 0) continue;
      const outOffset = (row * this.maxLength + this.#pass.lengths[row]) * perToken;
      this.#backend.convert(out, outOffset, x, row * x.shape[1] * perToken, tokens[row] * perToken);
    }
  }

  #check(name: string, layer: number, x: Tensor, K: number, H: number, tokens: readonly number[]): void {
    const { shape } = x;
    let longest = 0;
    for (const count of tokens) if (count > longest) longest = count;
    const fits = shape.length === 4 && shape[0] === this.batchSize && shape[1] >= longest;
    if (!fits || shape[2] !== K || shape[3] !== H) {
      throw new RangeError(
        `StaticCache.write: expected ${name} of layer ${layer} to be [${this.batchSize}, T >= ${longest}, ${K}, ${H}], got ${shapeText(shape)}`,
      );
    }
    if (x.isDisposed) throw new Error(`StaticCache.write: ${name} of layer ${layer} was disposed`);
    if (x.storage.owner !== this.#backend) {
      throw new TypeError(
        `StaticCache.write: expected tensors of the ${this.#backend.name} backend, got ${x.storage.owner.name}`,
      );
    }
  }

  #store(method: string, layer: number): LayerStore {
    this.#checkAlive(method);
    const store = this.#stores[layer];
    if (!store) {
      throw new RangeError(`StaticCache.${method}: expected a layer below ${this.numLayers}, got ${layer}`);
    }
    return store;
  }

  #checkAlive(method: string): void {
    if (this.#disposed) throw new Error(`StaticCache.${method}: called after dispose()`);
  }
}
