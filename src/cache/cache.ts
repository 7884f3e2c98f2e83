/**
 * The protocol of every KV cache. A forward pass reserves room for its tokens, each layer writes its keys and
 * values and attends to the view, and one commit adds the tokens:
 *
 *   reserve(tokens) -> for each layer: write(layer, key, value), view(layer) -> commit()
 *
 * Until `commit` the committed tokens do not change: after an error, or another `reserve`, the cache is as
 * before. A cache that overwrites old tokens (a ring) or shares them (pages) must therefore store reserved
 * tokens elsewhere until `commit`.
 */
import type { CacheView } from '../ops/attend.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Storage dtypes of keys and values; `q8_0` stores blocks of 32 values with a scale, 34 bytes each. */
export type CacheDType = 'f32' | 'f16' | 'bf16' | 'q8_0';
/** One dtype for keys and values, or one for each. */
export type CacheStorage = CacheDType | { readonly key: CacheDType; readonly value: CacheDType };

/** What one layer stores per token. */
export interface CacheLayer {
  /** K */
  readonly numKeyValueHeads: number;
  /** H of keys. */
  readonly headDim: number;
  /** H of values; default `headDim`. */
  readonly valueHeadDim?: number;
  /**
   * For multi-head latent attention, instead of `valueHeadDim`: values are the first `latentDim` columns of
   * the keys, in the same memory. Only keys are written (`[B, T, 1, latent + rope]`), in one storage dtype.
   */
  readonly latentDim?: number;
  /** Maximum number of keys a query sees, its own included; default all. A window cache stores only these. */
  readonly window?: number;
}

/**
 * The interface of every KV cache. A forward pass reserves room for its tokens, each layer writes its keys
 * and values and attends to the view, and `commit` adds the tokens:
 *
 * `reserve(tokens)`, then for each layer `write(layer, key, value)` and `view(layer)`, then `commit()`.
 *
 * Until `commit` the committed tokens do not change: an error, or another `reserve`, discards the pass.
 */
export interface KeyValueCache {
  /** B */
  readonly batchSize: number;
  /** Tokens a row can hold. */
  readonly maxLength: number;
  readonly numLayers: number;
  /** How keys are stored. */
  readonly dtype: CacheDType;
  /** How values are stored. */
  readonly valueDtype: CacheDType;
  /** Bytes allocated, all layers and rows. */
  readonly bytes: number;
  /** Committed tokens of each row: a copy. */
  readonly lengths: readonly number[];

  /**
   * Begins a pass of `tokensPerRow` new tokens, one count for all rows or one per row; discards an unfinished
   * pass.
   * @throws RangeError when a row has no room for its tokens; nothing is reserved then.
   */
  reserve(tokensPerRow: number | readonly number[]): void;
  /**
   * Stores a layer's keys and values of the reserved tokens: for row b the first `tokens[b]` of the T given.
   * @param key `[B, T, K, H]` f32, not kept
   * @param value `[B, T, K, Hv]` f32, not kept; undefined for a layer with a `latentDim`
   * @param firstRow for a pass over more rows than this cache has: the row of `key` and `value` that is row 0
   *   here; default 0, and both must then have B rows
   * @throws Error without a `reserve`, RangeError when the shapes are not the layer's or T is less than
   *   reserved.
   */
  write(layer: number, key: Tensor, value?: Tensor, firstRow?: number): void;
  /**
   * The keys and values for attention: per row the committed tokens, then the reserved ones. Valid until the
   * next `reserve`.
   */
  view(layer: number): CacheView;
  /**
   * Adds the reserved tokens to the committed ones.
   * @throws Error without a `reserve`, or when a layer was not written; then nothing is committed.
   */
  commit(): void;
  /**
   * Removes the tokens of a row from `length` on; discards an unfinished pass.
   * @throws RangeError unless `0 <= length <= lengths[row]`. In a full ring only the last token, and those
   *   added since `hold`, can be removed.
   */
  truncate(row: number, length: number): void;
  /**
   * For caches that overwrite old tokens (`WindowCache`): until the next `hold` the row can be truncated to
   * any length >= `length`. The extra memory this needs is kept until `dispose`. Used by speculative
   * decoding, and when the end of an answer may be removed.
   * @param length at most `lengths[row]`; undefined ends the hold
   * @throws RangeError for an invalid row or length, or when the tokens have been overwritten
   */
  hold?(row: number, length?: number): void;
  /**
   * A second cache with the same tokens, which goes on alone. Reserved tokens and holds are not included.
   * @throws RangeError when out of memory
   */
  fork(): KeyValueCache;
  /** Removes all tokens of all rows; keeps the memory. */
  reset(): void;
  /** Frees the memory. Safe to call twice; other methods throw afterwards. */
  dispose(): void;
}
