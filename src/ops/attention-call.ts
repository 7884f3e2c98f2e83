/**
 * Shared by `dotProductAttention` and `attend`: the checks of their common options, and the backend call. f16
 * and bf16 queries are widened for the call and the output is rounded back.
 */

import { checkPositiveInteger, describe } from '../arguments/kinds.ts';
import type { Backend } from '../backend/backend.ts';
import {
  type AttentionCall,
  attention,
  type KeyValueView,
  type ScoreOperand,
} from '../backend/calls/attention.ts';
import { UnsupportedError } from '../tensor/errors.ts';
import { type Shape, shapeText, withLast } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { needsAttentionGradient, recordAttention } from './attention-gradient.ts';
import { cast } from './cast.ts';
import { matmulPrecision } from './matmul-precision.ts';
import { allocate, asWide, checkExactShape, freeCopy, hasNoOutput } from './operands.ts';

/** Order of the token and head axes: `[B, T, N, H]` (JAX, Flax) or `[B, N, T, H]` (PyTorch). */
export type AttentionLayout = 'BTNH' | 'BNTH';

/** A query and its layout; `shape` may lack the batch axis. */
export interface QueryDims {
  readonly layout: AttentionLayout;
  readonly batch: number;
  readonly length: number;
  readonly heads: number;
  readonly headDim: number;
  /** Layout of the output; default: that of the query. */
  readonly outLayout?: AttentionLayout;
}

/** Strides in elements of batch, token and head for `[B, tokens, heads, dim]` in either layout. */
export function layoutStrides(
  layout: AttentionLayout,
  tokens: number,
  heads: number,
  dim: number,
): [batch: number, token: number, head: number] {
  return layout === 'BTNH'
    ? [tokens * heads * dim, heads * dim, dim]
    : [tokens * heads * dim, dim, tokens * dim];
}

/** The fields of an AttentionCall that the caller sets. */
export interface AttentionSettings {
  readonly rows: AttentionCall['rows'];
  readonly scale: number;
  readonly softCap: number;
  readonly windowLeft: number;
  readonly windowRight: number;
  readonly chunk: number;
  readonly mask?: ScoreOperand & { readonly operand: Tensor };
  readonly bias?: ScoreOperand & { readonly operand: Tensor };
  readonly sinks?: Tensor;
  readonly dropout?: AttentionCall['dropout'];
  readonly returnLogSumExp: boolean;
}

/**
 * Runs attention; `query` may have three or four axes, and the results have as many (one less for the
 * log-sum-exp). `stored`: the tensors behind `keyValue`, if any; they may have gradients.
 */
export function runAttention(
  op: string,
  backend: Backend,
  query: Tensor,
  dims: QueryDims,
  keyValue: KeyValueView,
  settings: AttentionSettings,
  stored: { readonly key?: Tensor; readonly value?: Tensor } = {},
): Tensor | [Tensor, Tensor] {
  const { batch, length, heads, headDim, layout, outLayout = layout } = dims;
  checkCounts(op, { B: batch, T: length, N: heads, H: headDim, Hv: keyValue.valueHeadDim });
  for (const { length: S } of keyValue.rows) if (S > MAX_COUNT) checkCounts(op, { S });
  const dtype = query.dtype === 'f64' ? 'f64' : 'f32';
  const q = asWide(op, query);
  const sinks = asWide(op, settings.sinks);
  const bias = asWide(op, settings.bias?.operand);
  const outShape = [...query.shape.slice(0, -1), keyValue.valueHeadDim];
  if (outLayout !== layout)
    outShape.splice(-3, 2, outShape[outShape.length - 2], outShape[outShape.length - 3]);
  const out = allocate(backend, dtype, outShape);
  const { key, value } = stored;
  const inputs = { query, key, value, bias: settings.bias?.operand, sinks: settings.sinks };
  const recorded = needsAttentionGradient(inputs);
  const logSumExp =
    settings.returnLogSumExp || recorded
      ? allocate(backend, dtype, withLast(query.shape, undefined))
      : undefined;
  const rest = recorded ? allocate(backend, dtype, withLast(query.shape, undefined)) : undefined;
  const call: AttentionCall = {
    out,
    outStrides: layoutStrides(outLayout, length, heads, keyValue.valueHeadDim),
    query: q,
    queryStrides: layoutStrides(layout, length, heads, headDim),
    batch,
    queryLength: length,
    numHeads: heads,
    keyValue,
    rows: settings.rows,
    precision: matmulPrecision(),
    scale: settings.scale,
    softCap: settings.softCap,
    windowLeft: settings.windowLeft,
    windowRight: settings.windowRight,
    chunk: settings.chunk,
    mask: settings.mask,
    bias: settings.bias && bias && { operand: bias, strides: settings.bias.strides },
    sinks,
    logSumExp: logSumExp && { operand: logSumExp, rest, strides: layoutStrides(layout, length, heads, 1) },
    dropout: settings.dropout,
  };
  if (!hasNoOutput(out, logSumExp)) backend.run(attention, call);
  if (logSumExp && rest) {
    recordAttention(op, backend, inputs, call, { out, logSumExp, rest, mask: settings.mask?.operand });
    rest.dispose();
  }
  freeCopy(q, query);
  freeCopy(sinks, settings.sinks);
  freeCopy(bias, settings.bias?.operand);
  if (!settings.returnLogSumExp) logSumExp?.dispose();
  const answer = query.dtype === dtype ? out : cast(out, query.dtype);
  if (answer !== out) out.dispose();
  return logSumExp && settings.returnLogSumExp ? [answer, logSumExp] : answer;
}

