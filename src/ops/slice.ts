/** A rectangular part of a tensor, copied. */

import { listOfNumbers } from '../arguments/kinds.ts';
import { record } from '../autograd/tape.ts';
import { convert, copyStrided, fill } from '../backend/calls/copy.ts';
import { isBlockDType } from '../tensor/dtype.ts';
import { UnsupportedError } from '../tensor/errors.ts';
import { shapeText, stridesOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { allocate, checkRank, commonBackend } from './operands.ts';

/**
 * `x[starts[0]:limits[0]:strides[0], starts[1]:limits[1]:strides[1], …]`, as `jax.lax.slice`.
 * @param x any dtype, rank 1 to 6; block types along leading axes only (whole rows).
 * @param starts first index per axis; negative counts from the end; axes not given are taken whole.
 * @param limits one past the last index per axis, likewise; default the ends.
 * @param strides step per axis, a positive integer; default 1.
 * @throws RangeError when a range is outside its axis or reversed, or for a step below 1.
 * @returns shape `ceil((limits - starts) / strides)`.
 * @example slice(tensor([0, 1, 2, 3, 4]), [0], [5], [2]); // [0, 2, 4]
 */
export function slice(
  x: Tensor,
  starts: readonly number[],
  limits: readonly number[] = [],
  strides: readonly number[] = [],
): Tensor {
  const backend = commonBackend('slice', x);
  checkRank('slice', 'x', x, 1, 6);
  listOfNumbers('slice', 'starts', starts);
  listOfNumbers('slice', 'limits', limits);
  listOfNumbers('slice', 'strides', strides);
  const bound = (value: number | undefined, dim: number, missing: number) =>
    value === undefined ? missing : value < 0 ? value + dim : value;
  const first = x.shape.map((dim, i) => bound(starts[i], dim, 0));
  const last = x.shape.map((dim, i) => bound(limits[i], dim, dim));
  const inside = x.shape.every((dim, i) => first[i] >= 0 && first[i] <= last[i] && last[i] <= dim);
  const whole = [...first, ...last].every(Number.isInteger);
  if (!inside || !whole || starts.length > x.shape.length || limits.length > x.shape.length) {
    throw new RangeError(
      `slice: expected ranges inside ${shapeText(x.shape)}, got starts ${shapeText(starts)}, limits ${shapeText(limits)}`,
    );
  }
  if (strides.length > x.shape.length || !strides.every((step) => Number.isSafeInteger(step) && step >= 1)) {
    throw new RangeError(
      `slice: expected up to ${x.shape.length} strides >= 1, got strides ${shapeText(strides)}`,
    );
  }
  const steps = x.shape.map((_, i) => strides[i] ?? 1);
  const shape = x.shape.map((_, i) => Math.ceil((last[i] - first[i]) / steps[i]));
  const out = allocate(backend, x.dtype, shape);
  const own = stridesOf(x.shape);
  const offset = first.reduce((at, index, i) => at + index * own[i], 0);
  // A step of an axis of which one index is taken would only make a stride larger than the tensor.
  const taken = own.map((stride, i) => (shape[i] > 1 ? stride * steps[i] : stride));
  // The slice is contiguous when the first axis longer than 1 has no step and all after it are whole: one copy,
  // block types included.
  const cut = shape.findIndex((length) => length !== 1);
  const isWhole = shape.slice(cut + 1).every((length, i) => length === x.shape[cut + 1 + i]);
  if (cut < 0 || (isWhole && taken[cut] === own[cut])) {
    const cutsRow = isBlockDType(x.dtype) && shape.at(-1) !== x.shape.at(-1);
    if (cutsRow) throw new UnsupportedError('slice', `${x.dtype} within a row`, backend.name);
    backend.run(convert, { out, x, xOffset: offset, count: out.size });
  } else {
    if (isBlockDType(x.dtype)) throw new UnsupportedError('slice', `${x.dtype} within a row`, backend.name);
    const outStrides = stridesOf(shape);
    backend.run(copyStrided, { out, outStrides, x, xOffset: offset, xStrides: taken, shape });
  }
  const { shape: before } = x;
  record({
    inputs: [x],
    outputs: [out],
    saved: [],
    vjp: ([gradient]) => {
      const g = gradient as Tensor;
      const dX = allocate(backend, g.dtype, before);
      backend.run(fill, { out: dX, count: dX.size, value: 0 });
      const into = { out: dX, outOffset: offset, outStrides: taken };
      backend.run(copyStrided, { x: g, xStrides: stridesOf(shape), shape, ...into });
      return [dX];
    },
  });
  return out;
}
