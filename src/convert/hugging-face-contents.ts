/** A converted checkpoint in Hugging Face's names: the same shards and tensors, and another config. */

import { readCarriedFiles } from '../checkpoint/carried-files.ts';
import type { CheckpointTensor } from '../checkpoint/checkpoint.ts';
import { configWithDtype, configWithTying } from '../checkpoint/config-json.ts';
import type { TensorBytes } from '../checkpoint/tensor-bytes.ts';
import { FormatError } from '../format/format-error.ts';
import type { StorageType } from '../format/storage-type.ts';
import type { DecoderConfig, DecoderNames } from '../models/decoder-config.ts';
import type { ConvertedForm } from '../models/families/family.ts';
import { convertedTensor, type TensorJob } from './convert-tensor.ts';
import { SpareBuffers } from './spare-buffers.ts';
import { CONCURRENCY, type Converted, startOutput, tensorPlans, type WriteJob } from './write-job.ts';

const FLOATS: readonly StorageType[] = ['f64', 'f32', 'f16', 'bf16'];

export async function huggingFaceContents(job: WriteJob): Promise<Converted> {
  const { checkpoint, config, dtype } = job;
  if (checkpoint.format.names !== 'huggingFace') {
    throw new FormatError(
      checkpoint.path,
      undefined,
      'expected a directory of safetensors to write one, got GGUF; give an output path that ends in .gguf',
    );
  }
  const before = configWithTying(checkpoint.config as Readonly<Record<string, unknown>>, config);
  const typed = dtype === undefined ? before : configWithDtype(before, dtype);
  const target: ConvertedForm = job.family.convertedForm?.(typed, config, job.numKeyValueHeads) ?? {
    config: withHeads(typed, job.numKeyValueHeads),
  };
  const plans = tensorPlans(job, target.queryScale);
  const matrices = target.transpose ? layerMatrices(config, job.names) : undefined;
  const shards = new Map<string, Map<string, TensorJob>>();
  const buffers = new SpareBuffers();
  for (const info of checkpoint.tensors.values()) {
    if (target.transpose && job.names.isBuffer?.(info.name)) continue;
    const tensor: TensorJob = {
      checkpoint,
      info,
      plan: plans.get(info.name),
      dtype: dtype !== undefined && FLOATS.includes(info.dtype) ? dtype : info.dtype,
      seed: job.seed,
      buffers,
      transpose: matrices?.has(info.name),
    };
    const shard = fileName(info);
    const tensors = shards.get(shard) ?? new Map<string, TensorJob>();
    shards.set(shard, tensors.set(info.name, tensor));
  }
  const all = [...shards.values()].flatMap((tensors) => [...tensors.values()]);
  const { total, count } = await startOutput(job, all);
  const tensors = new Map<string, TensorBytes>();
  const shardOf = new Map<string, string>();
  for (const [shard, jobs] of shards) {
    const inFileOrder = [...jobs].sort(([, a], [, b]) => a.info.byteOffset - b.info.byteOffset);
    for (const [name, tensor] of inFileOrder) {
      tensors.set(name, convertedTensor(tensor, count));
      shardOf.set(name, shard);
    }
  }
  return {
    bytes: total,
    contents: {
      tensors,
      shards: checkpoint.format === job.format ? shardOf : undefined,
      config: target.config,
      metadata: 'format' in checkpoint.metadata ? checkpoint.metadata : undefined,
      files: await readCarriedFiles(checkpoint.folder),
      concurrency: target.transpose ? 1 : CONCURRENCY, // a transposed matrix is in memory as a whole
    },
  };
}

/** The config with the new K, in the language model's section if it has one. */
function withHeads(config: ConvertedForm['config'], numKeyValueHeads: number): ConvertedForm['config'] {
  const { text_config: text } = config;
  const heads = { num_key_value_heads: numKeyValueHeads };
  return typeof text === 'object' && text !== null
    ? { ...config, text_config: { ...text, ...heads } }
    : { ...config, ...heads };
}

/** The tensors that GPT-2 stores `[In, Out]` and GPTBigCode `[Out, In]`. */
function layerMatrices(config: DecoderConfig, names: DecoderNames): Set<string> {
  const out = new Set<string>();
  for (let i = 0; i < config.numLayers; i++) {
    const { queryKeyValue, attentionOutput, gateUp, down } = names.layer(i);
    for (const name of [queryKeyValue, attentionOutput, gateUp, down].flat()) out.add(`${name}.weight`);
  }
  return out;
}

function fileName({ path }: CheckpointTensor): string {
  return path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1);
}
