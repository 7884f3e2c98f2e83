/** Shared by the conversions to both formats: the job, its result, the tensors' plans, the count of bytes. */
import type { Checkpoint, CheckpointContents, CheckpointFormat } from '../checkpoint/checkpoint.ts';
import { checkSpace } from '../checkpoint/output.ts';
import type { Place } from '../files/folder.ts';
import { type StorageType, storageByteLength } from '../format/storage-type.ts';
import type { DescribedModel } from '../models/families/family.ts';
import { convertedShape, type TensorJob } from './convert-tensor.ts';
import type { LayerMix } from './head-mix.ts';
import { layerTensorPlans, type TensorPlan } from './tensor-plan.ts';

/**
 * Tensors converted at the same time, so that reads and writes overlap with computation: Node's four I/O
 * threads less one for fsync.
 */
export const CONCURRENCY = 3;

export interface WriteJob extends DescribedModel {
  readonly checkpoint: Checkpoint;
  readonly layers: readonly LayerMix[];
  readonly format: CheckpointFormat;
  readonly to: Required<Place>;
  readonly numKeyValueHeads: number;
  readonly seed: number;
  readonly dtype: StorageType | undefined;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: (done: number, total: number) => void;
}

/** A converted checkpoint that is computed as it is written. */
export interface Converted {
  readonly contents: CheckpointContents;
  /** Of the weights. */
  readonly bytes: number;
}

/** The old tensors and their plans, by new name. */
export type GgufTensors = Map<string, Pick<TensorJob, 'info' | 'plan'>>;

/** The plan of every tensor that changes. */
export function tensorPlans(
  { checkpoint, config, names, layers }: WriteJob,
  queryScale: (layer: number) => number = () => 1,
): Map<string, TensorPlan> {
  const range = (checkpoint.config as { initializer_range?: unknown } | undefined)?.initializer_range;
  const stddev = typeof range === 'number' && range > 0 ? range : 0.02;
  const all = new Map<string, TensorPlan>();
  layers.forEach((layer, index) => {
    const scale = queryScale(index);
    const query = layer.query.map((mix) =>
      mix.map((source) => ({ ...source, weight: source.weight * scale })),
    );
    const weights = layer.weights && {
      ...layer.weights,
      query: layer.weights.query.map((value) => value * scale),
    };
    const scaled = scale === 1 ? layer : { ...layer, query, weights };
    for (const [name, plan] of layerTensorPlans(config, names, index, scaled, stddev)) all.set(name, plan);
  });
  return all;
}

/**
 * Checks the free space for the new tensors.
 * @returns their bytes, and a function that counts bytes written and throws when the signal is aborted
 */
export async function startOutput(
  { to, signal, onProgress }: WriteJob,
  tensors: readonly TensorJob[],
): Promise<{ total: number; count: (bytes: number) => void }> {
  const total = tensors.reduce((sum, job) => sum + storageByteLength(job.dtype, convertedShape(job)), 0);
  await checkSpace(to, total);
  let done = 0;
  const count = (bytes: number) => {
    signal?.throwIfAborted();
    done += bytes;
    onProgress(done, total);
  };
  return { total, count };
}
