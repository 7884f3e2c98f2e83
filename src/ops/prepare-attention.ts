/**
 * Shared by `dotProductAttention` and `dotProductAttentionWeights`: their common options, checked and turned
 * into the rows and settings of an attention call.
 */

import { aBoolean, aNumber, anything, describe, show } from '../arguments/kinds.ts';
import type { OptionKinds } from '../arguments/options.ts';
import type { Backend } from '../backend/backend.ts';
import type { AttentionCall, KeyValueView } from '../backend/calls/attention.ts';
import { byteLengthOf } from '../tensor/dtype.ts';
import { shapeText } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import {
  type AttentionLayout,
  type AttentionSettings,
  checkAttentionFloat,
  checkChunk,
  checkHeads,
  checkIntegers,
  checkMask,
  checkScale,
  checkSinks,
  checkSoftCap,
  checkWindow,
  layoutStrides,
  MAX_COUNT,
  type QueryDims,
  scoreOperand,
} from './attention-call.ts';
import { checkExactShape, checkRank, checkTensor, commonBackend } from './operands.ts';

/** Options of `dotProductAttentionWeights`. */
export interface AttentionWeightsOptions {
  /** Order of the axes of query, key and value (and output): `'BTNH'` (default) or `'BNTH'`; neither is copied. */
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
   * Instead of `causalAlignment`: position of the first query among the keys, one number or one per batch row
   * (`[B]`): query i is at queryOffset + i. With keys of p earlier tokens in front, it is p.
   */
  readonly queryOffset?: number | readonly number[] | Int32Array;
  /**
   * Query at position p sees keys p - left … p + right, both included; one number is both. Default unbounded.
   */
  readonly localWindowSize?: number | readonly [left: number, right: number];
  /**
   * Query at position p sees only keys of its own chunk of so many positions, those from `p - p mod
   * chunkSize` on (Llama 4); default all.
   */
  readonly chunkSize?: number;
  /** `[B]` integers 0 … T: queries past their row's length give zeros. Default T. */
  readonly querySeqLengths?: readonly number[] | Int32Array | Tensor;
  /** `[B]` integers 0 … S: keys past their row's length are masked. Default S. */
  readonly keyValueSeqLengths?: readonly number[] | Int32Array | Tensor;
  /** Scores become `cap * tanh(score / cap)`, before the bias; default none. */
  readonly logitsSoftCap?: number;
  /** `[N]`: a score per head, added to the softmax denominator only (gpt-oss). */
  readonly sinks?: Tensor;
}

/** The kinds of `AttentionWeightsOptions`, which `AttentionOptions` extends. */
export const WEIGHTS_KINDS: OptionKinds<AttentionWeightsOptions> = {
  layout: anything,
  bias: checkTensor,
  mask: checkTensor,
  scale: aNumber,
  isCausal: aBoolean,
  causalAlignment: anything,
  queryOffset: anything,
  localWindowSize: anything,
  chunkSize: aNumber,
  querySeqLengths: anything,
  keyValueSeqLengths: anything,
  logitsSoftCap: aNumber,
  sinks: checkTensor,
};

/** What `runAttention` takes. */
export interface PreparedAttention {
  readonly backend: Backend;
  readonly dims: QueryDims;
  readonly view: KeyValueView;
  /** S */
  readonly keyLength: number;
  readonly settings: AttentionSettings;
}

/**
 * Checks the arguments of attention. Without `value` the view's values are the keys, to be replaced.
 * @throws as `dotProductAttention`
 */
export function prepareAttention(
  op: string,
  query: Tensor,
  key: Tensor,
  value: Tensor | undefined,
  options: AttentionWeightsOptions,
): PreparedAttention {
  const { bias, mask, sinks, isCausal = false } = options;
  const backend = commonBackend(op, query, key, value, bias, mask, sinks);
  for (const x of [query, key, value]) if (x) checkAttentionFloat(op, backend, x);
  const { B, T, S, N, K, H, Hv, layout } = checkShapes(op, query, key, value, options.layout ?? 'BTNH');
  if (mask) checkMask(op, mask);
  if (bias) checkAttentionFloat(op, backend, bias);
  checkSinks(op, backend, sinks, N);
  const scores = [B, N, T, S];
  const [windowLeft, windowRight] = checkWindow(op, options.localWindowSize, isCausal);
  const queryLengths = checkLengths(op, 'querySeqLengths', options.querySeqLengths, B, T);
  const keyLengths = checkLengths(op, 'keyValueSeqLengths', options.keyValueSeqLengths, B, S);
  return {
    backend,
    dims: { layout, batch: B, length: T, heads: N, headDim: H },
    view: viewOf(key, value ?? key, layout, { S, K, H, Hv }, keyLengths),
    keyLength: S,
    settings: {
      rows: queryRows(queryLengths, checkOffsets(op, options, queryLengths, keyLengths)),
      scale: checkScale(op, options.scale, H),
      softCap: checkSoftCap(op, options.logitsSoftCap),
      windowLeft,
      windowRight,
      chunk: checkChunk(op, options.chunkSize),
      mask: mask && scoreOperand(op, 'mask', mask, scores),
      bias: bias && scoreOperand(op, 'bias', bias, scores),
      sinks,
      returnLogSumExp: false,
    },
  };
}

