/**
 * Tensors on the file's own bytes: the native backend maps the file, the others read the slice. Weights stay as stored
 * (block types too) unless another type is asked for; nothing is unpacked to f32 behind the caller's back.
 */

import { aNumber, anything, describe, listOfNumbers } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { convert } from '../backend/calls/copy.ts';
import { type Backend, type BackendHandle, backendOfHandle, getBackend } from '../backend/index.ts';
import { aDType, byteLengthOf, type DType, isBlockDType, isDType } from '../tensor/dtype.ts';
import { decode, encode } from '../tensor/encode.ts';
import { UnsupportedError } from '../tensor/errors.ts';
import { sizeOf } from '../tensor/shape.ts';
import { release, type Storage } from '../tensor/storage.ts';
import { Tensor } from '../tensor/tensor.ts';
import type { Checkpoint, CheckpointTensor } from './checkpoint.ts';

/** Where to put a tensor, and as what. */
export interface LoadTensorOptions {
  /** The current backend by default. */
  readonly backend?: BackendHandle;
  /** Convert to this plain type; as stored by default (no copy on the native backend). */
  readonly dtype?: DType;
  /** Take only this index of the first axis, without that axis; `rows` are then rows of it. Default all. */
  readonly item?: number;
  /** Take only these rows of the first axis: a part of a fused projection. Default all. */
  readonly rows?: readonly [first: number, end: number];
}

const OPTIONS = optionKinds<LoadTensorOptions>({
  backend: anything,
  dtype: aDType,
  item: aNumber,
  rows: listOfNumbers,
});

/**
 * Makes a tensor of a checkpoint.
 * @param name as in `checkpoint.tensors`
 * @throws RangeError when there is no such tensor or it has no such rows; UnsupportedError naming the tensor and its type when it is stored as
 * something the kernels do not read, or asked for as something its type is not converted to
 * @returns row-major, shape as in the header (with `rows`, of so many rows). On the native backend it aliases the mapped file, which stays mapped for as
 * long as the tensor lives, also after `checkpoint.close()`
 * @example
 * await using checkpoint = await openCheckpoint('model.gguf');
 * const embedding = loadTensor(checkpoint, 'token_embd.weight', { dtype: 'f32' }); // [V, D]
 */
export function loadTensor(checkpoint: Checkpoint, name: string, options: LoadTensorOptions = {}): Tensor {
  checkOptions('loadTensor', options, OPTIONS);
  if (typeof checkpoint?.tensor !== 'function') {
    throw new TypeError(
      `loadTensor: expected a checkpoint, such as openCheckpoint gives, got ${describe(checkpoint)}`,
    );
  }
  const backend = options.backend ? backendOfHandle(options.backend) : getBackend();
  const whole = checkpoint.tensor(name);
  const op = `loadTensor: ${whole.path}: ${name}`;
  const item = options.item === undefined ? whole : itemOf(op, whole, options.item);
  const info = options.rows === undefined ? item : rowsOf(op, item, options.rows);
  const { dtype: stored, shape } = info;
  // f64 exists on the reference backend only; elsewhere it can be asked for as another type.
  const elsewhere = stored === 'f64' && backend.name !== 'reference';
  if (elsewhere && isFloat(options.dtype)) return narrowed(checkpoint, backend, info, options.dtype);
  if (!isDType(stored) || elsewhere) {
    throw new UnsupportedError(
      op,
      stored,
      backend.name,
      elsewhere
        ? 'ask for it as f32, f16 or bf16'
        : 'weights may be f32, f16, bf16 or blocks (q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k)',
    );
  }
  const wanted = options.dtype ?? stored;
  if (wanted !== stored && (isBlockDType(wanted) || (isBlockDType(stored) && wanted !== 'f32'))) {
    throw new UnsupportedError(op, `${stored} as ${wanted}`, backend.name, 'block types convert to f32 only');
  }
  const asStored = new Tensor(storageOf(checkpoint, backend, info), stored, shape);
  if (wanted === stored) return asStored;
  try {
    const out = new Tensor(backend.allocate(byteLengthOf(wanted, sizeOf(shape))), wanted, shape);
    backend.run(convert, { out, x: asStored, count: out.size });
    return out;
  } finally {
    asStored.dispose();
  }
}

function isFloat(dtype: DType | undefined): dtype is 'f32' | 'f16' | 'bf16' {
  return dtype === 'f32' || dtype === 'f16' || dtype === 'bf16';
}

/** A tensor of f64 values, each rounded once to a type that the backend has. */
function narrowed(checkpoint: Checkpoint, backend: Backend, info: CheckpointTensor, dtype: DType): Tensor {
  const { path, byteOffset, byteLength, shape } = info;
  const mapped = checkpoint.backendFile(backend, path).storage(byteOffset, byteLength);
  try {
    const values = decode('f64', backend.read(mapped, 0, byteLength), sizeOf(shape));
    const out = new Tensor(backend.allocate(byteLengthOf(dtype, sizeOf(shape))), dtype, shape);
    backend.write(out.storage, encode(dtype, values));
    return out;
  } finally {
    release(mapped);
  }
}

function itemOf(op: string, info: CheckpointTensor, item: number): CheckpointTensor {
  const one = rowsOf(op, info, [item, item + 1]);
  return { ...one, shape: one.shape.slice(1) };
}

/** Rows `first … end - 1` as a tensor of their own; rows are whole blocks, so they begin at a byte. */
function rowsOf(
  op: string,
  info: CheckpointTensor,
  [first, end]: readonly [number, number],
): CheckpointTensor {
  const rows = info.shape[0] ?? 0;
  if (!Number.isInteger(first) || !Number.isInteger(end) || first < 0 || end < first || end > rows) {
    throw new RangeError(`${op}: expected rows inside 0 to ${rows}, got ${first} to ${end}`);
  }
  const rowBytes = rows === 0 ? 0 : info.byteLength / rows;
  return {
    ...info,
    shape: [end - first, ...info.shape.slice(1)],
    byteOffset: info.byteOffset + first * rowBytes,
    byteLength: (end - first) * rowBytes,
  };
}

/** The tensor's bytes in place, or a copy where the file has them at an address their type cannot be read from. */
function storageOf(checkpoint: Checkpoint, backend: Backend, info: CheckpointTensor): Storage {
  const { path, byteOffset, byteLength, dtype } = info;
  const mapped = checkpoint.backendFile(backend, path).storage(byteOffset, byteLength);
  // Blocks begin with an f16 scale. Old safetensors files have headers of any length, so their data may sit at odd bytes.
  const width = isDType(dtype) && isBlockDType(dtype) ? 2 : byteLength / Math.max(1, sizeOf(info.shape));
  if (byteOffset % Math.max(1, width) === 0) return mapped;
  try {
    const copy = backend.allocate(byteLength);
    backend.write(copy, backend.read(mapped, 0, byteLength));
    return copy;
  } finally {
    release(mapped);
  }
}
