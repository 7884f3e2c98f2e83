/**
 * Scaled dot-product attention with grouped query heads: names and semantics of
 * `jax.nn.dot_product_attention`, plus soft cap, sinks, dropout and per-row lengths. K and V are read in
 * place, each head by all query heads of its group; the score matrix is not stored.
 *
 * docs/semantics.md says what this does where frameworks differ (causal alignment, fully masked rows,
 * window).
 */

import { aBoolean, aNumber, anything, describe, show } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { AttentionCall, KeyValueView } from '../backend/calls/attention.ts';
import { byteLengthOf } from '../tensor/dtype.ts';
import { shapeText } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import {
  type AttentionLayout,
  checkAttentionFloat,
  checkHeads,
  checkScale,
  checkSinks,
  checkSoftCap,
  checkWindow,
  layoutStrides,
  runAttention,
  scoreOperand,
} from './attention-call.ts';
import { checkDropout, type DropoutMask } from './dropout.ts';
import { checkExactShape, checkRank, checkTensor, commonBackend } from './operands.ts';

/** Options of `dotProductAttention`. `dropoutRate` and `dropoutKey` apply to the softmax weights. */
export interface AttentionOptions extends DropoutMask {
  /** Order of the axes of query, key, value and output: `'BTNH'` (default) or `'BNTH'`; neither is copied. */
  readonly layout?: AttentionLayout;
  /**
   * Added to the scaled (and capped) scores: f32, f16 or bf16, broadcastable to `[B, N, T, S]`; -Infinity
   * masks.
   */
  readonly bias?: Tensor;
  /** bool or u8, broadcastable to `[B, N, T, S]`: nonzero = may attend. */
  readonly mask?: Tensor;
  /** Multiplies the scores; default `1 / sqrt(H)`. */
  readonly scale?: number;
  /** A query sees no key after its own position; default false. */
  readonly isCausal?: boolean;
  /**
   * Position of query i among the keys, for the causal mask and the window: `'topLeft'` (default; JAX, Flax,
   * PyTorch) i; `'bottomRight'` (FlashAttention, MLX) i + S - T, with lengths i + keyValueSeqLengths[b] -
   * querySeqLengths[b].
   */
  readonly causalAlignment?: 'topLeft' | 'bottomRight';
  /**
   * Query at position p sees keys p - left … p + right, both included; one number is both. Default unbounded.
   */
  readonly localWindowSize?: number | readonly [left: number, right: number];
  /** `[B]` integers 0 … T: queries past their row's length give zeros. Default T. */
  readonly querySeqLengths?: readonly number[] | Int32Array | Tensor;
  /** `[B]` integers 0 … S: keys past their row's length are masked. Default S. */
  readonly keyValueSeqLengths?: readonly number[] | Int32Array | Tensor;
  /** Scores become `cap * tanh(score / cap)`, before the bias; default none. */
  readonly logitsSoftCap?: number;
  /** `[N]`: a score per head, added to the softmax denominator only (gpt-oss). */
  readonly sinks?: Tensor;
  /** One dropout mask `[T, S]` for all batch rows and heads, as in Flax; default true. */
  readonly broadcastDropout?: boolean;
  /** Also return the natural log of each softmax denominator; default false. */
  readonly returnLogSumExp?: boolean;
}

/**
 * `softmax(scale * q . k [soft-capped] + bias, masked) @ v` per query head; head n reads key/value head
 * floor(n * K / N). The softmax runs over the keys a query may see, with `sinks` added to the denominator. A
 * query that sees no key gives zeros. Masked keys and values have no effect, even if NaN.
 *
 * @param query `[B, T, N, H]` (`[B, N, T, H]` for `layout: 'BNTH'`), or without B: f32, f16 or bf16, f64 on
 *   the reference backend. f16 and bf16 are widened to f32 for the call.
 * @param key `[B, S, K, H]`, K divides N (K = N is multi-head, K = 1 multi-query attention), f32, f16 or
 *   bf16, read as stored.
 * @param value `[B, S, K, Hv]`; Hv may differ from H.
 * @throws RangeError when shapes, lengths or options are invalid; TypeError for arguments of a wrong type;
 *   UnsupportedError for dtypes that attention does not support.
 * @returns `[B, T, N, Hv]` of query's dtype, in the layout and with the rank of `query`; with
 *   `returnLogSumExp` the pair `[output, logSumExp]`, the latter f32 `[B, T, N]` (`[B, N, T]`): the head's
 *   sink or -Infinity for a query that sees no key; -Infinity past `querySeqLengths`.
 *
 * Source: jax/_src/nn/functions.py (dot_product_attention); Ainslie et al. 2023 (grouped queries).
 *
 * @example
 * const y = dotProductAttention(q, k, v, { isCausal: true }); // q [2, 16, 8, 64], k and v [2, 16, 2, 64]
 */
