/**
 * Which tokens a cache holds, for models whose rotary frequencies change with the length (LongRoPE).
 *
 * Keys already in a cache were rotated, and later layers computed, by the frequencies of the length they had then. When a
 * row crosses the boundary its tokens are fed anew, so that a row is always what one pass over it would be; transformers'
 * `generate` does the same. Four bytes per token are the price.
 */
import type { KeyValueCache } from '../cache/cache.ts';

interface HeldRow {
  readonly tokens: number[];
  /** Whether the row in the cache was made with the frequencies of long sequences. */
  long: boolean;
}

export class TokenHistory {
  /** Rows up to this length use the first frequencies, longer ones the second. */
  readonly #switchLength: number;
  readonly #held = new WeakMap<KeyValueCache, HeldRow[]>();

  constructor(switchLength: number) {
    this.#switchLength = switchLength;
  }

  /**
   * Empties the rows of `cache` that the next tokens carry over the boundary (or that were cut back behind it).
   * @param ends lengths of the rows after the next tokens
   * @throws Error when the cache holds tokens that did not come through this history; nothing has changed then
   * @returns per row the tokens to feed again, empty for rows that stay
   */
  takeStale(cache: KeyValueCache, ends: readonly number[]): readonly (readonly number[])[] {
    const { lengths } = cache;
    const rows = this.#rows(cache);
    rows.forEach(({ tokens }, row) => {
      // A row may have been truncated or reset since.
      if (tokens.length > lengths[row]) tokens.length = lengths[row];
    });
    const stale = rows.map(({ long }, row) => lengths[row] > 0 && long !== ends[row] > this.#switchLength);
    stale.forEach((isStale, row) => {
      if (isStale && rows[row].tokens.length < lengths[row]) {
        throw new Error(
          `forward: row ${row} crosses ${this.#switchLength} tokens, where this model's rotary frequencies change, and its cache holds ${lengths[row]} tokens of which ${rows[row].tokens.length} came from this model; feed all into an empty cache`,
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
      if (added[index].length > 0) row.long = ends[index] > this.#switchLength;
    });
  }

  #rows(cache: KeyValueCache): HeldRow[] {
    let rows = this.#held.get(cache);
    if (!rows) {
      rows = Array.from({ length: cache.batchSize }, () => ({ tokens: [], long: false }));
      this.#held.set(cache, rows);
    }
    return rows;
  }
}
