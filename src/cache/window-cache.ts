/**
 * A sliding-window cache. A layer with a window keeps the last `window` tokens of each row in a ring buffer
 * and, optionally, the first `sinks` tokens permanently: without these attention sinks, a model trained with
 * full attention breaks down (Xiao et al. 2023, StreamingLLM). Keys keep the positions they were rotated for.
 * Layers without a window keep all tokens, so models that alternate both kinds of layer need one cache.
 *
 * Per row a layer holds min(maxLength, sinks + window) tokens: position p < sinks at slot p, later ones at
 * sinks + (p - sinks) mod ring. If a pass would overwrite tokens that its own queries still see, its tokens
 * are staged in separate memory and copied into the ring on commit; until then the ring does not change.
 *
 * In a full ring only the last token can be truncated: the next query then takes its position and needs the
 * window - 1 keys before it. After `hold` any number can be truncated, because the ring grows instead of
 * overwriting the tokens needed.
 */

import { printAsText } from '../arguments/inspect.ts';
import { aNumber, anything, checkInteger } from '../arguments/kinds.ts';
import { optionKinds } from '../arguments/options.ts';
import type { BackendHandle } from '../backend/handle.ts';
import type { CacheView } from '../ops/attend.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { CacheDType, CacheLayer, CacheStorage, KeyValueCache } from './cache.ts';
import { cacheText } from './cache-text.ts';
import { allocateStores, droppedStores, LayerStore } from './layer-store.ts';
import { type CacheParts, checkParts, checkSizes } from './parts.ts';
import { Reservation } from './reservation.ts';
import { copyStaged, type Ring, ringSegments, ringStart } from './ring.ts';
import { type CacheSnapshot, copied, registerAccess, type WindowState } from './snapshot.ts';

/** Options of `WindowCache`. */
export interface WindowCacheOptions {
  /** The backend that holds the memory; that of the model. */
  readonly backend: BackendHandle;
  /** Heads and dims of each layer; a layer's `window` overrides the cache's. */
  readonly layers: readonly CacheLayer[];
  /** B >= 1 */
  readonly batchSize: number;
  /** Maximum tokens per row over its lifetime, overwritten ones included, >= 1. */
  readonly maxLength: number;
  /** Default `f32`. */
  readonly dtype?: CacheStorage;
  /** Window of layers that have none of their own; default: they keep every token. */
  readonly window?: number;
  /** First tokens of a row that stay visible; default 0. */
  readonly sinks?: number;
}

const NAME = 'WindowCache';
const OPTIONS = optionKinds<WindowCacheOptions>({
  backend: anything,
  layers: anything,
  batchSize: anything,
  maxLength: anything,
  dtype: anything,
  window: aNumber,
  sinks: aNumber,
});

/** A ring grows by a multiple of this many tokens, to grow rarely. */
const GROWTH = 16;

/**
 * A cache for sliding windows: a layer with a window keeps the last `window` tokens of each row in a ring,
 * and the first `sinks` tokens permanently. Layers without a window keep all tokens, so a model that
 * alternates both kinds of layer needs one cache. In a full ring `truncate` can remove one token; after
 * `hold` any number.
 *
 * Source: Xiao et al. 2023, "Efficient streaming language models with attention sinks".
 */
export class WindowCache implements KeyValueCache {
  readonly batchSize: number;
  readonly maxLength: number;
  readonly numLayers: number;
  readonly dtype: CacheDType;
  readonly valueDtype: CacheDType;
  readonly #parts: CacheParts;
  readonly #sinks: number;
  readonly #rings: readonly Ring[];
  readonly #stores: LayerStore[];
  readonly #pass: Reservation;
  /** Per row: all positions below this were written; beyond the ring's size they overwrote older ones. */
  readonly #writtenEnd: number[];
  /** Per row: the position set by `hold`. */
  readonly #held: (number | undefined)[];
  /**
   * Staged tokens of the pass, for layers where writing into the ring would overwrite visible keys: `[B,
   * longest]`.
   */
  readonly #staged: (LayerStore | undefined)[];
  #disposed = false;

