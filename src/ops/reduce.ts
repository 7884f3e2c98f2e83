/** Reductions over one, several or all axes: f32 (f64 on the reference backend). */

import { aBoolean, numbers } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { record } from '../autograd/tape.ts';
import { binary } from '../backend/calls/elementwise.ts';
import type { ReduceOp } from '../backend/calls/reduce.ts';
import { broadcastStrides, normalizeAxis, stridesOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { div, mul } from './binary.ts';
import { broadcastTo } from './broadcast-to.ts';
import { allocate, commonBackend, floatDType } from './operands.ts';
import { reduceAxes } from './reduce-axes.ts';
import { reshape } from './reshape.ts';

/** Options of `sum`, `mean`, `max` and `min`. */
export interface ReduceOptions {
  /** One axis or several, negative from the end; default all. `[]` reduces nothing. */
  readonly axis?: number | readonly number[];
  /** Keep reduced axes with length 1; default false. */
  readonly keepDims?: boolean;
}

const OPTIONS = optionKinds<ReduceOptions>({ axis: numbers, keepDims: aBoolean });

/** Sum; 0 when empty. */
export function sum(x: Tensor, options: ReduceOptions = {}): Tensor {
  return reduce('sum', 'sum', x, options);
}

/** Arithmetic mean; NaN when empty. */
export function mean(x: Tensor, options: ReduceOptions = {}): Tensor {
  const total = reduce('mean', 'sum', x, options);
  try {
    const count = checkAxes('mean', x, options.axis).reduce((product, axis) => product * x.shape[axis], 1);
    return mul(total, 1 / count);
  } finally {
    total.dispose();
  }
}

/** Largest element; NaN when one is NaN; -Infinity when empty. */
export function max(x: Tensor, options: ReduceOptions = {}): Tensor {
  return reduce('max', 'max', x, options);
}

/** Smallest element; NaN when one is NaN; Infinity when empty. */
export function min(x: Tensor, options: ReduceOptions = {}): Tensor {
  return reduce('min', 'min', x, options);
}

/** The axes, checked, ascending. */
function checkAxes(op: string, x: Tensor, axis: ReduceOptions['axis']): number[] {
  const rank = x.shape.length;
  if (axis === undefined) return x.shape.map((_, i) => i);
  const axes = (typeof axis === 'number' ? [axis] : [...axis]).map((one) => normalizeAxis(op, one, rank));
  if (new Set(axes).size !== axes.length)
    throw new RangeError(`${op}: expected distinct axes, got [${axes.join(', ')}]`);
  return axes.sort((a, b) => a - b);
}

function reduce(name: string, op: ReduceOp, x: Tensor, options: ReduceOptions): Tensor {
  checkOptions(name, options, OPTIONS);
  const backend = commonBackend(name, x);
  const dtype = floatDType(name, x);
  const axes = checkAxes(name, x, options.axis);
  const shape = x.shape.map((dim, i) => (axes.includes(i) ? 1 : dim));

  const result = options.keepDims ? shape : x.shape.filter((_, i) => !axes.includes(i));
  const out = reduceAxes(backend, op, dtype, x, axes, result);
  record({
    inputs: [x],
    outputs: [out],
    saved: op === 'sum' ? [] : [x, out],
    vjp: ([gradient], saved) => {
      const g = reshape(gradient as Tensor, shape);
      return [op === 'sum' ? broadcastTo(g, x.shape) : shared(g, saved[0], reshape(saved[1], shape), axes)];
    },
  });
  return out;
}

/** The gradient of max or min, divided evenly among the elements that equal the result (as JAX). */
function shared(gradient: Tensor, x: Tensor, extremum: Tensor, axes: readonly number[]): Tensor {
  const backend = commonBackend('reduce', x);
  const dtype = floatDType('reduce', x);
  const hits = allocate(backend, dtype, x);
  const [aStrides, bStrides] = [stridesOf(x.shape), broadcastStrides(extremum.shape, x.shape)];
  const { shape } = x;
  backend.run(binary, { op: 'equal', out: hits, a: x, b: extremum, shape, aStrides, bStrides });
  const count = reduceAxes(backend, 'sum', dtype, hits, axes, extremum.shape);
  return mul(hits, div(gradient, count));
}
