/**
 * Dtype promotion of modules, and products in a given dtype. Kernels compute in f32; for f16 and bf16 each
 * step's result is rounded, as in XLA.
 */
import { backendOf } from '../backend/registry.ts';
import { add } from '../ops/binary.ts';
import { cast } from '../ops/cast.ts';
import { matmul } from '../ops/matmul.ts';
import { reshape } from '../ops/reshape.ts';
import { type DType, isBlockDType } from '../tensor/dtype.ts';
import { UnsupportedError } from '../tensor/errors.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Dtypes that modules compute in; f64 on the reference backend. */
export type ComputeDType = 'f32' | 'f16' | 'bf16' | 'f64';

const FLOATS: readonly DType[] = ['f32', 'f16', 'bf16', 'f64'];

/**
 * The dtype of a computation: `dtype` when given, else promoted from the operands (f16 with bf16, and
 * integers with any dtype, give f32).
 * @throws TypeError when `dtype` is not a float dtype; UnsupportedError for block-quantised operands.
 */
export function resultDType(
  op: string,
  dtype: DType | undefined,
  ...operands: (Tensor | undefined)[]
): ComputeDType {
  if (dtype !== undefined) {
    if (FLOATS.includes(dtype)) return dtype as ComputeDType;
    throw new TypeError(`${op}: expected a dtype to compute in (f32, f16, bf16, f64), got ${dtype}`);
  }
  let result: ComputeDType | undefined;
  for (const operand of operands) {
    if (operand === undefined) continue;
    if (isBlockDType(operand.dtype)) throw new UnsupportedError(op, operand.dtype, backendOf(operand).name);
    const own = FLOATS.includes(operand.dtype) ? (operand.dtype as ComputeDType) : undefined;
    if (own === undefined || own === result) continue;
    result = result === undefined ? own : result === 'f64' || own === 'f64' ? 'f64' : 'f32';
  }
  return result ?? 'f32';
}

/** `x` rounded to `dtype`, stored as f32 (f64 for f64), the dtype of kernels. */
export function rounded(x: Tensor, dtype: ComputeDType): Tensor {
  const wide = dtype === 'f64' ? 'f64' : 'f32';
  return cast(dtype === 'f16' || dtype === 'bf16' ? cast(x, dtype) : x, wide);
}

/**
 * `x @ kernel + bias` in `dtype`. The caller's scope frees intermediates.
 * @param x `[…, In]`. @param kernel `[In, Out]`. @param bias `[Out]`.
 * @returns `[…, Out]` of `dtype`.
 */
export function dense(x: Tensor, kernel: Tensor, bias: Tensor | undefined, dtype: ComputeDType): Tensor {
  const rows = x.shape.length === 1 ? reshape(x, [1, x.shape[0]]) : x;
  let y = matmul(rounded(rows, dtype), rounded(kernel, dtype));
  if (bias) y = add(rounded(y, dtype), rounded(bias, dtype));
  return cast(x.shape.length === 1 ? reshape(y, [kernel.shape[1]]) : y, dtype);
}
