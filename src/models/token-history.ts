/**
 * Which tokens a cache holds, for models whose rotary frequencies change with the length (LongRoPE, dynamic
 * NTK scaling).
 *
 * Cached keys, and the layers above them, were computed with the frequencies of the length at that time. When
 * the frequencies of a row change, its tokens are processed again, so that the cache always equals that of
 * one pass; transformers' `generate` does the same for Phi-3. With dynamic NTK scaling the frequencies change
 * with every token past the original length. A token takes four bytes here.
 */
import type { KeyValueCache } from '../cache/cache.ts';
import { JoinedCache } from '../cache/joined-cache.ts';
import type { RopeTable } from './rope-table.ts';

interface HeldRow {
  readonly tokens: number[];
  /** The length that chose the frequencies of the row in the cache. */
  end: number;
}

const HELD = new WeakMap<KeyValueCache, HeldRow[]>();

/** Says that the one row of `cache` holds the tokens of the one row of `source`, such as after `share`. */
export function copyHistory(cache: KeyValueCache, source: KeyValueCache): void {
  const rows = HELD.get(source);
  if (rows) HELD.set(cache, [{ tokens: [...rows[0].tokens], end: rows[0].end }]);
}

export class TokenHistory {
  readonly #tables: readonly RopeTable[];

  /** @param tables those of the model that have several sets of frequencies */
  constructor(tables: readonly RopeTable[]) {
    this.#tables = tables;
  }

  /** Whether rows of both lengths rotate by the same frequencies. */
  sameFrequencies(length: number, other: number): boolean {
    return this.#tables.every((table) => table.sameFrequencies(length, other));
  }

  /**
   * Empties the rows of `cache` whose frequencies change with the next tokens (or changed by truncation).
   * @param ends lengths of the rows after the next tokens
   * @throws Error when the cache holds tokens that did not come through this history; nothing has changed
   * then
   * @returns per row the tokens to process again; empty for unchanged rows
   */
  takeStale(cache: KeyValueCache, ends: readonly number[]): readonly (readonly number[])[] {
    const { lengths } = cache;
    const rows = this.#rows(cache);
    rows.forEach(({ tokens }, row) => {
      // A row may have been truncated or reset since.
      if (tokens.length > lengths[row]) tokens.length = lengths[row];
    });
    const stale = rows.map(({ end }, row) => lengths[row] > 0 && !this.sameFrequencies(end, ends[row]));
    stale.forEach((isStale, row) => {
      if (isStale && rows[row].tokens.length < lengths[row]) {
        throw new Error(
          `forward: row ${row} crosses ${Math.min(...this.#tables.map(({ switchLength }) => switchLength))} tokens, where this model's rotary frequencies change, and its cache holds ${lengths[row]} tokens of which ${rows[row].tokens.length} came from this model; feed all into an empty cache`,
        );
      }
    });
    return rows.map(({ tokens }, row) => {
      if (!stale[row]) return [];
      cache.truncate(row, 0);
      return tokens.splice(0);
    });
  }

  /** Records tokens that `cache` has committed. `ends` are the lengths that chose their frequencies. */
  append(cache: KeyValueCache, added: readonly ArrayLike<number>[], ends: readonly number[]): void {
    this.#rows(cache).forEach((row, index) => {
      for (let i = 0; i < added[index].length; i++) row.tokens.push(added[index][i]);
      if (added[index].length > 0) row.end = ends[index];
    });
  }

  #rows(cache: KeyValueCache): HeldRow[] {
    if (cache instanceof JoinedCache) return cache.caches.flatMap((row) => this.#rows(row));
    let rows = HELD.get(cache);
    if (!rows) {
      rows = Array.from({ length: cache.batchSize }, () => ({ tokens: [], end: 0 }));
      HELD.set(cache, rows);
    }
    return rows;
  }
}
