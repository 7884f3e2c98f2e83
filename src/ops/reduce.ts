/** Reductions over one, several or all axes: f32 (f64 on the reference backend). */
import type { ReduceOp } from '../backend/backend.ts';
import { normalizeAxis, sizeOf } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { mul } from './binary.ts';
import { allocate, commonBackend, floatDType } from './operands.ts';

export interface ReduceOptions {
  /** One axis or several, negative from the end; default all. `[]` reduces nothing. */
  readonly axis?: number | readonly number[];
  /** Keep reduced axes with length 1; default false. */
  readonly keepDims?: boolean;
}

/** Sum; 0 over nothing. */
export function sum(x: Tensor, options: ReduceOptions = {}): Tensor {
  return reduce('sum', 'sum', x, options);
}

/** Arithmetic mean; NaN over nothing. */
export function mean(x: Tensor, options: ReduceOptions = {}): Tensor {
  const total = reduce('mean', 'sum', x, options);
  try {
    const count = checkAxes('mean', x, options.axis).reduce((product, axis) => product * x.shape[axis], 1);
    return mul(total, 1 / count);
  } finally {
    total.dispose();
  }
}

/** Largest element; NaN when one is; -Infinity over nothing. */
export function max(x: Tensor, options: ReduceOptions = {}): Tensor {
  return reduce('max', 'max', x, options);
}

/** Smallest element; NaN when one is; Infinity over nothing. */
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
  const backend = commonBackend(name, x);
  const dtype = floatDType(name, x);
  const axes = checkAxes(name, x, options.axis);
  const shape = x.shape.map((dim, i) => (axes.includes(i) ? 1 : dim));

  // Runs of adjacent axes, last first: each is one [outer, n, inner] -> [outer, inner].
  let from = x;
  let current: readonly number[] = x.shape;
  for (let last = axes.length - 1; last >= 0; ) {
    let first = last;
    while (first > 0 && axes[first - 1] === axes[first] - 1) first--;
    const [begin, end] = [axes[first], axes[last] + 1];
    const outer = sizeOf(current.slice(0, begin));
    const n = sizeOf(current.slice(begin, end));
    const inner = sizeOf(current.slice(end));
    current = current.map((dim, i) => (i >= begin && i < end ? 1 : dim));
    const out = allocate(backend, dtype, current);
    backend.reduce(op, out, from, outer, n, inner);
    if (from !== x) from.dispose();
    from = out;
    last = first - 1;
  }
  const result = options.keepDims ? shape : x.shape.filter((_, i) => !axes.includes(i));
  const out = new Tensor(from.storage.retain(), dtype, result);
  if (from !== x) from.dispose();
  return out;
}
