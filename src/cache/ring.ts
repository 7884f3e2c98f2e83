/** The ring buffers of a `WindowCache`: which slots of a row hold which positions. */
import type { KeyValueSegment } from '../backend/calls/attention.ts';
import type { LayerStore } from './layer-store.ts';

/** One layer: per row `sinks` slots that stay, then a ring. */
export interface Ring {
  store: LayerStore;
  /** Maximum number of keys a query sees, its own included. */
  readonly window: number;
  /** Slots per row, of which `capacity - sinks` form the ring. Grows after `hold`. */
  capacity: number;
  readonly sinks: number;
  /** Per row: tokens after the sinks and below this position had been overwritten when the ring grew. */
  readonly overwrittenBelow: number[];
}

/** The oldest position after the sinks that is still in a row's ring; `writtenEnd`: all below it were written. */
export function ringStart(
  { capacity, sinks, overwrittenBelow }: Ring,
  row: number,
  writtenEnd: number,
): number {
  return Math.max(sinks, overwrittenBelow[row], writtenEnd - (capacity - sinks));
}

/**
 * The stored positions of a row below `end`, oldest first: the sinks, then the ring in at most two
 * segments.
 */
export function ringSegments(ring: Ring, row: number, writtenEnd: number, end: number): KeyValueSegment[] {
  const { store, capacity, sinks } = ring;
  const base = row * capacity;
  const size = capacity - sinks;
  const start = ringStart(ring, row, writtenEnd);
  const segments: KeyValueSegment[] = [];
  const add = (slot: number, length: number) => {
    if (length > 0) segments.push(store.segment(base + slot, length));
  };
  if (start === sinks) {
    add(0, end);
    return segments;
  }
  add(0, sinks);
  const at = (start - sinks) % size;
  const first = Math.min(end - start, size - at);
  add(sinks + at, first);
  add(sinks, end - start - first);
  return segments;
}

/**
 * Copies the staged tokens of positions `from` … `to` into a row's ring; only the last if they exceed its
 * size.
 */
export function copyStaged(
  ring: Ring,
  staged: LayerStore,
  row: number,
  slot: number,
  from: number,
  to: number,
): void {
  const { store, capacity, sinks } = ring;
  const size = capacity - sinks;
  const base = row * capacity;
  const kept = Math.max(0, Math.min(sinks, to) - from);
  if (kept > 0) store.copy(base + from, staged, slot, kept);
  for (let p = Math.max(from, sinks, to - size); p < to; ) {
    const at = (p - sinks) % size;
    const count = Math.min(to - p, size - at);
    store.copy(base + sinks + at, staged, slot + p - from, count);
    p += count;
  }
}
