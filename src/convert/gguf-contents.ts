/**
 * The converted checkpoint as one GGUF file: metadata copied, head count rewritten, weights as stored, as one
 * other type, or quantised by llama.cpp's mixtures.
 */

import { type GgufPair, metadataPairs } from '../checkpoint/write-gguf.ts';
import { FormatError } from '../format/format-error.ts';
import type { GgufHeader } from '../format/gguf.ts';
import { FILE_TYPES, type MixtureModel, mixedType } from '../format/gguf-mixture.ts';
import { type StorageType, storageLayout } from '../format/storage-type.ts';
import { convertedShape, convertedTensor, type TensorJob } from './convert-tensor.ts';
import { ggufFromHuggingFace } from './gguf-from-hugging-face.ts';
import { isReadable, isWritable } from './number-codec.ts';
import { copyingPlan } from './same-bytes.ts';
import { SpareBuffers } from './spare-buffers.ts';
import type { TensorPlan } from './tensor-plan.ts';
import {
  CONCURRENCY,
  type Converted,
  type GgufTensors,
  startOutput,
  tensorPlans,
  type WriteJob,
} from './write-job.ts';

/** GGML_QNT_VERSION: the form of the block types. */
const QUANTIZATION_VERSION: GgufPair = { type: 'u32', value: 2 };

export async function ggufContents(job: WriteJob): Promise<Converted> {
  const { checkpoint } = job;
  const plans = tensorPlans(job);
  const source = checkpoint.gguf
    ? { metadata: copiedMetadata(checkpoint.gguf, job), tensors: sameNames(job, plans) }
    : await ggufFromHuggingFace(job, plans);
  const buffers = new SpareBuffers();
  const tensors = new Map<string, TensorJob>();
  const model: MixtureModel = {
    ...job.config,
    numKeyValueHeads: job.numKeyValueHeads,
    tiedEmbeddings: !source.tensors.has('output.weight'),
  };
  for (const [name, tensor] of source.tensors) {
    tensors.set(
      name,
      await typed(job, { ...tensor, buffers }, (columns, dtype) => mixedType(name, columns, dtype, model)),
    );
  }
  const { total, count } = await startOutput(job, [...tensors.values()]);
  const bytes = new Map([...tensors].map(([name, tensor]) => [name, convertedTensor(tensor, count)]));
  const keys = withFileType(source.metadata, tensors.values(), job.dtype);
  // GGUF's keys have the recipe already.
  const recipe = checkpoint.gguf ? undefined : await checkpoint.format.recipe(checkpoint);
  return { bytes: total, contents: { keys, tensors: bytes, recipe, concurrency: CONCURRENCY } };
}

function sameNames({ checkpoint }: WriteJob, plans: ReadonlyMap<string, TensorPlan>): GgufTensors {
  return new Map([...checkpoint.tensors].map(([name, info]) => [name, { info, plan: plans.get(name) }]));
}

function copiedMetadata(
  header: GgufHeader,
  { config, numKeyValueHeads: K }: WriteJob,
): Map<string, GgufPair> {
  const pairs = metadataPairs(header);
  if (K === config.numKeyValueHeads) return pairs;
  return pairs.set(`${config.modelType}.attention.head_count_kv`, { type: 'u32', value: K });
}

function withFileType(
  metadata: ReadonlyMap<string, GgufPair>,
  tensors: Iterable<TensorJob>,
  dtype: StorageType | undefined,
): ReadonlyMap<string, GgufPair> {
  const first = [...tensors].find(({ info }) => info.shape.length > 1)?.dtype;
  const fileType = FILE_TYPES[dtype ?? first ?? 'f32'];
  if ((dtype === undefined && metadata.has('general.file_type')) || fileType === undefined) return metadata;
  const typed = new Map(metadata).set('general.file_type', { type: 'u32', value: fileType });
  const isQuantised = dtype !== undefined && storageLayout(dtype).blockLength > 1;
  return isQuantised ? typed.set('general.quantization_version', QUANTIZATION_VERSION) : typed;
}

/**
 * Vectors stay f32 in GGUF, f64 becomes f32. Block types that need computation become q8_0, or f16 when the
 * row length is no multiple of the block size.
 * @param mixed the block type of a matrix; undefined for one that keeps its precision
 */
async function typed(
  { checkpoint, seed, dtype }: WriteJob,
  { info, plan, buffers }: Pick<TensorJob, 'info' | 'plan' | 'buffers'>,
  mixed: (columns: number, dtype: StorageType) => StorageType | undefined,
): Promise<TensorJob> {
  const tensor: TensorJob = { checkpoint, info, plan, dtype: info.dtype, seed, buffers };
  const columns = convertedShape(tensor).at(-1) ?? 1;
  const fitting = (wanted: StorageType): StorageType =>
    columns % storageLayout(wanted).blockLength === 0 ? wanted : 'f16';
  const isMatrix = info.shape.length > 1;
  // llama.cpp has no f64 kernels.
  const stored = info.dtype === 'f64' ? 'f32' : info.dtype;
  const vector = stored === 'f16' || stored === 'bf16' ? 'f32' : stored;
  const isBlocks = dtype !== undefined && storageLayout(dtype).blockLength > 1;
  const matrix = isBlocks ? (mixed(columns, dtype) ?? vector) : (dtype ?? stored);
  const wanted = isMatrix ? matrix : vector;
  if (wanted === info.dtype) {
    if (plan === undefined) return tensor;
    const copying = await copyingPlan(tensor);
    if (copying) return { ...tensor, plan: copying };
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
