/**
 * How the reference backend reads and writes operands: whole, as numbers, rounded to the dtype when stored.
 */
import { byteLengthOf, type DType } from '../../tensor/dtype.ts';
import { decode, encode, type NumericArray } from '../../tensor/encode.ts';
import { sizeOf } from '../../tensor/shape.ts';
import { newStorage, ownerOf, type Storage, type StorageOwner } from '../../tensor/storage.ts';
import type { Operand } from '../calls/call.ts';

/** The bytes of this backend's storages, which have no address. */
const contents = new WeakMap<Storage, Uint8Array<ArrayBuffer>>();

export function bytesStorage(owner: StorageOwner, bytes: Uint8Array<ArrayBuffer>): Storage {
  const storage = newStorage(owner, bytes.byteLength, 0);
  contents.set(storage, bytes);
  return storage;
}

/** The bytes of a storage of this backend. */
export function bytesOf(storage: Storage): Uint8Array<ArrayBuffer> {
  const bytes = contents.get(storage);
  if (bytes) return bytes;
  throw new TypeError(`reference: storage belongs to the ${ownerOf(storage).name} backend`);
}

/** `count` elements from `byteOffset` as numbers; may alias the storage. */
export function decodeAt(storage: Storage, dtype: DType, byteOffset: number, count: number): NumericArray {
  const bytes = bytesOf(storage).subarray(byteOffset, byteOffset + byteLengthOf(dtype, count));
  return decode(dtype, bytes, count);
}

/** All elements as numbers; may alias the storage. */
export function valuesOf(operand: Operand): NumericArray {
  return decodeAt(operand.storage, operand.dtype, 0, sizeOf(operand.shape));
}

/** Writes all elements, rounded to the operand's dtype. */
export function store(out: Operand, values: ArrayLike<number>): void {
  bytesOf(out.storage).set(encode(out.dtype, values));
}

/** Calls `visit` with each operand's element offset for every index of `shape`, in row-major order. */
export function walk(
  shape: readonly number[],
  strides: readonly (readonly number[])[],
  visit: (...offsets: number[]) => void,
): void {
  const step = (axis: number, offsets: number[]): void => {
    if (axis === shape.length) {
      visit(...offsets);
      return;
    }
    for (let i = 0; i < shape[axis]; i++) {
      step(
        axis + 1,
        offsets.map((offset, k) => offset + i * strides[k][axis]),
      );
    }
  };
  step(
    0,
    strides.map(() => 0),
  );
}
