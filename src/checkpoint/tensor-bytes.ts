/**
 * Tensors as the writers of checkpoints take them. Free of Node's types, since public declarations show it.
 */
import { checkObject, describe, show } from '../arguments/kinds.ts';
import { STORAGE_TYPES, type StorageType } from '../format/storage-type.ts';
import { ownerOf } from '../tensor/storage.ts';
import { Tensor } from '../tensor/tensor.ts';

/** Bytes of a tensor that are written at a time. */
const SLICE_BYTES = 8 << 20;

/**
 * Chunks of a tensor's bytes, in order and little-endian. Each is written before the next is asked for, so
 * one buffer can be reused.
 */
export type ByteChunks = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** A tensor as bytes: all at once (any typed array over the stored bits), or in chunks made on demand. */
export interface TensorBytes {
  /** How the bytes store the elements. */
  readonly dtype: StorageType;
  /** Row-major. */
  readonly shape: readonly number[];
  /** All bytes, or a function that returns them in chunks. */
  readonly data: ArrayBufferView | (() => ByteChunks);
}

/** @throws TypeError, RangeError unless `entry` has a known dtype, a shape of dims >= 0, and data */
export function checkTensorBytes(op: string, name: string, entry: TensorBytes): void {
  checkObject(op, `${name} as a tensor, or as { dtype, shape, data }`, entry);
  const { dtype, shape, data } = entry;
  const wrongKind = (expected: string, value: unknown) =>
    new TypeError(`${op}: ${name}: expected ${expected}, got ${describe(value)}`);
  if (!STORAGE_TYPES.includes(dtype)) {
    throw new TypeError(`${op}: ${name}: expected a dtype such as f32, got ${show(dtype)}`);
  }
  if (!Array.isArray(shape)) throw wrongKind('a shape', shape);
  if (!shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0)) {
    throw new RangeError(`${op}: ${name}: expected dims >= 0, got [${shape.join(', ')}]`);
  }
  if (!ArrayBuffer.isView(data) && typeof data !== 'function') {
    throw wrongKind('data as a typed array, or a function that makes chunks', data);
  }
}

/** The bytes of a tensor as stored. */
export function chunksOf(source: TensorBytes | Tensor): ByteChunks {
  if (source instanceof Tensor) return tensorChunks(source);
  return typeof source.data === 'function' ? source.data() : slices(source.data);
}

function* slices({ buffer, byteOffset, byteLength }: ArrayBufferView): Generator<Uint8Array> {
  for (let at = 0; at < byteLength; at += SLICE_BYTES) {
    yield new Uint8Array(buffer, byteOffset + at, Math.min(SLICE_BYTES, byteLength - at));
  }
}

/** The bytes of a tensor, copied out of its backend. */
export function* tensorChunks({ storage, byteLength }: Tensor): Generator<Uint8Array> {
  for (let at = 0; at < byteLength; at += SLICE_BYTES) {
    yield ownerOf(storage).read(storage, at, Math.min(SLICE_BYTES, byteLength - at));
  }
}
