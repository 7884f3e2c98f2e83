/** A tensor of another shape on the same memory: nothing is copied. */
import { listOfNumbers } from '../arguments/kinds.ts';
import { aliasGradient } from '../autograd/tape.ts';
import { type Shape, shapeText, sizeOf } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { commonBackend } from './operands.ts';

/**
 * The same elements, row-major, as `shape`.
 * @param x any dtype; block types keep whole rows of blocks.
 * @param shape one dimension may be -1, which is inferred.
 * @throws RangeError when the element counts differ.
 * @returns a tensor that shares `x`'s memory; either may be disposed first.
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  commonBackend('reshape', x);
  listOfNumbers('reshape', 'shape', shape);
  const result = [...shape];
  const open = shape.indexOf(-1);
  if (open >= 0) {
    result[open] = 1;
    const rest = sizeOf(result);
    result[open] = rest === 0 ? 0 : x.size / rest;
  }
  if (sizeOf(result) !== x.size || result.some((dim) => !Number.isSafeInteger(dim) || dim < 0)) {
    throw new RangeError(
      `reshape: expected a shape of ${x.size} elements, got ${shapeText(shape)} for ${shapeText(x.shape)}`,
    );
  }
  const out = new Tensor(x.storage, x.dtype, result);
  aliasGradient(out, x);
  return out;
}
