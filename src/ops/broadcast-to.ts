/** A tensor repeated along axes of length 1, copied. */

import { record } from '../autograd/tape.ts';
import { copyStrided } from '../backend/calls/copy.ts';
import { isBlockDType } from '../tensor/dtype.ts';
import { UnsupportedError } from '../tensor/errors.ts';
import {
  broadcastShapes,
  broadcastStrides,
  checkedShape,
  type Shape,
  sameShape,
  shapeText,
  stridesOf,
} from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { allocate, checkRank, commonBackend, floatDType } from './operands.ts';
import { reduceAxes } from './reduce-axes.ts';
import { reshape } from './reshape.ts';

/**
 * `x` broadcast to `shape` by NumPy's rule.
 * @param x plain dtype; `shape` has rank up to 6.
 * @throws RangeError when `x` does not broadcast to `shape`; UnsupportedError for block types.
 */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  const backend = commonBackend('broadcastTo', x);
  if (isBlockDType(x.dtype)) throw new UnsupportedError('broadcastTo', x.dtype, backend.name);
  checkRank('broadcastTo', 'x', x, 0, 6);
  const target = checkedShape('broadcastTo', shape);
  if (target.length > 6 || !sameShape(broadcastShapes('broadcastTo', x.shape, target), target)) {
    throw new RangeError(
      `broadcastTo: expected a shape that ${shapeText(x.shape)} broadcasts to, got ${shapeText(target)}`,
    );
  }
  if (sameShape(x.shape, target)) return reshape(x, target);
  const out = allocate(backend, x.dtype, target);
  const [outStrides, xStrides] = [stridesOf(target), broadcastStrides(x.shape, target)];
  backend.run(copyStrided, { out, outStrides, x, xStrides, shape: target });
  const { shape: before } = x;
  record({
    inputs: [x],
    outputs: [out],
    saved: [],
    vjp: ([g]) => [g && sumTo(g, before)],
  });
  return out;
}

/**
 * The gradient of a broadcast: sums `x` over the axes along which `shape` was repeated. Not recorded.
 * @returns a tensor of `shape`; `x` itself when nothing was repeated.
 */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const lead = x.shape.length - shape.length;
  const axes = x.shape.flatMap((dim, i) => (i < lead || (shape[i - lead] === 1 && dim !== 1) ? [i] : []));
  return reduceAxes(commonBackend('sumTo', x), 'sum', floatDType('sumTo', x), x, axes, shape);
}