  /** @throws RangeError for a size out of range, or when out of memory (nothing stays allocated then). */
  constructor(options: WindowCacheOptions) {
    const parts = checkParts(NAME, options, OPTIONS, options?.window);
    const { layers } = parts;
    const { batchSize, maxLength, sinks = 0 } = options;
    checkSizes(NAME, { batchSize, maxLength });
    checkInteger(NAME, 'sinks', sinks, 0);
    const capacityOf = ({ window }: CacheLayer) => Math.min(maxLength, sinks + (window ?? maxLength));
    this.batchSize = batchSize;
    this.maxLength = maxLength;
    this.numLayers = layers.length;
    ({ key: this.dtype, value: this.valueDtype } = parts.dtype);
    this.#parts = parts;
    this.#sinks = sinks;
    this.#stores = allocateStores(parts, (layer) => batchSize * capacityOf(layer));
    this.#pass = new Reservation(NAME, batchSize, maxLength, layers.length);
    this.#rings = layers.map((layer, i) => ({
      store: this.#stores[i],
      window: layer.window ?? maxLength,
      capacity: capacityOf(layer),
      sinks: Math.min(sinks, capacityOf(layer)),
      overwrittenBelow: new Array<number>(batchSize).fill(0),
    }));
    this.#writtenEnd = new Array<number>(batchSize).fill(0);
    this.#held = new Array<undefined>(batchSize).fill(undefined);
    this.#staged = new Array<undefined>(layers.length).fill(undefined);
    droppedStores.register(this, this.#stores, this);
    registerAccess(this, {
      snapshot: () => this.#snapshot(),
      restore: (state) => this.#restore(state as WindowState),
    });
    // Frozen: addresses are computed from these sizes.
    Object.freeze(this);
  }

  /** Bytes of the rings, grown by `hold` or not, and of staged tokens during a pass. */
  get bytes(): number {
    let bytes = 0;
    for (const store of this.#stores) bytes += store.bytes;
    for (const staged of this.#staged) bytes += staged?.bytes ?? 0;
    return bytes;
  }

  get lengths(): readonly number[] {
    return [...this.#pass.lengths];
  }

  reserve(tokensPerRow: number | readonly number[]): void {
    this.#checkAlive('reserve');
    this.#unstage();
    this.#pass.begin(tokensPerRow);
    try {
      this.#makeRoom();
    } catch (error) {
      this.#pass.cancel();
      throw error;
    }
  }

  write(layer: number, key: Tensor, value?: Tensor, firstRow?: number): void {
    const tokens = this.#pass.tokens('write');
    const ring = this.#ring('write', layer);
    ring.store.check(`${NAME}.write`, layer, key, value, tokens, firstRow);
    const { lengths } = this.#pass;
    const T = key.shape[1];
    const first = firstRow ?? 0;
    const fits = (count: number, row: number) =>
      count === 0 || Math.max(this.#writtenEnd[row], lengths[row] + count) <= ring.capacity;
    if (tokens.every(fits)) {
      // Nothing is overwritten: slots equal positions.
      tokens.forEach((count, row) => {
        ring.store.write(row * ring.capacity + lengths[row], key, value, (first + row) * T, count);
      });
    } else {
      const longest = Math.max(...tokens);
      const { backend, layers, dtype } = this.#parts;
      this.#staged[layer] ??= new LayerStore(backend, layers[layer], tokens.length * longest, dtype);
      tokens.forEach((count, row) => {
        this.#staged[layer]?.write(row * longest, key, value, (first + row) * T, count);
      });
    }
    this.#pass.markWritten(layer);
  }

  view(layer: number): CacheView {
    const ring = this.#ring('view', layer);
    const staged = this.#staged[layer];
    const perRow = staged === undefined ? 0 : Math.max(...this.#pass.tokens('view'));
    const rows = this.#pass.lengths.map((length, row) => {
      const written = this.#pass.visible(row);
      const segments = ringSegments(
        ring,
        row,
        this.#writtenEnd[row],
        staged === undefined ? written : length,
      );
      if (staged !== undefined) segments.push(staged.segment(row * perRow, written - length));
      return { length: segments.reduce((sum, segment) => sum + segment.length, 0), segments };
    });
    return ring.store.view(rows, ring.sinks);
  }

  commit(): void {
    this.#checkAlive('commit');
    const { lengths } = this.#pass;
    const before = [...lengths];
    this.#pass.commit();
    this.#staged.forEach((staged, layer) => {
      if (staged === undefined) return;
      const longest = Math.max(...lengths.map((length, row) => length - before[row]));
      for (let row = 0; row < before.length; row++)
        copyStaged(this.#rings[layer], staged, row, row * longest, before[row], lengths[row]);
    });
    this.#unstage();
    for (let row = 0; row < before.length; row++)
      this.#writtenEnd[row] = Math.max(this.#writtenEnd[row], lengths[row]);
  }

  /**
   * In a full ring, removes at most one token, or those added since `hold`.
   * @throws RangeError also when tokens that the row's next query sees were overwritten
   */
  truncate(row: number, length: number): void {
    this.#checkAlive('truncate');
    this.#checkPresent('truncate', row, length);
    this.#pass.truncate(row, length);
    this.#unstage();
    // Truncated into the sinks, or nothing overwritten so far: later positions count as unwritten.
    if (this.#rings.every(({ capacity, sinks }) => length <= sinks || this.#writtenEnd[row] <= capacity)) {
      this.#writtenEnd[row] = length;
    }
    for (const { sinks, overwrittenBelow } of this.#rings) if (length <= sinks) overwrittenBelow[row] = 0;
  }

  hold(row: number, length?: number): void {
    this.#checkAlive('hold');
    const before = this.#pass.lengths[row];
    if (before === undefined || !Number.isInteger(row)) {
      throw new RangeError(`${NAME}.hold: expected a row below ${this.batchSize}, got ${row}`);
    }
    if (length !== undefined && !(Number.isInteger(length) && length >= 0 && length <= before)) {
      throw new RangeError(
        `${NAME}.hold: expected a length from 0 to ${before} for row ${row}, got ${length}`,
      );
    }
    if (length !== undefined) this.#checkPresent('hold', row, length);
    this.#held[row] = length;
  }

  fork(): WindowCache {
    this.#checkAlive('fork');
    const { batchSize, maxLength } = this;
    return copied(new WindowCache({ ...this.#parts, batchSize, maxLength, sinks: this.#sinks }), this);
  }

  /** Its rows, layers, dtype and bytes. */
  toString(): string {
    return cacheText(NAME, this, this.#disposed);
  }

  static {
    printAsText(WindowCache);
  }

  reset(): void {
    this.#checkAlive('reset');
    this.#unstage();
    this.#pass.reset();
    this.#writtenEnd.fill(0);
    this.#held.fill(undefined);
    for (const { overwrittenBelow } of this.#rings) overwrittenBelow.fill(0);
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    droppedStores.unregister(this);
    this.#unstage();
    for (const store of this.#stores) store.release();
  }

  /**
   * @throws RangeError when tokens that a query at `length` sees were overwritten. Other invalid lengths are
   *   checked elsewhere.
   */
  #checkPresent(method: string, row: number, length: number): void {
    const before = this.#pass.lengths[row];
    if (before === undefined || !Number.isInteger(length) || length < 0 || length >= before) return;
    for (const [layer, ring] of this.#rings.entries()) {
      const { window, sinks } = ring;
      const low = ringStart(ring, row, this.#writtenEnd[row]);
      const needed = Math.max(sinks, length - window + 1);
      if (low > needed && length > sinks) {
        throw new RangeError(
          `${NAME}.${method}: a query at ${length} needs the tokens from ${needed} on, but row ${row} of layer ${layer} holds those from ${low} on`,
        );
      }
    }
  }

  /**
   * Grows the rings in which the pass would overwrite tokens that a row truncated to its held length needs.
   */
  #makeRoom(): void {
    for (let row = 0; row < this.batchSize; row++) {
      const held = this.#held[row];
      if (held === undefined) continue;
      const end = this.#pass.visible(row);
      for (const [layer, ring] of this.#rings.entries()) {
        const { window, capacity, sinks } = ring;
        const needed = end - Math.max(sinks, held - window + 1);
        if (Math.min(needed, this.maxLength - sinks) > capacity - sinks) {
          const larger = window + Math.ceil((needed - window) / GROWTH) * GROWTH;
          this.#grow(layer, Math.min(this.maxLength, sinks + larger));
        }
      }
    }
  }

  #grow(layer: number, capacity: number): void {
    const ring = this.#rings[layer];
    const { store: old, sinks } = ring;
    const { backend, layers, dtype } = this.#parts;
    const store = new LayerStore(backend, layers[layer], this.batchSize * capacity, dtype);
    const sizes = [ring.capacity - sinks, capacity - sinks];
    this.#writtenEnd.forEach((high, row) => {
      store.copy(row * capacity, old, row * ring.capacity, Math.min(sinks, high));
      const start = ringStart(ring, row, this.#writtenEnd[row]);
      for (let p = start; p < high; ) {
        const [from, to] = sizes.map((size) => (p - sinks) % size);
        const count = Math.min(high - p, sizes[0] - from, sizes[1] - to);
        store.copy(row * capacity + sinks + to, old, row * ring.capacity + sinks + from, count);
        p += count;
      }
      ring.overwrittenBelow[row] = start;
    });
    old.release();
    this.#stores[layer] = store;
    ring.store = store;
    ring.capacity = capacity;
  }

  #snapshot(): CacheSnapshot {
    this.#checkAlive('save');
    const { batchSize, maxLength, lengths } = this;
    const { layers, dtype } = this.#parts;
    const writtenEnd = [...this.#writtenEnd];
    const rings = this.#rings.map(({ capacity, overwrittenBelow }) => ({
      capacity,
      overwrittenBelow: [...overwrittenBelow],
    }));
    return {
      state: {
        ...{ kind: 'window', batchSize, maxLength, dtype, layers, lengths },
        ...{ sinks: this.#sinks, writtenEnd, rings },
      },
      stores: this.#stores,
      ranges: rings.map(({ capacity }) =>
        writtenEnd.map((end, row) => [row * capacity, Math.min(end, capacity)] as const),
      ),
    };
  }

  /** For an empty cache, whose rings may be smaller. */
  #restore({ lengths, writtenEnd, rings }: WindowState): void {
    rings.forEach(({ capacity, overwrittenBelow }, layer) => {
      if (capacity > this.#rings[layer].capacity) this.#grow(layer, capacity);
      overwrittenBelow.forEach((position, row) => {
        this.#rings[layer].overwrittenBelow[row] = position;
      });
    });
    writtenEnd.forEach((end, row) => {
      this.#writtenEnd[row] = end;
    });
    this.#pass.assignAll(lengths);
  }

  #unstage(): void {
    for (let layer = 0; layer < this.#staged.length; layer++) {
      this.#staged[layer]?.release();
      this.#staged[layer] = undefined;
    }
  }

  #ring(method: string, layer: number): Ring {
    this.#checkAlive(method);
    const ring = this.#rings[layer];
    if (!ring)
      throw new RangeError(`${NAME}.${method}: expected a layer below ${this.numLayers}, got ${layer}`);
    return ring;
  }

  #checkAlive(method: string): void {
    if (this.#disposed) throw new Error(`${NAME}.${method}: called after dispose()`);
  }
}
