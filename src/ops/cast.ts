/** The same values in another dtype. */

import { show } from '../arguments/kinds.ts';
import { record } from '../autograd/tape.ts';
import { convert } from '../backend/calls/copy.ts';
import { type DType, isBlockDType, isDType } from '../tensor/dtype.ts';
import { UnsupportedError } from '../tensor/errors.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { allocate, commonBackend } from './operands.ts';
import { reshape } from './reshape.ts';

/**
 * Converts every element: to a float with round-to-nearest-even, from float to integer by truncation, to bool
 * by `x != 0`. From block types only, not to them.
 * @throws TypeError for an unknown dtype; UnsupportedError for a block type as target, and for f64 elsewhere
 *   than on the reference backend.
 * @returns `x`'s shape; shares memory when the dtype is the same.
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  const backend = commonBackend('cast', x);
  if (!isDType(dtype)) throw new TypeError(`cast: expected a dtype, got ${show(dtype)}`);
  if (dtype === x.dtype) return reshape(x, x.shape);
  if (isBlockDType(dtype) || (dtype === 'f64' && backend.name !== 'reference')) {
    throw new UnsupportedError('cast', `${x.dtype} to ${dtype}`, backend.name);
  }
  // Blocks decode to f32 only; other dtypes need a second conversion.
  if (isBlockDType(x.dtype) && dtype !== 'f32') {
    const wide = cast(x, 'f32');
    try {
      return cast(wide, dtype);
    } finally {
      wide.dispose();
    }
  }
  const out = allocate(backend, dtype, x);
  backend.run(convert, { out, x, count: x.size });
  // Gradients are f32 for all floats but f64, so only f32 <-> f64 converts.
  const wide = x.dtype === 'f64' ? 'f64' : 'f32';
  record({ inputs: [x], outputs: [out], saved: [], vjp: ([g]) => [g && cast(g, wide)] });
  return out;
}
