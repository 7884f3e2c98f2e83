/**
 * Writes a safetensors file, streaming: the header is known from types and shapes, then each tensor's bytes are asked for
 * when their turn comes, so a file larger than memory can be written.
 */
import { encodeSafetensorsHeader, type SafetensorsEntry } from '../format/safetensors.ts';
import type { StorageType } from '../format/storage-type.ts';
import { Tensor } from '../tensor/tensor.ts';
import { append, writeAtomically } from './write-atomically.ts';

/** Chunks of a tensor's bytes, in order and little-endian. Each is written before the next is asked for: one buffer may serve all. */
export type ByteChunks = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** A tensor as bytes: all at once (any typed array over the stored bits), or in chunks made on demand. */
export interface TensorBytes {
  readonly dtype: StorageType;
  readonly shape: readonly number[];
  readonly data: ArrayBufferView | (() => ByteChunks);
}

/** Bytes copied out of a backend at a time. */
const SLICE_BYTES = 8 << 20;

/**
 * Writes `tensors` to `path`, atomically: under a temporary name in the same folder, synced, then renamed; on failure the
 * temporary file is removed and what was at `path` stays.
 * @param tensors by name; a Tensor is written as stored. Order in the file: wider types first, then the order given
 * @param options.metadata strings for `__metadata__`; `{ format: 'pt' }` by default, without which transformers refuses the file
 * @throws TypeError for a type safetensors does not have (block types), RangeError when data and shape disagree in size
 * @example await writeSafetensors('out/model.safetensors', { weight: tensor([[1, 2], [3, 4]]) })
 * Source: safetensors README, section "Format".
 */
export async function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, TensorBytes | Tensor>>,
  options: { readonly metadata?: Readonly<Record<string, string>> } = {},
): Promise<void> {
  const entries: SafetensorsEntry[] = [];
  for (const [name, { dtype, shape }] of Object.entries(tensors)) entries.push({ name, dtype, shape });
  const header = encodeSafetensorsHeader(entries, options.metadata ?? { format: 'pt' });
  for (const { name, byteLength } of header.tensors) {
    const source = tensors[name];
    const given =
      source instanceof Tensor || typeof source.data === 'function' ? byteLength : source.data.byteLength;
    if (given !== byteLength) throw sizeError(name, byteLength, given);
  }
  await writeAtomically(path, async (file) => {
    await append(file, header.bytes);
    for (const { name, byteLength } of header.tensors) {
      let written = 0;
      for await (const chunk of chunksOf(tensors[name])) {
        written += chunk.byteLength;
        // Before it is written: what follows would land in the next tensor.
        if (written > byteLength) throw sizeError(name, byteLength, written);
        await append(file, chunk);
      }
      if (written !== byteLength) throw sizeError(name, byteLength, written);
    }
  });
}

function chunksOf(source: TensorBytes | Tensor): ByteChunks {
  if (source instanceof Tensor) return tensorChunks(source);
  const { data } = source;
  if (typeof data === 'function') return data();
  return [new Uint8Array(data.buffer, data.byteOffset, data.byteLength)];
}

/** A tensor's bytes as stored, 8 MiB at a time. */
export function* tensorChunks({ storage, byteLength }: Tensor): Generator<Uint8Array> {
  for (let at = 0; at < byteLength; at += SLICE_BYTES) {
    yield storage.owner.read(storage, at, Math.min(SLICE_BYTES, byteLength - at));
  }
}

function sizeError(name: string, expected: number, got: number): RangeError {
  return new RangeError(`writeSafetensors: ${name}: expected ${expected} bytes for its shape, got ${got}`);
}
