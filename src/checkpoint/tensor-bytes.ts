/** What the writers of checkpoints take: a tensor as bytes. Free of Node's types, since public declarations show it. */
import type { StorageType } from '../format/storage-type.ts';

/** Chunks of a tensor's bytes, in order and little-endian. Each is written before the next is asked for: one buffer may serve all. */
export type ByteChunks = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** A tensor as bytes: all at once (any typed array over the stored bits), or in chunks made on demand. */
export interface TensorBytes {
  readonly dtype: StorageType;
  readonly shape: readonly number[];
  readonly data: ArrayBufferView | (() => ByteChunks);
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
