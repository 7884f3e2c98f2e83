/** A hash of a checkpoint's weights, by which a resumed distillation finds that they have changed. */
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { hashOf } from '../train/run-identity.ts';

/** Bytes that are read at a time. */
const SLICE_BYTES = 8 << 20;

/**
 * Reads all tensors: a layer learns from the whole model, and one value in any of them can be another. The files
 * are not compared by name, place or time, so a copy has the same hash.
 * @param signal is looked at between slices
 */
export async function weightsHash(checkpoint: Checkpoint, signal?: AbortSignal): Promise<number> {
  const buffer = new Uint8Array(SLICE_BYTES);
  let hash: number | undefined;
  for (const { name, dtype, shape, byteLength } of checkpoint.tensors.values()) {
    hash = hashOf(new TextEncoder().encode(`${name} ${dtype} ${shape.join(' ')}\n`), hash);
    for (let at = 0; at < byteLength; at += SLICE_BYTES) {
      signal?.throwIfAborted();
      const slice = buffer.subarray(0, Math.min(SLICE_BYTES, byteLength - at));
      await checkpoint.readInto(name, at, slice);
      hash = hashOf(slice, hash);
    }
  }
  return hash ?? 0;
}
