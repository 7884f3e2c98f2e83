/**
 * Attention masks: 1 may attend, 0 may not. f32 by default, as in Flax; attention accepts any dtype, nonzero
 * = may attend.
 */

import { aFunction, aNumber } from '../arguments/kinds.ts';
import { checkOptions, type OptionKinds, optionKinds } from '../arguments/options.ts';
import { maximum, mul, sub } from '../ops/binary.ts';
import { broadcastTo } from '../ops/broadcast-to.ts';
import { cast } from '../ops/cast.ts';
import { tensor } from '../ops/creation.ts';
import { checkRank, checkTensor } from '../ops/operands.ts';
import { reshape } from '../ops/reshape.ts';
import { aDType, type DType } from '../tensor/dtype.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { tupleText } from './arguments.ts';

/** Options of `makeCausalMask`. */
export interface MaskOptions {
  /** Number of leading axes of length 1; default 0. */
  readonly extraBatchDims?: number;
  /** Default f32. */
  readonly dtype?: DType;
}

/** Options of `makeAttentionMask`. */
export interface AttentionMaskOptions extends MaskOptions {
  /**
   * Maps a query's and a key's value to the mask. Takes `[…, T, 1]` and `[…, 1, S]`; default: the product.
   */
  readonly pairwiseFn?: (query: Tensor, key: Tensor) => Tensor;
}

const MASK: OptionKinds<MaskOptions> = { extraBatchDims: aNumber, dtype: aDType };
const OPTIONS = optionKinds<MaskOptions>(MASK);
const PAIR_OPTIONS = optionKinds<AttentionMaskOptions>({ ...MASK, pairwiseFn: aFunction });

/**
 * A mask from one value per query and per key, such as 1 for a token and 0 for padding.
 * @param queryInput `[...batch, T]`. @param keyInput `[...batch, S]`.
 * @returns `[...batch, 1, T, S]`, with `extraBatchDims` ones in front.
 */
export function makeAttentionMask(
  queryInput: Tensor,
  keyInput: Tensor,
  options: AttentionMaskOptions = {},
): Tensor {
  for (const [what, x] of Object.entries({ queryInput, keyInput })) checkTensor('makeAttentionMask', what, x);
  checkOptions('makeAttentionMask', options, PAIR_OPTIONS);
  const { pairwiseFn = mul, extraBatchDims = 0, dtype = 'f32' } = options;
  checkRank('makeAttentionMask', 'queryInput', queryInput, 1, Number.POSITIVE_INFINITY);
  checkRank('makeAttentionMask', 'keyInput', keyInput, 1, Number.POSITIVE_INFINITY);
  checkExtraDims('makeAttentionMask', extraBatchDims);
  return scope(() => {
    const [batch, T] = [queryInput.shape.slice(0, -1), queryInput.shape.at(-1) as number];
    const keyBatch = keyInput.shape.slice(0, -1);
    const S = keyInput.shape.at(-1) as number;
    const pairs = pairwiseFn(
      reshape(wide(queryInput), [...batch, T, 1]),
      reshape(wide(keyInput), [...keyBatch, 1, S]),
    );
    checkTensor('makeAttentionMask', 'the result of pairwiseFn', pairs);
    const ones = new Array<number>(extraBatchDims).fill(1);
    return cast(reshape(pairs, [...ones, ...pairs.shape.slice(0, -2), 1, T, S]), dtype);
  });
}

/**
 * A causal mask for self-attention.
 * @param x `[...batch, T]`; only its shape is used.
 * @returns `[...batch, 1, T, T]`, with `extraBatchDims` ones in front.
 */
export function makeCausalMask(x: Tensor, options: MaskOptions = {}): Tensor {
  checkTensor('makeCausalMask', 'x', x);
  checkOptions('makeCausalMask', options, OPTIONS);
  checkRank('makeCausalMask', 'x', x, 1, Number.POSITIVE_INFINITY);
  checkExtraDims('makeCausalMask', options.extraBatchDims ?? 0);
  return scope(() => {
    const T = x.shape.at(-1) as number;
    const index = broadcastTo(tensor(Float32Array.from({ length: T }, (_, i) => i)), x.shape);
    // q >= k for integers: max(q - k + 1, 0) is nonzero.
    const atLeast = (q: Tensor, k: Tensor) => cast(cast(maximum(sub(q, sub(k, 1)), 0), 'bool'), 'f32');
    return makeAttentionMask(index, index, { ...options, pairwiseFn: atLeast });
  });
}

/**
 * The logical and of the masks, f32.
 * @param masks of one rank; undefined ones are skipped.
 * @throws RangeError when ranks differ.
 * @returns the combined mask, or undefined without masks.
 */
export function combineMasks(...masks: readonly (Tensor | undefined)[]): Tensor | undefined {
  const given = masks.filter((mask) => mask !== undefined);
  if (given.length === 0) return undefined;
  for (const mask of given) checkTensor('combineMasks', 'a mask', mask);
  const ranks = given.map(({ shape }) => shape.length);
  if (ranks.some((rank) => rank !== ranks[0])) {
    throw new RangeError(`masks must have same rank, but got ${tupleText(ranks)}.`);
  }
  return scope(() => given.map((mask) => cast(cast(mask, 'bool'), 'f32')).reduce((a, b) => mul(a, b)));
}

function wide(x: Tensor): Tensor {
  return x.dtype === 'f64' ? x : cast(x, 'f32');
}

/** A huge count would run out of memory before any other check. */
function checkExtraDims(op: string, count: number): void {
  if (Number.isInteger(count) && count >= 0 && count <= 16) return;
  throw new RangeError(`${op}: expected extraBatchDims from 0 to 16, got ${count}`);
}
