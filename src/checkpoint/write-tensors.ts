/**
 * Writes the file of a checkpoint: what the writers of safetensors and GGUF share. Every 64 MiB are synced
 * while the next are made, so that little is left for the sync at the end.
 */
import { checkPositiveInteger, describe } from '../arguments/kinds.ts';
import type { FileWriter } from '../files/folder.ts';
import { outputPlace, type PlaceLike } from '../files/place.ts';
import type { TensorInfo } from '../format/tensor-info.ts';
import { eventLoopTurn } from '../tensor/event-loop.ts';
import type { ByteChunks } from './tensor-bytes.ts';

/**
 * Without this, Linux begins to store a file when a tenth of the memory waits for it, or at the final sync.
 */
const SYNC_BYTES = 64 << 20;

/** A file to be written. */
export interface TensorFile {
  /** The name of the writer, for errors. */
  readonly op: string;
  /** Bytes of the header, and tensors in file order, each with its place in the file. */
  readonly header: { readonly bytes: Uint8Array; readonly tensors: readonly TensorInfo[] };
  /** Length of the file in bytes; default: up to the end of the last tensor. */
  readonly size?: number;
  readonly chunksOf: (name: string) => ByteChunks;
  /** Tensors written at the same time: while one is read, another can be written or computed. Default 1. */
  readonly concurrency: number | undefined;
}

/**
 * Writes a file, atomically; gaps between tensors become zeros.
 * @throws RangeError when the chunks of a tensor have another size than its place, or `concurrency` is no positive
 * integer; what `chunksOf` or the file system throws. No write is under way then
 */
export async function writeTensorFile(
  path: PlaceLike,
  { op, header, size, chunksOf, concurrency = 1 }: TensorFile,
): Promise<void> {
  checkPositiveInteger(op, 'concurrency', concurrency);
  const { folder, file } = await outputPlace(path);
  await folder.write(file, async (out) => {
    await out.write(header.bytes, 0);
    if (size !== undefined) await out.truncate(size);
    await writeTensors(out, op, header.tensors, chunksOf, concurrency);
  });
}

async function writeTensors(
  file: FileWriter,
  op: string,
  tensors: readonly TensorInfo[],
  chunksOf: TensorFile['chunksOf'],
  concurrency: number,
): Promise<void> {
  let unsynced = 0;
  let synced = Promise.resolve();
  const count = async (bytes: number) => {
    unsynced += bytes;
    if (unsynced < SYNC_BYTES) return;
    unsynced = 0;
    // One sync at a time, each awaited: the system reports a failed write to one sync only.
    const before = synced;
    synced = before.then(() => file.sync());
    synced.catch(() => {});
    await before;
  };
  const writeOne = async ({ name, byteOffset, byteLength }: TensorInfo) => {
    let written = 0;
    const chunks: unknown = chunksOf(name);
    if (!isIterable(chunks)) {
      throw new TypeError(`${op}: ${name}: expected chunks of bytes, got ${describe(chunks)}`);
    }
    for await (const chunk of chunks) {
      if (!(chunk instanceof Uint8Array)) {
        throw new TypeError(`${op}: ${name}: expected chunks as Uint8Array, got ${describe(chunk)}`);
      }
      const at = byteOffset + written;
      written += chunk.byteLength;
      if (written > byteLength) throw sizeError(op, name, byteLength, written);
      await file.write(chunk, at);
      await count(chunk.byteLength);
      await eventLoopTurn(); // a synchronous write gives none
    }
    if (written !== byteLength) throw sizeError(op, name, byteLength, written);
  };
  let next = 0;
  const lane = async () => {
    try {
      while (next < tensors.length) await writeOne(tensors[next++]);
    } catch (error) {
      next = tensors.length; // the other lanes end after their current tensors
      throw error;
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: concurrency }, lane));
  const [sync] = await Promise.allSettled([synced]);
  for (const end of [...lanes, sync]) if (end.status === 'rejected') throw end.reason;
}

function isIterable(value: unknown): value is Iterable<unknown> | AsyncIterable<unknown> {
  const isObject = typeof value === 'object' && value !== null;
  return isObject && (Symbol.iterator in value || Symbol.asyncIterator in value);
}

function sizeError(op: string, name: string, expected: number, got: number): RangeError {
  return new RangeError(`${op}: ${name}: expected ${expected} bytes for its shape, got ${got}`);
}
