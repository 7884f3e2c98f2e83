/**
 * Tensors at their places in an open file: what the writers of safetensors and GGUF share. What is written is synced every
 * 64 MiB while the next is made, so that the sync at the end finds little to do.
 */
import type { FileWriter } from '../files/folder.ts';
import type { TensorInfo } from '../format/tensor-info.ts';
import { eventLoopTurn } from '../tensor/event-loop.ts';
import type { ByteChunks } from './tensor-bytes.ts';

/** Left to itself, Linux begins to store a file when a tenth of the memory waits for it, or the sync at the end. */
const SYNC_BYTES = 64 << 20;

/** Where the tensors go, and what tells their bytes. */
export interface TensorPlaces {
  /** The writer's name, for errors. */
  readonly op: string;
  /** In file order, each at its `byteOffset` of the file. */
  readonly tensors: readonly TensorInfo[];
  readonly chunksOf: (name: string) => ByteChunks;
  /** Tensors written at the same time: while one is read, another can be written or computed. */
  readonly atOnce: number;
}

/**
 * Writes tensors into `file`; gaps between them become zeros.
 * @throws RangeError when a tensor's chunks have another size than its place, before anything lands in the next one's, or `atOnce`
 * is no count; what `chunksOf` or the file system throws, with no write still under way
 */
export async function writeTensors(
  file: FileWriter,
  { op, tensors, chunksOf, atOnce }: TensorPlaces,
): Promise<void> {
  if (!Number.isInteger(atOnce) || atOnce < 1) {
    throw new RangeError(`${op}: expected atOnce to be an integer >= 1, got ${atOnce}`);
  }
  let unsynced = 0;
  let synced = Promise.resolve();
  const count = async (bytes: number) => {
    unsynced += bytes;
    if (unsynced < SYNC_BYTES) return;
    unsynced = 0;
    // One after the other, and awaited at the end: the system reports a failed write to one sync only.
    const before = synced;
    synced = before.then(() => file.sync());
    synced.catch(() => {});
    await before;
  };
  const writeOne = async ({ name, byteOffset, byteLength }: TensorInfo) => {
    let written = 0;
    for await (const chunk of chunksOf(name)) {
      const at = byteOffset + written;
      written += chunk.byteLength;
      if (written > byteLength) throw sizeError(op, name, byteLength, written);
      await file.write(chunk, at);
      await count(chunk.byteLength);
      await eventLoopTurn(); // writing in place gives no turn to what else the program does
    }
    if (written !== byteLength) throw sizeError(op, name, byteLength, written);
  };
  let next = 0;
  const lane = async () => {
    try {
      while (next < tensors.length) await writeOne(tensors[next++]);
    } catch (error) {
      next = tensors.length; // the other lanes end with the tensors they are at
      throw error;
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: atOnce }, lane));
  const [sync] = await Promise.allSettled([synced]);
  for (const end of [...lanes, sync]) if (end.status === 'rejected') throw end.reason;
}

export function sizeError(op: string, name: string, expected: number, got: number): RangeError {
  return new RangeError(`${op}: ${name}: expected ${expected} bytes for its shape, got ${got}`);
}
