/**
 * The converted checkpoint as a Hugging Face directory: the same shards with the same tensors, index and
 * config rewritten.
 */

import type { CheckpointTensor } from '../checkpoint/checkpoint.ts';
import { configText, configWithDtype, configWithTying } from '../checkpoint/config-json.ts';
import { carryFiles } from '../checkpoint/output.ts';
import type { TensorBytes } from '../checkpoint/tensor-bytes.ts';
import { writeContentAtomically, writeFolderAtomically } from '../checkpoint/write-atomically.ts';
import { writeSafetensors } from '../checkpoint/write-safetensors.ts';
import { FormatError } from '../format/format-error.ts';
import type { StorageType } from '../format/storage-type.ts';
import type { DecoderConfig, DecoderNames } from '../models/decoder-config.ts';
import type { ConvertedForm } from '../models/families/family.ts';
import { convertedTensor, type TensorJob } from './convert-tensor.ts';
import { SpareBuffers } from './spare-buffers.ts';
import { CONCURRENCY, startOutput, tensorPlans, type WriteJob, type Written } from './write-job.ts';

const FLOATS: readonly StorageType[] = ['f64', 'f32', 'f16', 'bf16'];

export async function writeHuggingFace(job: WriteJob): Promise<Written> {
  const { checkpoint, config, to, dtype, force } = job;
  if (checkpoint.kind === 'gguf') {
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
  const isSharded = shards.size > 1 || !shards.has('model.safetensors');
  const files: string[] = [];
  await writeFolderAtomically(
    to,
    async (folder) => {
      const metadata = 'format' in checkpoint.metadata ? checkpoint.metadata : { format: 'pt' };
      for (const [shard, tensors] of shards) {
        await writeSafetensors(`${folder}/${shard}`, inFileOrder(tensors, count), {
          metadata,
          atOnce: target.transpose ? 1 : CONCURRENCY, // a transposed matrix is in memory as a whole
        });
        files.push(shard);
      }
      const write = async (name: string, value: unknown) => {
        await writeContentAtomically(`${folder}/${name}`, configText(value));
        files.push(name);
      };
      if (isSharded) {
        const map = [...shards].flatMap(([shard, tensors]) =>
          [...tensors.keys()].map((name) => [name, shard]),
        );
        const sorted = map.sort(([a], [b]) => (a < b ? -1 : 1));
        await write('model.safetensors.index.json', {
          metadata: { total_size: total },
          weight_map: Object.fromEntries(sorted),
        });
      }
      await write('config.json', target.config);
      files.push(...(await carryFiles(checkpoint.directory, folder)));
    },
    { replace: force },
  );
  return { bytes: total, files };
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

function inFileOrder(
  tensors: ReadonlyMap<string, TensorJob>,
  count: (bytes: number) => void,
): Record<string, TensorBytes> {
  const ordered = [...tensors].sort(([, a], [, b]) => a.info.byteOffset - b.info.byteOffset);
  return Object.fromEntries(ordered.map(([name, job]) => [name, convertedTensor(job, count)]));
}
