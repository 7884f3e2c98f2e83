/**
 * Which tokens a cache holds, for models whose rotary frequencies change with the length (LongRoPE, dynamic
 * NTK scaling).
 *
 * Keys already in a cache were rotated, and later layers computed, by the frequencies of the length they had
 * then. When a row gets other frequencies its tokens are fed again, so that a row is always what one pass
 * over it would be; transformers' `generate` does the same for Phi-3. Past its original length a dynamic
 * model has other frequencies at every length. The tokens take four bytes each.
 */
import type { KeyValueCache } from '../cache/cache.ts';
import type { RopeTable } from './rope-table.ts';

interface HeldRow {
  readonly tokens: number[];
  /** The length that chose the frequencies of the row in the cache. */
  end: number;
}

export class TokenHistory {
  readonly #tables: readonly RopeTable[];
  readonly #held = new WeakMap<KeyValueCache, HeldRow[]>();

  /** @param tables those of the model that have several sets of frequencies */
  constructor(tables: readonly RopeTable[]) {
    this.#tables = tables;
  }

  /**
   * Empties the rows of `cache` that get other frequencies by the next tokens (or that were cut back to
   * others).
   * @param ends lengths of the rows after the next tokens
   * @throws Error when the cache holds tokens that did not come through this history; nothing has changed
   * then
   * @returns per row the tokens to feed again, empty for rows that stay
   */
  takeStale(cache: KeyValueCache, ends: readonly number[]): readonly (readonly number[])[] {
    const { lengths } = cache;
    const rows = this.#rows(cache);
    rows.forEach(({ tokens }, row) => {
      // A row may have been truncated or reset since.
      if (tokens.length > lengths[row]) tokens.length = lengths[row];
    });
    const stale = rows.map(
      ({ end }, row) =>
        lengths[row] > 0 && !this.#tables.every((table) => table.sameFrequencies(end, ends[row])),
    );
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

  /** Notes tokens that `cache` has committed. `ends` are the lengths that chose their frequencies. */
  append(cache: KeyValueCache, added: readonly ArrayLike<number>[], ends: readonly number[]): void {
    this.#rows(cache).forEach((row, index) => {
      for (let i = 0; i < added[index].length; i++) row.tokens.push(added[index][i]);
      if (added[index].length > 0) row.end = ends[index];
    });
  }

  #rows(cache: KeyValueCache): HeldRow[] {
    let rows = this.#held.get(cache);
    if (!rows) {
      rows = Array.from({ length: cache.batchSize }, () => ({ tokens: [], end: 0 }));
      this.#held.set(cache, rows);
    }
    return rows;
  }
}
