/**
 * Caches of one row each as one cache of many rows, for a pass over rows that come and go: a batch of answers
 * of which some have ended. It holds no memory of its own.
 */
import type { CacheView } from '../ops/attend.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { CacheDType, KeyValueCache } from './cache.ts';

/** Row b is the only row of `caches[b]`. */
export class JoinedCache implements KeyValueCache {
  readonly caches: readonly KeyValueCache[];
  readonly batchSize: number;
  readonly maxLength: number;
  readonly numLayers: number;
  readonly dtype: CacheDType;
  readonly valueDtype: CacheDType;

  /** @param caches at least one, of one kind and model, one row each */
  constructor(caches: readonly KeyValueCache[]) {
    this.caches = caches;
    this.batchSize = caches.length;
    this.maxLength = Math.max(...caches.map((cache) => cache.maxLength));
    ({ numLayers: this.numLayers, dtype: this.dtype, valueDtype: this.valueDtype } = caches[0]);
  }

  get bytes(): number {
    return this.caches.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  get lengths(): readonly number[] {
    return this.caches.map((cache) => cache.lengths[0]);
  }

  reserve(tokensPerRow: number | readonly number[]): void {
    const count = (row: number) => (typeof tokensPerRow === 'number' ? tokensPerRow : tokensPerRow[row]);
    let row = 0;
    try {
      for (; row < this.batchSize; row++) this.caches[row].reserve(count(row));
    } catch (error) {
      // Discards the passes that have begun.
      for (const cache of this.caches.slice(0, row)) cache.truncate(0, cache.lengths[0]);
      throw error;
    }
  }

  write(layer: number, key: Tensor, value?: Tensor, firstRow = 0): void {
    this.caches.forEach((cache, row) => {
      cache.write(layer, key, value, firstRow + row);
    });
  }

  view(layer: number): CacheView {
    const views = this.caches.map((cache) => cache.view(layer));
    return { ...views[0], rows: views.flatMap((view) => view.rows) };
  }

  commit(): void {
    for (const cache of this.caches) cache.commit();
  }

  truncate(row: number, length: number): void {
    this.caches[row].truncate(0, length);
  }

  hold(row: number, length?: number): void {
    this.caches[row].hold?.(0, length);
  }

  fork(): JoinedCache {
    return new JoinedCache(this.caches.map((cache) => cache.fork()));
  }

  reset(): void {
    for (const cache of this.caches) cache.reset();
  }

  dispose(): void {
    for (const cache of this.caches) cache.dispose();
  }
}