/** @throws RangeError for a dimension beyond int32. */
function checkCounts(op: string, counts: Readonly<Record<string, number>>): void {
  for (const name in counts) {
    if (counts[name] <= MAX_COUNT) continue;
    throw new RangeError(`${op}: expected ${name} of at most ${MAX_COUNT}, got ${counts[name]}`);
  }
}

/** Attention kernels use int32 counts. */
export const MAX_COUNT: number = 2 ** 31 - 1;

/** @throws UnsupportedError unless the tensor has a float dtype that attention supports. */
export function checkAttentionFloat(op: string, backend: Backend, x: Tensor): void {
  if (['f32', 'f16', 'bf16', 'f64'].includes(x.dtype)) return;
  throw new UnsupportedError(op, x.dtype, backend.name);
}

/** @throws RangeError unless K divides N. */
export function checkHeads(op: string, N: number, K: number): void {
  if (K > 0 && N % K === 0) return;
  throw new RangeError(
    `${op}: expected query heads N to be a multiple of key/value heads K, got N=${N} and K=${K}`,
  );
}

/** @throws TypeError unless the mask is bool or u8. */
export function checkMask(op: string, mask: Tensor): void {
  if (mask.dtype === 'bool' || mask.dtype === 'u8') return;
  throw new TypeError(`${op}: expected mask of bool or u8, got ${mask.dtype}; an additive mask is a bias`);
}

/** @throws RangeError unless `sinks` is `[N]`; UnsupportedError unless it is a float. */
export function checkSinks(op: string, backend: Backend, sinks: Tensor | undefined, N: number): void {
  if (!sinks) return;
  checkExactShape(op, 'sinks', sinks, [N]);
  checkAttentionFloat(op, backend, sinks);
}

/** The scale, 1 / sqrt(H) by default. @throws TypeError for anything but a number. */
export function checkScale(op: string, scale: number | undefined, headDim: number): number {
  if (scale === undefined) return 1 / Math.sqrt(headDim);
  if (typeof scale !== 'number' || Number.isNaN(scale)) {
    throw new TypeError(`${op}: expected scale to be a number, got ${describe(scale)}`);
  }
  return scale;
}

/** The soft cap, 0 for none. @throws RangeError unless positive and finite. */
export function checkSoftCap(op: string, cap: number | undefined): number {
  if (cap === undefined || cap === 0) return 0;
  if (!(cap > 0 && cap < Number.POSITIVE_INFINITY)) {
    throw new RangeError(`${op}: expected logitsSoftCap to be positive, got ${cap}`);
  }
  return cap;
}

/**
 * The window to the left and right of a query's position; right is 0 when causal. @throws RangeError for a
 * negative or fractional size, TypeError for another type.
 */
export function checkWindow(
  op: string,
  size: number | readonly [number, number] | undefined,
  isCausal: boolean,
): [left: number, right: number] {
  if (size !== undefined && typeof size !== 'number' && !(Array.isArray(size) && size.length === 2)) {
    throw new TypeError(
      `${op}: expected localWindowSize to be a number or [left, right], got ${describe(size)}`,
    );
  }
  const [left, right] =
    size === undefined ? [Infinity, Infinity] : typeof size === 'number' ? [size, size] : size;
  if (!isWidth(left) || !isWidth(right)) {
    throw new RangeError(`${op}: expected localWindowSize of non-negative integers, got ${left}, ${right}`);
  }
  return [left, isCausal ? 0 : right];
}

/** The chunk size, 0 for none. @throws TypeError or RangeError unless it is an integer >= 1 */
export function checkChunk(op: string, size: number | undefined): number {
  if (size !== undefined) checkPositiveInteger(op, 'chunkSize', size);
  return Math.min(size ?? 0, MAX_COUNT);
}

/** A list of one integer from `low` to `high` per batch row, copied. @throws RangeError for another list */
export function checkIntegers(
  op: string,
  name: string,
  list: Iterable<number>,
  { batch, low, high }: { readonly batch: number; readonly low: number; readonly high: number },
): readonly number[] {
  const own = Array.from(list);
  if (
    own.length === batch &&
    own.every((value) => Number.isInteger(value) && value >= low && value <= high)
  ) {
    return own;
  }
  throw new RangeError(
    `${op}: expected ${name} of ${batch} integers from ${low} to ${high}, got [${own.join(', ')}]`,
  );
}

function isWidth(side: number): boolean {
  return side >= 0 && (Number.isInteger(side) || side === Infinity);
}

/**
 * A bias or mask read as `[B, N, T, S]`: leading axes of length 1 are added, axes of length 1 repeat.
 * @throws RangeError when it does not broadcast.
 */
export function scoreOperand(
  op: string,
  what: string,
  operand: Tensor,
  target: Shape,
): ScoreOperand & { readonly operand: Tensor } {
  const { shape } = operand;
  const lead = 4 - shape.length;
  const strides = [0, 0, 0, 0] as [number, number, number, number];
  let fits = lead >= 0;
  let stride = 1;
  for (let axis = 3; fits && axis >= lead; axis--) {
    const dim = shape[axis - lead];
    fits = dim === 1 || dim === target[axis];
    strides[axis] = dim === 1 ? 0 : stride;
    stride *= dim;
  }
  if (!fits) {
    throw new RangeError(
      `${op}: expected ${what} to broadcast to [B, N, T, S] ${shapeText(target)}, got ${shapeText(shape)}`,
    );
  }
  return { operand, strides };
}