function checkShapes(
  op: string,
  query: Tensor,
  key: Tensor,
  value: Tensor | undefined,
  layout: AttentionLayout,
) {
  if (layout !== 'BTNH' && layout !== 'BNTH') {
    throw new RangeError(`${op}: expected layout 'BTNH' or 'BNTH', got ${show(layout)}`);
  }
  checkRank(op, 'query', query, 3, 4);
  checkRank(op, 'key', key, query.shape.length);
  if (value) checkRank(op, 'value', value, query.shape.length);
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
      `${op}: expected query and key with the same batch and head dim, got ${shapeText(query.shape)} and ${shapeText(key.shape)}`,
    );
  }
  const Hv = value ? value.shape[rank - 1] : H;
  if (value) checkExactShape(op, 'value', value, key.shape.with(-1, Hv));
  checkHeads(op, N, K);
  return { B, T, S, N, K, H, Hv, layout };
}

/** The position of each row's first query. */
function checkOffsets(
  op: string,
  { causalAlignment, queryOffset }: AttentionWeightsOptions,
  queryLengths: readonly number[],
  keyLengths: readonly number[],
): readonly number[] {
  if (causalAlignment !== undefined && !['topLeft', 'bottomRight'].includes(causalAlignment)) {
    throw new RangeError(
      `${op}: expected causalAlignment 'topLeft' or 'bottomRight', got ${show(causalAlignment)}`,
    );
  }
  const batch = queryLengths.length;
  if (queryOffset === undefined) {
    return causalAlignment === 'bottomRight'
      ? keyLengths.map((length, b) => length - queryLengths[b])
      : new Array<number>(batch).fill(0);
  }
  if (causalAlignment !== undefined) {
    throw new RangeError(`${op}: expected causalAlignment or queryOffset, got both`);
  }
  if (
    typeof queryOffset !== 'number' &&
    !Array.isArray(queryOffset) &&
    !(queryOffset instanceof Int32Array)
  ) {
    throw new TypeError(
      `${op}: expected queryOffset as a number, an array or an Int32Array, got ${describe(queryOffset)}`,
    );
  }
  const list = typeof queryOffset === 'number' ? new Array<number>(batch).fill(queryOffset) : queryOffset;
  return checkIntegers(op, 'queryOffset', list, { batch, low: -MAX_COUNT, high: MAX_COUNT });
}

/** Each row's queries. Equal rows share one object, because a training step keeps them. */
function queryRows(lengths: readonly number[], offsets: readonly number[]): AttentionCall['rows'] {
  const rows = new Array<AttentionCall['rows'][number]>(lengths.length);
  for (let b = 0; b < lengths.length; b++) {
    const length = lengths[b];
    const offset = offsets[b];
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
  op: string,
  name: string,
  lengths: readonly number[] | Int32Array | Tensor | undefined,
  batch: number,
  limit: number,
): readonly number[] {
  if (lengths === undefined) return new Array<number>(batch).fill(limit);
  if (lengths instanceof Tensor && lengths.dtype !== 'i32') {
    throw new TypeError(`${op}: expected ${name} of i32, got ${lengths.dtype}`);
  }
  if (!Array.isArray(lengths) && !(lengths instanceof Int32Array) && !(lengths instanceof Tensor)) {
    throw new TypeError(
      `${op}: expected ${name} as an array, an Int32Array or an i32 tensor, got ${describe(lengths)}`,
    );
  }
  const list = lengths instanceof Tensor ? lengths.dataSync() : lengths;
  return checkIntegers(op, name, list, { batch, low: 0, high: limit });
}
