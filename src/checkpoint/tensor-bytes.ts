/** What the writers of checkpoints take: a tensor as bytes. Free of Node's types, since public declarations show it. */
import { checkObject, describe } from '../arguments/kinds.ts';
import { STORAGE_TYPES, type StorageType } from '../format/storage-type.ts';

/** Chunks of a tensor's bytes, in order and little-endian. Each is written before the next is asked for: one buffer may serve all. */
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

/**
 * @throws TypeError, RangeError unless `entry` is a tensor as bytes: a known dtype, a shape of dims >= 0, and data
 */
export function checkTensorBytes(op: string, name: string, entry: TensorBytes): void {
  checkObject(op, `${name} as a tensor, or as { dtype, shape, data }`, entry);
  const { dtype, shape, data } = entry;
  if (!STORAGE_TYPES.includes(dtype))
    throw new TypeError(`${op}: ${name}: expected a dtype, got ${describe(dtype)}`);
  if (!Array.isArray(shape)) throw new TypeError(`${op}: ${name}: expected a shape, got ${describe(shape)}`);
  if (!shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0)) {
    throw new RangeError(`${op}: ${name}: expected dims >= 0, got [${shape.join(', ')}]`);
  }
  if (!ArrayBuffer.isView(data) && typeof data !== 'function') {
    const expected = 'expected data as a typed array, or a function that makes chunks';
    throw new TypeError(`${op}: ${name}: ${expected}, got ${describe(data)}`);
  }
}

/** Bytes of an array written before others have their turn. */
const SLICE_BYTES = 4 << 20;

/** A tensor's bytes, where `data` holds or makes them. */
export function chunksOf({ data }: TensorBytes): ByteChunks {
  return typeof data === 'function' ? data() : slices(data);
}

function* slices({ buffer, byteOffset, byteLength }: ArrayBufferView): Generator<Uint8Array> {
  for (let at = 0; at < byteLength; at += SLICE_BYTES) {
    yield new Uint8Array(buffer, byteOffset + at, Math.min(SLICE_BYTES, byteLength - at));
  }
}
