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
 * `x[starts[0]:limits[0], starts[1]:limits[1], …]`.
 * @param x any dtype, rank 1 to 6; block types along leading axes only (whole rows).
 * @param starts first index per axis; negative counts from the end; axes not given are taken whole.
 * @param limits one past the last index per axis, likewise; default the ends.
 * @throws RangeError when a range is outside its axis or reversed.
 * @returns shape `limits - starts`.
 */
export function slice(x: Tensor, starts: readonly number[], limits: readonly number[] = []): Tensor {
  const backend = commonBackend('slice', x);
  checkRank('slice', 'x', x, 1, 6);
  listOfNumbers('slice', 'starts', starts);
  listOfNumbers('slice', 'limits', limits);
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
  const shape = x.shape.map((_, i) => last[i] - first[i]);
  const out = allocate(backend, x.dtype, shape);
  const strides = stridesOf(x.shape);
  const offset = first.reduce((at, index, i) => at + index * strides[i], 0);
  // The slice is contiguous when all axes after the first one longer than 1 are whole: one copy, block types
  // included.
  const cut = shape.findIndex((length) => length !== 1);
  if (cut < 0 || shape.slice(cut + 1).every((length, i) => length === x.shape[cut + 1 + i])) {
    const cutsRow = isBlockDType(x.dtype) && shape.at(-1) !== x.shape.at(-1);
    if (cutsRow) throw new UnsupportedError('slice', `${x.dtype} within a row`, backend.name);
    backend.run(convert, { out, x, xOffset: offset, count: out.size });
  } else {
    if (isBlockDType(x.dtype)) throw new UnsupportedError('slice', `${x.dtype} within a row`, backend.name);
    const outStrides = stridesOf(shape);
    backend.run(copyStrided, { out, outStrides, x, xOffset: offset, xStrides: strides, shape });
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
      const into = { out: dX, outOffset: offset, outStrides: strides };
      backend.run(copyStrided, { x: g, xStrides: stridesOf(shape), shape, ...into });
      return [dX];
    },
  });
  return out;
}