export function dotProductAttention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  options: AttentionOptions & { readonly returnLogSumExp: true },
): [output: Tensor, logSumExp: Tensor];
export function dotProductAttention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  options?: AttentionOptions & { readonly returnLogSumExp?: false },
): Tensor;
export function dotProductAttention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  options?: AttentionOptions,
): Tensor | [output: Tensor, logSumExp: Tensor];
export function dotProductAttention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  options: AttentionOptions = {},
): Tensor | [Tensor, Tensor] {
  checkOptions(OP, options, OPTIONS);
  checkTensor(OP, 'query', query);
  checkTensor(OP, 'key', key);
  checkTensor(OP, 'value', value);
  const { bias, mask, sinks, isCausal = false, causalAlignment = 'topLeft' } = options;
  const backend = commonBackend(OP, query, key, value, bias, mask, sinks);
  checkAttentionFloat(OP, backend, query);
  checkAttentionFloat(OP, backend, key);
  checkAttentionFloat(OP, backend, value);
  const dims = checkShapes(query, key, value, options.layout ?? 'BTNH');
  const { B, T, S, N, K, H, Hv, layout } = dims;

  if (causalAlignment !== 'topLeft' && causalAlignment !== 'bottomRight') {
    throw new RangeError(
      `${OP}: expected causalAlignment 'topLeft' or 'bottomRight', got ${show(causalAlignment)}`,
    );
  }
  if (mask && mask.dtype !== 'bool' && mask.dtype !== 'u8') {
    throw new TypeError(`${OP}: expected mask of bool or u8, got ${mask.dtype}; an additive mask is a bias`);
  }
  if (bias) checkAttentionFloat(OP, backend, bias);
  checkSinks(OP, backend, sinks, N);
  const scores = [B, N, T, S];
  const [windowLeft, windowRight] = checkWindow(OP, options.localWindowSize, isCausal);
  const queryLengths = checkLengths('querySeqLengths', options.querySeqLengths, B, T);
  const keyLengths = checkLengths('keyValueSeqLengths', options.keyValueSeqLengths, B, S);
  const dropout = checkDropout(OP, options);

  return runAttention(
    OP,
    backend,
    query,
    { layout, batch: B, length: T, heads: N, headDim: H },
    viewOf(key, value, layout, { S, K, H, Hv }, keyLengths),
    {
      rows: queryRows(queryLengths, causalAlignment === 'bottomRight' ? keyLengths : queryLengths),
      scale: checkScale(OP, options.scale, H),
      softCap: checkSoftCap(OP, options.logitsSoftCap),
      windowLeft,
      windowRight,
      mask: mask && scoreOperand(OP, 'mask', mask, scores),
      bias: bias && scoreOperand(OP, 'bias', bias, scores),
      sinks,
      dropout: dropout && { ...dropout, broadcast: options.broadcastDropout ?? true },
      returnLogSumExp: options.returnLogSumExp ?? false,
    },
    { key, value },
  );
}

const OP = 'dotProductAttention';

const OPTIONS = optionKinds<AttentionOptions>({
  layout: anything,
  bias: checkTensor,
  mask: checkTensor,
  scale: aNumber,
  isCausal: aBoolean,
  causalAlignment: anything,
  localWindowSize: anything,
  querySeqLengths: anything,
  keyValueSeqLengths: anything,
  logitsSoftCap: aNumber,
  sinks: checkTensor,
  dropoutRate: aNumber,
  dropoutKey: anything,
  broadcastDropout: aBoolean,
  returnLogSumExp: aBoolean,
});

