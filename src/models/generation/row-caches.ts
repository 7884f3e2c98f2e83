/** The caches of several rows that begin with the same prompt: in blocks of one pool, which they share. */
import type { KeyValueCache } from '../../cache/cache.ts';
import { PagedCache } from '../../cache/paged-cache.ts';
import type { Model } from '../model.ts';
import { copyHistory } from '../token-history.ts';

/** Tokens of a block. Attention reads keys 16 at a time, so blocks of 32 give the bits of one segment. */
const BLOCK_SIZE = 32;

export class RowCaches {
  /** One row each. */
  readonly rows: readonly KeyValueCache[];

  /**
   * @param count rows; one has the cache that `generate` makes
   * @param promptLength tokens that all rows share
   * @param maxLength most tokens of a row
   * @throws RangeError when there is no memory; nothing stays allocated then
   */
  constructor(model: Model, count: number, promptLength: number, maxLength: number) {
    if (count === 1) {
      this.rows = [model.initCache({ batchSize: 1, maxLength })];
      return;
    }
    const shared = Math.floor(promptLength / BLOCK_SIZE);
    // One more than a row's own: its copy of a shared block, until the pass that writes to it ends.
    const own = Math.ceil(maxLength / BLOCK_SIZE) - shared + 1;
    const numBlocks = shared + count * own;
    const sizes = { batchSize: 1, maxLength };
    const first = model.initCache({ ...sizes, kind: 'paged', blockSize: BLOCK_SIZE, numBlocks });
    const { pool } = first as PagedCache;
    this.rows = [first, ...Array.from({ length: count - 1 }, () => new PagedCache({ ...sizes, pool }))];
  }

  /** Makes every row hold what the first one holds. */
  share(): void {
    for (const row of this.rows.slice(1)) shareRow(row, this.rows[0]);
  }

  dispose(): void {
    // The first owns the pool.
    for (const row of [...this.rows].reverse()) row.dispose();
  }
}

/** Makes a cache of `RowCaches` hold the tokens of another one. */
export function shareRow(to: KeyValueCache, from: KeyValueCache): void {
  (to as PagedCache).share(0, from as PagedCache, 0);
  copyHistory(to, from);
}
