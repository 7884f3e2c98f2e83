/** Tensors joined along an axis. */

import { describe } from '../arguments/kinds.ts';
import { record } from '../autograd/tape.ts';
import { convert, copyStrided } from '../backend/calls/copy.ts';
import { backendOf } from '../backend/registry.ts';
import { isBlockDType } from '../tensor/dtype.ts';
import { normalizeAxis, shapeText, sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { allocate, commonBackend } from './operands.ts';
import { slice } from './slice.ts';

/**
 * Joins tensors of one dtype along `axis`.
 * @param list at least one; equal shapes but for `axis`. Block types join along any axis (whole rows).
 * @param axis default 0; negative counts from the end.
 * @throws RangeError when the list is empty or other axes differ; TypeError when dtypes differ.
 */
export function concat(list: readonly Tensor[], axis = 0): Tensor {
  if (!('length' in Object(list))) {
    throw new TypeError(`concat: expected an array of tensors, got ${describe(list)}`);
  }
  const tensors = Array.from(list);
  if (tensors.length === 0) throw new RangeError('concat: expected at least one tensor, got 0');
  for (const x of tensors) commonBackend('concat', tensors[0], x);
  const backend = backendOf(tensors[0]);
  const [{ shape, dtype }] = tensors;
  const at = normalizeAxis('concat', axis, shape.length);
  for (const x of tensors) {
    if (x.dtype !== dtype) throw new TypeError(`concat: expected one dtype, got ${dtype} and ${x.dtype}`);
    if (x.shape.length !== shape.length || x.shape.some((dim, i) => i !== at && dim !== shape[i])) {
      throw new RangeError(
        `concat: expected shapes equal but for axis ${at}, got ${shapeText(shape)} and ${shapeText(x.shape)}`,
      );
    }
  }
  const joined = tensors.reduce((length, x) => length + x.shape[at], 0);
  const out = allocate(
    backend,
    dtype,
    shape.map((dim, i) => (i === at ? joined : dim)),
  );
  const outer = sizeOf(shape.slice(0, at));
  const inner = sizeOf(shape.slice(at + 1));
  let before = 0;
  for (const x of tensors) {
    const count = x.shape[at] * inner;
    if (count === 0 || outer === 0) continue;
    if (outer === 1 || isBlockDType(dtype)) {
      for (let o = 0; o < outer; o++) {
        const outOffset = o * joined * inner + before;
        backend.run(convert, { out, outOffset, x, xOffset: o * count, count });
      }
    } else {
      const to = { out, outOffset: before, outStrides: [joined * inner, 1] };
      backend.run(copyStrided, { x, xStrides: [count, 1], shape: [outer, count], ...to });
    }
    before += count;
  }
  const lengths = tensors.map((x) => x.shape[at]);
  record({
    inputs: tensors,
    outputs: [out],
    saved: [],
    vjp: ([g], _saved, needed) => {
      let from = 0;
      return lengths.map((length, i) => {
        const starts = shape.map((_, d) => (d === at ? from : 0));
        const limits = shape.map((dim, d) => (d === at ? from + length : dim));
        from += length;
        return needed[i] ? slice(g as Tensor, starts, limits) : undefined;
      });
    },
  });
  return out;
}
