/**
 * Caches taken apart, to copy them and to write them to a file: the numbers that describe a cache, and the
 * slots of memory that hold its tokens.
 */
import type { CacheLayer, KeyValueCache } from './cache.ts';
import type { LayerStore } from './layer-store.ts';
import type { CacheSides } from './parts.ts';

interface CommonState {
  readonly batchSize: number;
  readonly maxLength: number;
  readonly dtype: CacheSides;
  readonly layers: readonly CacheLayer[];
  /** Committed tokens of each row. */
  readonly lengths: readonly number[];
}

export interface StaticState extends CommonState {
  readonly kind: 'static';
}

export interface WindowState extends CommonState {
  readonly kind: 'window';
  readonly sinks: number;
  /** Per row: all positions below this were written. */
  readonly writtenEnd: readonly number[];
  /** Per layer: slots per row, and per row the first position that was not overwritten. */
  readonly rings: readonly { readonly capacity: number; readonly overwrittenBelow: readonly number[] }[];
}

export interface PagedState extends CommonState {
  readonly kind: 'paged';
  readonly blockSize: number;
  readonly numBlocks: number;
  /** Per row: its blocks. */
  readonly tables: readonly (readonly number[])[];
  /** The pool's free blocks, the next one to be taken last. */
  readonly free: readonly number[];
}

/** A cache without the bytes of its tokens: plain numbers, as JSON can hold them. */
export type CacheState = StaticState | WindowState | PagedState;

/** Adjacent slots that hold tokens. */
export type SlotRange = readonly [slot: number, count: number];

/** A cache's numbers and memory; valid until the cache changes. */
export interface CacheSnapshot {
  readonly state: CacheState;
  /** Per layer. */
  readonly stores: readonly LayerStore[];
  readonly ranges: readonly (readonly SlotRange[])[];
}

interface Access {
  /** Without reserved tokens and holds. @throws Error after dispose() */
  snapshot(): CacheSnapshot;
  /** Gives an empty cache of the same sizes these numbers. Its slots are to be filled next. */
  restore(state: CacheState): void;
}

const ACCESS = new WeakMap<KeyValueCache, Access>();

/** Called by the constructor of a cache that can be copied and stored. */
export function registerAccess(cache: KeyValueCache, access: Access): void {
  ACCESS.set(cache, access);
}

/** @returns undefined for a cache of another kind */
export function snapshotOf(cache: KeyValueCache): CacheSnapshot | undefined {
  return ACCESS.get(cache)?.snapshot();
}

/**
 * Gives `cache`, empty and made with the options of `state`, its numbers.
 * @returns the slots to fill with its tokens
 */
export function restoreState(cache: KeyValueCache, state: CacheState): CacheSnapshot {
  const access = ACCESS.get(cache) as Access;
  access.restore(state);
  return access.snapshot();
}

/** Makes `copy`, empty and made with the same options as `source`, a copy of it. */
export function copied<Cache extends KeyValueCache>(copy: Cache, source: Cache): Cache {
  try {
    const from = snapshotOf(source) as CacheSnapshot;
    const to = restoreState(copy, from.state);
    to.stores.forEach((store, layer) => {
      for (const [slot, count] of from.ranges[layer]) store.copy(slot, from.stores[layer], slot, count);
    });
    return copy;
  } catch (error) {
    copy.dispose();
    throw error;
  }
}
