/**
 * Tensors of a checkpoint, as stored (block types too) unless another type is asked for. The native backend
 * maps the file, the others read the tensor's bytes.
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

/** Options of `loadTensor`. */
export interface LoadTensorOptions {
  /** Backend of the tensor; default: the current one. */
  readonly backend?: BackendHandle;
  /**
   * Converts to this type, which is no block type; default: as stored, which the native backend does not
   * copy.
   */
  readonly dtype?: DType;
  /**
   * Index on the first axis, which is then left out; `rows` are rows of that item. Default: the whole tensor.
   */
  readonly item?: number;
  /** Range of rows on the first axis, such as one part of a fused projection. Default: all rows. */
  readonly rows?: readonly [first: number, end: number];
}

const OPTIONS = optionKinds<LoadTensorOptions>({
  backend: anything,
  dtype: aDType,
  item: aNumber,
  rows: listOfNumbers,
});

/**
 * Loads a tensor of a checkpoint that has a path, or is in memory. `loadTensorAsync` takes those of other
 * sources too, such as a Blob or an address.
 * @param name as in `checkpoint.tensors`
 * @throws RangeError when there is no such tensor or it has no such rows; UnsupportedError, with the tensor
 * and its type, when the kernels do not read that type or do not convert it to `dtype`
 * @returns row-major, with the shape of the header, or of the part that `item` and `rows` select. On the
 * native backend it aliases the mapped file, which stays mapped until the tensor is freed, also after
 * `checkpoint.close()`
 * @example
 * await using checkpoint = await openCheckpoint('model.gguf');
 * const embedding = loadTensor(checkpoint, 'token_embd.weight', { dtype: 'f32' }); // [V, D]
 */
export function loadTensor(checkpoint: Checkpoint, name: string, options: LoadTensorOptions = {}): Tensor {
  const { op, backend, info } = chosen('loadTensor', checkpoint, name, options);
  const { dtype: stored, shape } = info;
  // Only the reference backend has f64; the others round it to another type.
  const lacksF64 = stored === 'f64' && backend.name !== 'reference';
  if (lacksF64 && isFloat(options.dtype)) return rounded(checkpoint, backend, info, options.dtype);
  if (!isDType(stored) || lacksF64) {
    throw new UnsupportedError(
      op,
      stored,
      backend.name,
      lacksF64
        ? 'ask for it as f32, f16 or bf16'
        : 'weights may be f32, f16, bf16 or blocks (q8_0, q4_0, q4_1, q5_0, q5_1, q2_k to q6_k, iq4_nl, iq4_xs, mxfp4)',
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

/**
 * As `loadTensor`, from every source: bytes that are not on a disk or in memory are read into the backend's
 * memory first.
 * @throws as `loadTensor`, and what reading the source throws
 * @example
 * await using checkpoint = await openCheckpoint('https://example.org/model.gguf');
 * const norm = await loadTensorAsync(checkpoint, 'output_norm.weight'); // [D]
 */
export async function loadTensorAsync(
  checkpoint: Checkpoint,
  name: string,
  options: LoadTensorOptions = {},
): Promise<Tensor> {
  const { backend, info } = chosen('loadTensorAsync', checkpoint, name, options);
  let tensor: Tensor | undefined;
  await checkpoint.backendFiles.whileFetched(backend, [info], () => {
    tensor = loadTensor(checkpoint, name, options);
  });
  return tensor as Tensor;
}

/** The checked arguments: the backend, and the header's entry of the tensor or of its part. */
function chosen(
  fn: string,
  checkpoint: Checkpoint,
  name: string,
  options: LoadTensorOptions,
): { readonly op: string; readonly backend: Backend; readonly info: CheckpointTensor } {
  checkOptions(fn, options, OPTIONS);
  if (typeof checkpoint?.tensor !== 'function') {
    throw new TypeError(
      `${fn}: expected a checkpoint, such as openCheckpoint gives, got ${describe(checkpoint)}`,
    );
  }
  const backend = options.backend ? backendOfHandle(options.backend) : getBackend();
  const whole = checkpoint.tensor(name);
  const op = `${fn}: ${whole.path}: ${name}`;
  const item = options.item === undefined ? whole : itemOf(op, whole, options.item);
  return { op, backend, info: options.rows === undefined ? item : rowsOf(op, item, options.rows) };
}

function isFloat(dtype: DType | undefined): dtype is 'f32' | 'f16' | 'bf16' {
  return dtype === 'f32' || dtype === 'f16' || dtype === 'bf16';
}

/** A tensor stored as f64, each value rounded once. */
function rounded(checkpoint: Checkpoint, backend: Backend, info: CheckpointTensor, dtype: DType): Tensor {
  const { byteLength, shape } = info;
  const mapped = checkpoint.backendFiles.storage(backend, info);
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

/** Rows `first` to `end - 1` as a tensor. Rows are whole blocks, so each begins at a byte. */
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

/** The tensor's bytes in the file, or a copy of them where they are not aligned for their type. */
function storageOf(checkpoint: Checkpoint, backend: Backend, info: CheckpointTensor): Storage {
  const { byteOffset, byteLength, dtype } = info;
  const mapped = checkpoint.backendFiles.storage(backend, info);
  // Blocks begin with an f16 scale. Old safetensors files have headers of any length, so data may begin at an
  // odd byte.
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
