/** Softmax and its logarithm along one axis: f32 (f64 on the reference backend). */

import { aNumber } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { record, withoutRecording } from '../autograd/tape.ts';
import * as calls from '../backend/calls/reduce.ts';
import { scope } from '../tensor/scope.ts';
import { normalizeAxis, sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { maximum, mul, sub } from './binary.ts';
import { allocate, checkRank, commonBackend, floatDType } from './operands.ts';
import { max, sum } from './reduce.ts';
import { reshape } from './reshape.ts';
import { transpose } from './transpose.ts';
import { exp, log } from './unary.ts';

/** Options of `softmax` and `logSoftmax`. */
export interface AxisOptions {
  /** Default -1, the last. */
  readonly axis?: number;
}

const OPTIONS = optionKinds<AxisOptions>({ axis: aNumber });

/**
 * `exp(x - max) / sum(exp(x - max))` along `axis`. A slice that is all -Infinity gives zeros, not NaN.
 * @throws RangeError for a scalar or an axis outside `x`.
 */
export function softmax(x: Tensor, options: AxisOptions = {}): Tensor {
  const flat = lowRank('softmax', x, options);
  if (flat) return scope(() => reshape(softmax(reshape(x, flat), { axis: 1 }), x.shape));
  const { backend, dtype, axis } = check('softmax', x, options);
  const rank = x.shape.length;
  if (axis !== rank - 1) {
    // [.., n, ..] -> [.., .., n] and back: swapping two axes is its own inverse.
    const swap = x.shape.map((_, i) => (i === axis ? rank - 1 : i === rank - 1 ? axis : i));
    return scope(() => transpose(softmax(transpose(x, swap)), swap));
  }
  const out = allocate(backend, dtype, x);
  const n = x.shape[axis];
  backend.run(calls.softmax, { out, x, rows: n === 0 ? 0 : x.size / n, n });
  record({
    inputs: [x],
    outputs: [out],
    saved: [out],
    // y (g - sum(g y))
    vjp: ([g], [y]) => [mul(y, sub(g as Tensor, sum(mul(g as Tensor, y), { axis, keepDims: true })))],
  });
  return out;
}

/**
 * `x - max - log(sum(exp(x - max)))` along `axis`, more precise than `log(softmax(x))` for small weights.
 * @throws RangeError for a scalar or an axis outside `x`.
 */
export function logSoftmax(x: Tensor, options: AxisOptions = {}): Tensor {
  const flat = lowRank('logSoftmax', x, options);
  if (flat) return scope(() => reshape(logSoftmax(reshape(x, flat), { axis: 1 }), x.shape));
  const { axis, dtype } = check('logSoftmax', x, options);
  const lowest = dtype === 'f64' ? -Number.MAX_VALUE : -3.4028234663852886e38;
  const compute = () => {
    // For a slice that is all -Infinity: a finite maximum keeps -Infinity - max from being NaN, and a sum
    // clamped to at least 1 (the maximum's own term in all other slices) keeps its logarithm finite.
    const shifted = sub(x, maximum(max(x, { axis, keepDims: true }), lowest));
    return sub(shifted, log(maximum(sum(exp(shifted), { axis, keepDims: true }), 1)));
  };
  const out = withoutRecording(() => scope(compute));
  record({
    inputs: [x],
    outputs: [out],
    saved: [out],
    // g - softmax(x) sum(g)
    vjp: ([g], [y]) => [sub(g as Tensor, mul(exp(y), sum(g as Tensor, { axis, keepDims: true })))],
  });
  return out;
}

/** `[outer, n, inner]` around the axis, of a tensor whose rank is above that of the kernels. */
function lowRank(op: string, x: Tensor, options: AxisOptions): number[] | undefined {
  checkOptions(op, options, OPTIONS);
  commonBackend(op, x);
  if (x.shape.length <= 6) return undefined;
  const axis = normalizeAxis(op, options.axis ?? -1, x.shape.length);
  return [sizeOf(x.shape.slice(0, axis)), x.shape[axis], sizeOf(x.shape.slice(axis + 1))];
}

function check(op: string, x: Tensor, options: AxisOptions) {
  const backend = commonBackend(op, x);
  const dtype = floatDType(op, x);
  checkRank(op, 'x', x, 1, 6);
  return { backend, dtype, axis: normalizeAxis(op, options.axis ?? -1, x.shape.length) };
}
