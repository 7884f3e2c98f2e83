/**
 * Shared by all ops: check that operands are live float tensors on one backend, and allocate the output
 * there.
 */

import { describe } from '../arguments/kinds.ts';
import type { Backend } from '../backend/backend.ts';
import { convert } from '../backend/calls/copy.ts';
import { backendOf } from '../backend/registry.ts';
import { byteLengthOf, type DType } from '../tensor/dtype.ts';
import { UnsupportedError } from '../tensor/errors.ts';
import { type Shape, sameShape, shapeText, sizeOf } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';

export type FloatDType = 'f32' | 'f64';

/**
 * The backend that all operands live on; absent ones are skipped.
 * @throws TypeError when an operand is not a tensor; Error when one was disposed or they are on different
 *   backends.
 */
export function commonBackend(op: string, ...operands: readonly (Tensor | undefined)[]): Backend {
  let backend: Backend | undefined;
  for (const operand of operands) {
    if (operand === undefined) continue;
    if (!(operand instanceof Tensor))
      throw new TypeError(`${op}: expected a tensor, got ${describe(operand)}`);
    if (operand.isDisposed) {
      throw new Error(
        `${op}: expected a live tensor, got ${operand.dtype} ${shapeText(operand.shape)} after dispose()`,
      );
    }
    const own = backendOf(operand);
    if (backend && own !== backend) {
      throw new Error(`${op}: expected operands on one backend, got ${backend.name} and ${own.name}`);
    }
    backend = own;
  }
  if (!backend) throw new TypeError(`${op}: expected a tensor, got none`);
  return backend;
}

/**
 * The dtype of an op's computation and result: f64 when an operand is f64 (reference backend), else f32.
 * @throws UnsupportedError when an operand is neither.
 */
export function floatDType(op: string, ...operands: readonly (Tensor | undefined)[]): FloatDType {
  let dtype: FloatDType = 'f32';
  for (const operand of operands) {
    if (operand === undefined || operand.dtype === 'f32') continue;
    if (operand.dtype !== 'f64') {
      throw new UnsupportedError(op, operand.dtype, backendOf(operand).name, "cast(x, 'f32') first");
    }
    dtype = 'f64';
  }
  return dtype;
}

/**
 * The narrow dtype of an elementwise result, as JAX promotes: f16 or bf16 when all operands are of it; `f32`
 * when one of them is beside another float.
 * @returns undefined when no operand is f16 or bf16
 */
export function narrowDType(
  ...operands: readonly (Tensor | undefined)[]
): 'f16' | 'bf16' | 'f32' | undefined {
  const isNarrow = (x: Tensor | undefined) => x?.dtype === 'f16' || x?.dtype === 'bf16';
  const narrow = operands.find(isNarrow)?.dtype as 'f16' | 'bf16' | undefined;
  return narrow === undefined || operands.every((x) => (x?.dtype ?? narrow) === narrow) ? narrow : 'f32';
}

/** A new, uninitialised tensor on `backend`. @param shape or a tensor of that shape, which avoids a copy */
export function allocate(backend: Backend, dtype: DType, shape: Shape | Tensor): Tensor {
  const size = shape instanceof Tensor ? shape.size : sizeOf(shape);
  return new Tensor(backend.allocate(byteLengthOf(dtype, size)), dtype, shape);
}

/** A new tensor of these numbers on `backend`. */
export function upload(
  backend: Backend,
  dtype: 'i32' | 'f32',
  { buffer, byteOffset, byteLength }: Int32Array | Float32Array,
  shape: Shape,
): Tensor {
  const out = allocate(backend, dtype, shape);
  backend.write(out.storage, new Uint8Array(buffer, byteOffset, byteLength));
  return out;
}

/**
 * `x` itself when f32 or f64, else an f32 copy, which `freeCopy` frees after the call. For small operands
 * such as a bias or a norm's weight. Undefined stays undefined.
 * @throws UnsupportedError for dtypes that are not floats.
 */
export function asWide<T extends Tensor | undefined>(op: string, x: T): T | Tensor {
  if (x === undefined || x.dtype === 'f32' || x.dtype === 'f64') return x;
  const backend = backendOf(x);
  if (x.dtype !== 'f16' && x.dtype !== 'bf16') throw new UnsupportedError(op, x.dtype, backend.name);
  const copy = allocate(backend, 'f32', x);
  backend.run(convert, { out: copy, x, count: x.size });
  return copy;
}

/**
 * Whether all outputs of a call are empty. Then no kernel runs: it could loop over a huge dimension, as in
 * `[0, 2^40]`.
 */
export function hasNoOutput(...outputs: readonly (Tensor | undefined)[]): boolean {
  for (const x of outputs) if (x && x.size > 0) return false;
  return true;
}

/** Frees the copy that `asWide` made of `x`, if it made one. */
export function freeCopy(used: Tensor | undefined, x: Tensor | undefined): void {
  if (used !== x) used?.dispose();
}

/** @throws TypeError unless `x` is a tensor; callers may not be type-checked. */
export function checkTensor(op: string, what: string, x: unknown): void {
  if (!(x instanceof Tensor))
    throw new TypeError(`${op}: expected ${what} to be a tensor, got ${describe(x)}`);
}

/** @throws RangeError unless `rank` of the tensor lies in `min … max`. */
export function checkRank(op: string, what: string, x: Tensor, min: number, max: number = min): void {
  const rank = x.shape.length;
  if (rank >= min && rank <= max) return;
  const expected =
    max === min ? `${min}` : max === Number.POSITIVE_INFINITY ? `${min} or more` : `${min} to ${max}`;
  throw new RangeError(`${op}: expected ${what} of rank ${expected}, got ${shapeText(x.shape)}`);
}

/** @throws RangeError unless the tensor has exactly this shape. */
export function checkExactShape(op: string, what: string, x: Tensor, shape: Shape): void {
  if (sameShape(x.shape, shape)) return;
  throw new RangeError(`${op}: expected ${what} ${shapeText(shape)}, got ${shapeText(x.shape)}`);
}
