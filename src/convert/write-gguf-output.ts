/** The converted checkpoint as one GGUF file: metadata copied, head count rewritten, weights as stored or as one other type. */

import type { TensorBytes } from '../checkpoint/tensor-bytes.ts';
import { type GgufPair, writeGguf } from '../checkpoint/write-gguf.ts';
import { FormatError } from '../format/format-error.ts';
import type { GgufHeader } from '../format/gguf.ts';
import { type StorageType, storageByteLength, storageLayout } from '../format/storage-type.ts';
import { ggufFromHuggingFace } from './gguf-from-hugging-face.ts';
import { type MixJob, mixedShape } from './mix-tensor.ts';
import { isReadable, isWritable } from './number-codec.ts';
import { copyingMix } from './same-bytes.ts';
import { SpareBuffers } from './spare-buffers.ts';
import type { TensorMix } from './tensor-mix.ts';
import { allMixes, counted } from './write-hugging-face.ts';
import { AT_ONCE, type GgufPlan, type WriteJob, type Written } from './write-job.ts';

/** `general.file_type` (LLAMA_FTYPE_*) of files in one type. */
const FILE_TYPES: Partial<Record<StorageType, number>> = { f32: 0, f16: 1, q8_0: 7, bf16: 32 };

export async function writeGgufOutput(job: WriteJob): Promise<Written> {
  const { checkpoint, to } = job;
  const mixes = allMixes(job);
  const source = checkpoint.gguf
    ? { metadata: copiedMetadata(checkpoint.gguf, job), tensors: sameNames(job, mixes) }
    : await ggufFromHuggingFace(job, mixes);
  const buffers = new SpareBuffers();
  const tensors = new Map<string, MixJob>();
  for (const [name, tensor] of source.tensors) tensors.set(name, await typed(job, { ...tensor, buffers }));
  const total = [...tensors.values()].reduce(
    (sum, tensor) => sum + storageByteLength(tensor.dtype, mixedShape(tensor)),
    0,
  );
  await job.space(total);
  let done = 0;
  const count = (bytes: number) => {
    done += bytes;
    job.onProgress?.(done, total);
  };
  const bytes = new Map<string, TensorBytes>();
  for (const [name, tensor] of tensors) {
    bytes.set(name, { dtype: tensor.dtype, shape: mixedShape(tensor), data: () => counted(tensor, count) });
  }
  await writeGguf(to, withFileType(source.metadata, tensors.values(), job.dtype), bytes, { atOnce: AT_ONCE });
  return { bytes: total, files: [to] };
}

function sameNames({ checkpoint }: WriteJob, mixes: ReadonlyMap<string, TensorMix>): GgufPlan {
  return new Map([...checkpoint.tensors].map(([name, info]) => [name, { info, mix: mixes.get(name) }]));
}

function copiedMetadata(
  { metadata, metadataTypes }: GgufHeader,
  { config, numKeyValueHeads: K }: WriteJob,
): Map<string, GgufPair> {
  const out = new Map<string, GgufPair>();
  for (const [key, value] of metadata) out.set(key, { type: metadataTypes.get(key)!, value });
  const key = `${config.modelType}.attention.head_count_kv`;
  out.set(key, { type: 'u32', value: K });
  return out;
}

function withFileType(
  metadata: ReadonlyMap<string, GgufPair>,
  tensors: Iterable<MixJob>,
  dtype: StorageType | undefined,
): ReadonlyMap<string, GgufPair> {
  const first = [...tensors].find(({ info }) => info.shape.length > 1)?.dtype;
  const fileType = FILE_TYPES[dtype ?? first ?? 'f32'];
  if ((dtype === undefined && metadata.has('general.file_type')) || fileType === undefined) return metadata;
  return new Map(metadata).set('general.file_type', { type: 'u32', value: fileType });
}

/** Vectors stay f32 in GGUF, f64 becomes f32. Blocks that are computed with become q8_0; rows that no block fits, f16. */
async function typed(
  { checkpoint, seed, dtype }: WriteJob,
  { info, mix, buffers }: Pick<MixJob, 'info' | 'mix' | 'buffers'>,
): Promise<MixJob> {
  const tensor: MixJob = { checkpoint, info, mix, dtype: info.dtype, seed, buffers };
  const columns = mixedShape(tensor).at(-1) ?? 1;
  const fitting = (wanted: StorageType): StorageType =>
    columns % storageLayout(wanted).blockLength === 0 ? wanted : 'f16';
  const isMatrix = info.shape.length > 1;
  // llama.cpp computes with no f64.
  const stored = info.dtype === 'f64' ? 'f32' : info.dtype;
  const vector = stored === 'f16' || stored === 'bf16' ? 'f32' : stored;
  const wanted = !isMatrix ? vector : dtype === undefined ? stored : fitting(dtype);
  if (wanted === info.dtype) {
    if (mix === undefined) return tensor;
    const copying = await copyingMix(tensor);
    if (copying) return { ...tensor, mix: copying };
  }
  if (!isReadable(info.dtype)) {
    throw new FormatError(
      info.path,
      info.byteOffset,
      `expected ${info.name} in a type that can be computed with (f32, f16, bf16, q8_0, q4_0, q4_1), got ${info.dtype}`,
    );
  }
  return { ...tensor, dtype: isWritable(wanted) ? wanted : fitting('q8_0') };
}
