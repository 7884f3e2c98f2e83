/** The reduction behind `sum`, `max`, `min` and the gradient of a broadcast. Not recorded. */
import type { Backend } from '../backend/backend.ts';
import { type ReduceOp, reduce } from '../backend/calls/reduce.ts';
import { sizeOf } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { allocate, type FloatDType } from './operands.ts';

/**
 * Reduces `x` along `axes` (ascending) and reshapes to `shape`, which may drop the reduced axes or keep them
 * as 1.
 * @returns a new tensor; it shares x's memory when there is nothing to reduce.
 */
export function reduceAxes(
  backend: Backend,
  op: ReduceOp,
  dtype: FloatDType,
  x: Tensor,
  axes: readonly number[],
  shape: readonly number[],
): Tensor {
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
    backend.run(reduce, { op, out, x: from, outer, n, inner });
    if (from !== x) from.dispose();
    from = out;
    last = first - 1;
  }
  const out = new Tensor(from.storage, dtype, shape);
  if (from !== x) from.dispose();
  return out;
}