function checkShapes(query: Tensor, key: Tensor, value: Tensor, layout: AttentionLayout) {
  if (layout !== 'BTNH' && layout !== 'BNTH') {
    throw new RangeError(`${OP}: expected layout 'BTNH' or 'BNTH', got ${show(layout)}`);
  }
  checkRank(OP, 'query', query, 3, 4);
  checkRank(OP, 'key', key, query.shape.length);
  checkRank(OP, 'value', value, query.shape.length);
  const rank = query.shape.length;
  const tokenAxis = layout === 'BTNH' ? rank - 3 : rank - 2;
  const headAxis = layout === 'BTNH' ? rank - 2 : rank - 3;
  const T = query.shape[tokenAxis];
  const N = query.shape[headAxis];
  const H = query.shape[rank - 1];
  const S = key.shape[tokenAxis];
  const K = key.shape[headAxis];
  const B = rank === 4 ? query.shape[0] : 1;
  if (key.shape[rank - 1] !== H || (rank === 4 && key.shape[0] !== B)) {
    throw new RangeError(
      `${OP}: expected query and key with the same batch and head dim, got ${shapeText(query.shape)} and ${shapeText(key.shape)}`,
    );
  }
  const Hv = value.shape[value.shape.length - 1];
  checkExactShape(OP, 'value', value, key.shape.with(-1, Hv));
  checkHeads(OP, N, K);
  return { B, T, S, N, K, H, Hv, layout };
}

/**
 * Each row's queries, offset to end at key `ends[b]`. Equal rows share one object, because a training step
 * keeps them.
 */
function queryRows(lengths: readonly number[], ends: readonly number[]): AttentionCall['rows'] {
  const rows = new Array<AttentionCall['rows'][number]>(lengths.length);
  for (let b = 0; b < lengths.length; b++) {
    const length = lengths[b];
    const offset = ends[b] - length;
    const last = b > 0 ? rows[b - 1] : undefined;
    rows[b] = last?.length === length && last.offset === offset ? last : { length, offset };
  }
  return rows;
}

/** Key and value tensors as a view of one segment per batch row. */
function viewOf(
  key: Tensor,
  value: Tensor,
  layout: AttentionLayout,
  { S, K, H, Hv }: { S: number; K: number; H: number; Hv: number },
  lengths: readonly number[],
): KeyValueView {
  const [keyBatch, keyTokenStride, keyHeadStride] = layoutStrides(layout, S, K, H);
  const [valueBatch, valueTokenStride, valueHeadStride] = layoutStrides(layout, S, K, Hv);
  const whole = { key: key.storage, keyByteOffset: 0, value: value.storage, valueByteOffset: 0, length: S };
  const segments = [whole];
  const rows = new Array<KeyValueView['rows'][number]>(lengths.length);
  for (let b = 0; b < lengths.length; b++) {
    const length = lengths[b];
    rows[b] = b > 0 && rows[b - 1].length === length ? rows[b - 1] : { length, segments };
  }
  return {
    keyDtype: key.dtype,
    valueDtype: value.dtype,
    numKeyValueHeads: K,
    headDim: H,
    valueHeadDim: Hv,
    keyTokenStride,
    keyHeadStride,
    valueTokenStride,
    valueHeadStride,
    rows,
    keyRowBytes: byteLengthOf(key.dtype, keyBatch),
    valueRowBytes: byteLengthOf(value.dtype, valueBatch),
  };
}

/** Lengths per row. A tensor is read here: lengths are known to the host, not computed on a device. */
function checkLengths(
  name: string,
  lengths: readonly number[] | Int32Array | Tensor | undefined,
  batch: number,
  limit: number,
): readonly number[] {
  if (lengths === undefined) return new Array<number>(batch).fill(limit);
  if (lengths instanceof Tensor && lengths.dtype !== 'i32') {
    throw new TypeError(`${OP}: expected ${name} of i32, got ${lengths.dtype}`);
  }
  if (!Array.isArray(lengths) && !(lengths instanceof Int32Array) && !(lengths instanceof Tensor)) {
    throw new TypeError(
      `${OP}: expected ${name} as an array, an Int32Array or an i32 tensor, got ${describe(lengths)}`,
    );
  }
  const list = Array.from(lengths instanceof Tensor ? lengths.dataSync() : (lengths as readonly number[]));
  if (
    list.length !== batch ||
    list.some((length) => !Number.isInteger(length) || length < 0 || length > limit)
  ) {
    throw new RangeError(
      `${OP}: expected ${name} of ${batch} integers from 0 to ${limit}, got [${list.join(', ')}]`,
    );
  }
  return list;
}
