/** Writes a GGUF file as `writeSafetensors` writes safetensors: each tensor's bytes are asked for in turn. */
import { aNumber, describe } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { checkPlace, type PlaceLike } from '../files/place.ts';
import { encodeGgufHeader } from '../format/encode-gguf.ts';
import type { GgufHeader } from '../format/gguf.ts';
import type { GgufPair } from '../format/gguf-value.ts';
import { checkTensorBytes, chunksOf, type TensorBytes } from './tensor-bytes.ts';
import { writeTensorFile } from './write-tensors.ts';

export type { GgufPair } from '../format/gguf-value.ts';

/** Options of `writeGguf`. */
export interface WriteGgufOptions {
  /**
   * Tensors written at the same time; default 1. With more, the chunks of two tensors must not share a
   * buffer.
   */
  readonly concurrency?: number;
}

const OPTIONS = optionKinds<WriteGgufOptions>({ concurrency: aNumber });

/**
 * Writes `tensors` to `path`, atomically.
 *
 * Source: ggml/docs/gguf.md.
 * @param metadata in file order, each value with its stored type (`u32`, `string`, `[f32]`)
 * @param tensors by name, in file order; shapes row-major, as everywhere
 * @throws TypeError for a type GGUF does not have, or a metadata value of another type than stated; RangeError
 * for an integer outside of its type's range, or when data and shape disagree in size
 */
export async function writeGguf(
  path: PlaceLike,
  metadata: ReadonlyMap<string, GgufPair>,
  tensors: ReadonlyMap<string, TensorBytes>,
  options: WriteGgufOptions = {},
): Promise<void> {
  checkPlace('writeGguf', 'a path first', path);
  checkOptions('writeGguf', options, OPTIONS);
  if (!(metadata instanceof Map && tensors instanceof Map)) {
    throw new TypeError(
      `writeGguf: expected metadata and tensors as maps, got ${describe(metadata)} and ${describe(tensors)}`,
    );
  }
  const entries = [...tensors].map(([name, tensor]) => {
    checkTensorBytes('writeGguf', name, tensor);
    return { name, dtype: tensor.dtype, shape: tensor.shape };
  });
  const header = encodeGgufHeader(metadata, entries);
  const last = header.tensors.at(-1);
  const end = last && last.byteOffset + last.byteLength;
  await writeTensorFile(path, {
    op: 'writeGguf',
    header,
    size: end && Math.ceil(end / header.alignment) * header.alignment, // the last tensor is padded too
    chunksOf: (name) => chunksOf(tensors.get(name)!),
    concurrency: options.concurrency,
  });
}

/** The metadata of an opened file, as `writeGguf` takes it. */
export function metadataPairs({ metadata, metadataTypes }: GgufHeader): Map<string, GgufPair> {
  return new Map([...metadata].map(([key, value]) => [key, { type: metadataTypes.get(key)!, value }]));
}
