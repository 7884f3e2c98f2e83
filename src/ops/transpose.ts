/** Permutation of axes. It copies, because tensors are always contiguous. */

import { listOfNumbers } from '../arguments/kinds.ts';
import { record } from '../autograd/tape.ts';
import { copyStrided } from '../backend/calls/copy.ts';
import { isBlockDType } from '../tensor/dtype.ts';
import { UnsupportedError } from '../tensor/errors.ts';
import { normalizeAxis, stridesOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { allocate, checkRank, commonBackend } from './operands.ts';
import { reshape } from './reshape.ts';

/**
 * `out[i_p0, i_p1, …] = x[i_0, i_1, …]`: axis k of the result is axis `permutation[k]` of `x`.
 * @param x plain dtype, rank up to 6.
 * @param permutation every axis once; default reversed. Negative counts from the end.
 * @throws RangeError for anything but a permutation; UnsupportedError for block types.
 */
export function transpose(x: Tensor, permutation?: readonly number[]): Tensor {
  const backend = commonBackend('transpose', x);
  checkRank('transpose', 'x', x, 0, 6);
  if (isBlockDType(x.dtype)) throw new UnsupportedError('transpose', x.dtype, backend.name);
  if (permutation) listOfNumbers('transpose', 'permutation', permutation);
  const rank = x.shape.length;
  const axes = permutation
    ? Array.from(permutation, (axis) => normalizeAxis('transpose', axis, rank))
    : x.shape.map((_, i) => rank - 1 - i);
  if (axes.length !== rank || new Set(axes).size !== rank) {
    throw new RangeError(
      `transpose: expected a permutation of ${rank} axes, got [${permutation?.join(', ')}]`,
    );
  }
  if (axes.every((axis, i) => axis === i)) return reshape(x, x.shape);
  const own = stridesOf(x.shape);
  const shape = axes.map((axis) => x.shape[axis]);
  const out = allocate(backend, x.dtype, shape);
  const strides = axes.map((axis) => own[axis]);
  backend.run(copyStrided, { out, outStrides: stridesOf(shape), x, xStrides: strides, shape });
  const inverse = axes.map((_, i) => axes.indexOf(i));
  record({
    inputs: [x],
    outputs: [out],
    saved: [],
    vjp: ([g]) => [g && transpose(g, inverse)],
  });
  return out;
}
