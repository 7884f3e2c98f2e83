/**
 * The one protocol of every KV cache. A forward pass reserves room for its tokens, each layer writes its keys and values
 * and attends to the view, and one commit makes them count:
 *
 *   cache.reserve(tokens) -> for each layer: cache.write(layer, key, value), cache.view(layer) -> cache.commit()
 *
 * Until `commit` nothing has happened: an error in between, or another `reserve`, leaves the cache as it was. A kind that
 * overwrites (a ring) or shares (pages) old tokens must therefore place reserved tokens beside them until `commit`.
 */
import type { CacheView } from '../ops/attend.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** How a cache can store keys or values; `q8_0` is blocks of 32 values with a scale, 34 bytes each. */
export type CacheDType = 'f32' | 'f16' | 'bf16' | 'q8_0';
/** One type for both, or one each. */
export type CacheStorage = CacheDType | { readonly key: CacheDType; readonly value: CacheDType };

/** What one layer keeps per token. */
export interface CacheLayer {
  /** K */
  readonly numKeyValueHeads: number;
  /** H of keys. */
  readonly headDim: number;
  /** H of values; default `headDim`. */
  readonly valueHeadDim?: number;
  /**
   * Of multi-head latent attention: values are the first so many columns of the keys, in the same memory. Only keys are written
   * then (`[B, T, 1, latent + rope]`), in one storage type. Instead of `valueHeadDim`.
   */
  readonly latentDim?: number;
  /** Keys a query sees at most, its own included; default all. A window cache keeps no more than these. */
  readonly window?: number;
}

/**
 * The interface of every KV cache. A forward pass reserves room for its tokens, each layer writes its keys and values and
 * attends to the view, and `commit` makes the tokens count:
 *
 * `reserve(tokens)`, then for each layer `write(layer, key, value)` and `view(layer)`, then `commit()`.
 *
 * Until `commit` the committed tokens stay as they were: after an error, or another `reserve`, the pass is dropped.
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
   * Begins a pass of `tokensPerRow` new tokens, one count for all rows or one per row; an unfinished pass is dropped.
   * @throws RangeError when a row has no room for its tokens; nothing is reserved then.
   */
  reserve(tokensPerRow: number | readonly number[]): void;
  /**
   * Stores a layer's keys and values of the reserved tokens: of row b the first `tokens[b]` of the T given.
   * @param key `[B, T, K, H]` f32, not kept
   * @param value `[B, T, K, Hv]` f32, not kept; none for a layer with a `latentDim`
   * @throws Error without a `reserve`, RangeError when the shapes are not the layer's or T is less than reserved.
   */
  write(layer: number, key: Tensor, value?: Tensor): void;
  /** What attention reads: per row the committed tokens, then the reserved ones. Valid until the next `reserve`. */
  view(layer: number): CacheView;
  /**
   * Makes the reserved tokens count.
   * @throws Error without a `reserve`, or when a layer was not written; then nothing is committed.
   */
  commit(): void;
  /**
   * Forgets the tokens of a row from `length` on; an unfinished pass is dropped.
   * @throws RangeError unless `0 <= length <= lengths[row]`. A full ring takes back one token, and those that came since `hold`.
   */
  truncate(row: number, length: number): void;
  /**
   * Of kinds that overwrite (`WindowCache`): until the next `hold`, whatever is added, the row can be truncated to any length from
   * `length` on. What that takes is memory of its own, kept until `dispose`. For speculative decoding, and for answers whose end may be dropped.
   * @param length at most `lengths[row]`; undefined ends it
   * @throws RangeError for another row or length, or when it is too late: the tokens are gone
   */
  hold?(row: number, length?: number): void;
  /** Forgets all tokens of all rows; the memory stays. */
  reset(): void;
  /** Frees the memory. Safe to call twice; other methods throw afterwards. */
  dispose(): void;
}
