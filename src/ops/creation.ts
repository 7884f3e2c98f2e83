/** Tensors from numbers. New tensors live on the current backend (`setBackend`). */

import { anything, describe, show } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { Backend } from '../backend/backend.ts';
import { fill } from '../backend/calls/copy.ts';
import { getBackend } from '../backend/registry.ts';
import { type DType, isBlockDType, isDType } from '../tensor/dtype.ts';
import { encode, type NumericArray } from '../tensor/encode.ts';
import { UnsupportedError } from '../tensor/errors.ts';
import { checkedShape, type Shape, shapeText, sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { allocate } from './operands.ts';

/** A number, a boolean, or nested arrays of one of them. */
export type TensorLike = number | boolean | readonly TensorLike[];

/** Options of `zeros`, `ones`, `full` and `arange`. */
export interface CreationOptions {
  /** Default f32. */
  readonly dtype?: DType;
}

/** Options of `tensor`. */
export interface TensorOptions extends CreationOptions {
  /**
   * Default: the shape of the nesting, or `[length]` for a typed array. Its size must equal the number of
   * values.
   */
  readonly shape?: Shape;
}

const OPTIONS = optionKinds<CreationOptions>({ dtype: anything });
const TENSOR_OPTIONS = optionKinds<TensorOptions>({ dtype: anything, shape: anything });

/**
 * A tensor from a number, nested arrays or a typed array (copied).
 *
 * @param values nested arrays give their shape, booleans make a `bool` tensor, numbers `f32`. A typed array
 *   is flat: Float32Array gives `f32`, Int32Array `i32`, Uint32Array `u32`, Uint8Array `u8`, Float64Array
 *   `f64` on the reference backend and `f32` elsewhere.
 * @param options.shape default: the shape of the nesting, or `[length]` for a typed array
 * @param options.dtype any but the block types; values are rounded to it, floats to integers truncate.
 * @throws RangeError for ragged arrays or a shape of another size; TypeError for other values;
 *   UnsupportedError for block types, and for f64 elsewhere than on the reference backend.
 *
 * @example
 * const x = tensor([[1, 2, 3], [4, 5, 6]]); // f32 [2, 3]
 */
export function tensor(values: TensorLike | NumericArray, options: TensorOptions = {}): Tensor {
  checkOptions('tensor', options, TENSOR_OPTIONS);
  const backend = getBackend();
  const {
    flat,
    shape: own,
    dtype: ownDType,
  } = isNumericArray(values) ? fromTyped(values, backend) : fromNested(values);
  const dtype = checkDType('tensor', options.dtype ?? ownDType, backend);
  const shape = checkedShape('tensor', options.shape ?? own);
  if (sizeOf(shape) !== flat.length) {
    throw new RangeError(
      `tensor: expected ${sizeOf(shape)} values for shape ${shapeText(shape)}, got ${flat.length}`,
    );
  }
  const out = allocate(backend, dtype, shape);
  backend.write(out.storage, encode(dtype, flat));
  return out;
}

/** All zeros (false for bool). */
export function zeros(shape: Shape, options: CreationOptions = {}): Tensor {
  return filled('zeros', shape, 0, options);
}

/** All ones (true for bool). */
export function ones(shape: Shape, options: CreationOptions = {}): Tensor {
  return filled('ones', shape, 1, options);
}

/** Every element `value`. */
export function full(shape: Shape, value: number, options: CreationOptions = {}): Tensor {
  return filled('full', shape, value, options);
}

/**
 * `start, start + step, …` below `stop` (above, for a negative step); `arange(n)` counts 0 … n - 1, as
 * NumPy's.
 * @throws RangeError unless `step` is nonzero and all three are finite.
 * @returns `[ceil((stop - start) / step)]`, f32 unless `dtype` says otherwise.
 */
export function arange(stop: number, options?: CreationOptions): Tensor;
export function arange(start: number, stop: number, options?: CreationOptions): Tensor;
export function arange(start: number, stop: number, step: number, options?: CreationOptions): Tensor;
export function arange(...args: (number | CreationOptions | undefined)[]): Tensor {
  const numbers = args.filter((arg) => typeof arg === 'number');
  const options = args.find((arg) => arg !== undefined && typeof arg !== 'number') ?? {};
  checkOptions('arange', options, OPTIONS);
  const [start, stop, step] =
    numbers.length === 1 ? [0, numbers[0], 1] : [numbers[0], numbers[1], numbers[2] ?? 1];
  if (![start, stop, step].every(Number.isFinite) || step === 0) {
    throw new RangeError(
      `arange: expected finite start and stop and a nonzero step, got ${start}, ${stop}, ${step}`,
    );
  }
  const count = Math.max(0, Math.ceil((stop - start) / step));
  if (count > 2 ** 32) throw new RangeError(`arange: expected at most ${2 ** 32} elements, got ${count}`);
  const values = Float64Array.from({ length: count }, (_, i) => start + i * step);
  return tensor(values, { dtype: options.dtype ?? 'f32' });
}

function filled(op: string, shape: Shape, value: number, options: CreationOptions): Tensor {
  checkOptions(op, options, OPTIONS);
  const backend = getBackend();
  const dtype = checkDType(op, options.dtype ?? 'f32', backend);
  if (typeof value !== 'number') throw new TypeError(`${op}: expected a number, got ${describe(value)}`);
  const out = allocate(backend, dtype, checkedShape(op, shape));
  backend.run(fill, { out, count: out.size, value: dtype === 'bool' ? Number(value !== 0) : value });
  return out;
}

function checkDType(op: string, dtype: DType, backend: Backend): DType {
  if (!isDType(dtype)) throw new TypeError(`${op}: expected a dtype, got ${show(dtype)}`);
  if (isBlockDType(dtype))
    throw new UnsupportedError(op, dtype, backend.name, 'block types come from checkpoints');
  if (dtype === 'f64' && backend.name !== 'reference') {
    throw new UnsupportedError(op, dtype, backend.name, 'only the reference backend has f64');
  }
  return dtype;
}

interface Flat {
  readonly flat: ArrayLike<number>;
  readonly shape: number[];
  readonly dtype: DType;
}

function isNumericArray(values: unknown): values is NumericArray {
  return ArrayBuffer.isView(values);
}

function fromTyped(values: NumericArray, backend: Backend): Flat {
  const shape = [values.length];
  if (values instanceof Float32Array) return { flat: values, shape, dtype: 'f32' };
  if (values instanceof Float64Array) {
    return { flat: values, shape, dtype: backend.name === 'reference' ? 'f64' : 'f32' };
  }
  if (values instanceof Int32Array) return { flat: values, shape, dtype: 'i32' };
  if (values instanceof Uint32Array) return { flat: values, shape, dtype: 'u32' };
  if (values instanceof Uint8Array) return { flat: values, shape, dtype: 'u8' };
  throw new TypeError(
    `tensor: expected a Float32, Float64, Int32, Uint32 or Uint8 array, got ${describe(values)}`,
  );
}

function fromNested(values: TensorLike): Flat {
  const shape: number[] = [];
  for (let level: unknown = values; Array.isArray(level); level = level[0]) {
    shape.push(level.length);
    if (level.length === 0) break;
  }
  const flat: number[] = [];
  let kind: string | undefined;
  const visit = (value: TensorLike, axis: number): void => {
    if (axis === shape.length) {
      if (typeof value !== 'number' && typeof value !== 'boolean') {
        if (Array.isArray(value)) throw ragged(shape, axis, describe(value), 'a number');
        throw new TypeError(`tensor: expected numbers, booleans or arrays of them, got ${describe(value)}`);
      }
      if (kind !== undefined && typeof value !== kind) {
        throw new TypeError(`tensor: expected only numbers or only booleans, got both`);
      }
      kind = typeof value;
      flat.push(Number(value));
      return;
    }
    if (!Array.isArray(value) || value.length !== shape[axis]) {
      throw ragged(shape, axis, describe(value), `an array of ${shape[axis]}`);
    }
    for (const item of value) visit(item, axis + 1);
  };
  visit(values, 0);
  return { flat, shape, dtype: kind === 'boolean' ? 'bool' : 'f32' };
}

function ragged(shape: Shape, axis: number, got: string, expected: string): RangeError {
  return new RangeError(
    `tensor: ragged nested arrays: expected ${expected} at depth ${axis} of ${shapeText(shape)}, got ${got}`,
  );
}
