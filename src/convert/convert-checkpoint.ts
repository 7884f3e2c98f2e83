/**
 * A trained checkpoint with another number of key/value heads: changes are planned from the headers; then
 * every file is written in slices under a temporary name and renamed.
 *
 * Source: Ainslie et al., GQA (arXiv 2305.13245), section 2.1 (mean, first, random).
 */

import { aBoolean, aFunction, aNumber, anything, aString, checkPositiveInteger } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { readyBackend } from '../backend/registry.ts';
import type { Checkpoint, CheckpointFormat } from '../checkpoint/checkpoint.ts';
import { formatNamed } from '../checkpoint/formats.ts';
import { openSource } from '../checkpoint/open-checkpoint.ts';
import { checkOutputPlace } from '../checkpoint/output.ts';
import type { Folder } from '../files/folder.ts';
import { aPlace, outputPlace, type PlaceLike, placeName } from '../files/place.ts';
import { aSource, type ModelSource, SOURCE_OPTIONS, type SourceOptions } from '../files/source.ts';
import type { StorageType } from '../format/storage-type.ts';
import { describeModel } from '../models/describe-model.ts';
import type { DecoderDescription } from '../models/families/family.ts';
import { checkWeights } from '../models/load-weights.ts';
import { checkHeads } from './check-heads.ts';
import type { distilledLayers } from './distill.ts';
import { checkDistill, type DistillOptions, distillIdentity, distillSettings } from './distill-settings.ts';
import { type LayerMix, layerMix, type PoolingMethod } from './head-mix.ts';
import { similarMixes } from './similar.ts';
import { TrainedLayers } from './trained-layers.ts';
import { weightsHash } from './weights-hash.ts';
import type { WriteJob } from './write-job.ts';

/**
 * How heads are merged: `mean`, `first` and `random` are the paper's; `similar` groups heads by their
 * activations and aligns them before it takes the mean.
 */
export type ConvertMethod = PoolingMethod | 'similar';
export const METHODS: readonly ConvertMethod[] = ['mean', 'first', 'random', 'similar'];

/** Options of `convertCheckpoint`. */
export interface ConvertOptions extends SourceOptions {
  /** A Hugging Face folder with safetensors, or a `.gguf` file. */
  readonly from: ModelSource;
  /**
   * A directory to make, or a `.gguf` file where its name ends so. In a `Folder`: `{ folder, file }`, with the
   * name of the new directory or file.
   */
  readonly to: PlaceLike;
  /**
   * K': a divisor of the checkpoint's K, or a multiple of it that divides N (heads are repeated, which gives
   * exactly the same model). Default: its own, so that only `dtype` or the format changes.
   */
  readonly numKeyValueHeads?: number;
  /**
   * How to merge heads; default `similar` with a `calibration` text, else `mean`. `similar` groups and aligns
   * them first.
   */
  readonly method?: ConvertMethod;
  /** Of `random`; default 0. */
  readonly seed?: number;
  /**
   * New type of the weights: f32, f16, bf16, and in GGUF the block types q8_0, q6_k, q4_k and q4_0, by
   * llama.cpp's mixtures (`q4_k` is its Q4_K_M). Default: as stored (pooled blocks become q8_0).
   */
  readonly dtype?: StorageType;
  /**
   * Text on which `similar` measures activations, its first 2,048 tokens. Without it: random tokens, which is
   * worse.
   */
  readonly calibration?: string;
  /**
   * Trains the converted layers to give the attention outputs of the original ones on a text; default: no
   * training. For fewer heads, and not with the method `random`.
   */
  readonly distill?: DistillOptions;
  /** Whether to replace an existing checkpoint at `to`; default false: an existing one is an error. */
  readonly force?: boolean;
  /**
   * Ends the conversion, between two layers, training steps or slices of a tensor; it then throws the signal's
   * reason, and leaves `to` as it was. Layers that `distill` has trained are kept, to resume.
   */
  readonly signal?: AbortSignal;
  /**
   * Called with the progress: layers while `similar` reads the calibration text, steps of all layers while
   * they are trained one by one, then final steps, then bytes of the output. `activity` is the phase in words,
   * with its layer, such as `training layer 12 of 30`.
   */
  readonly onProgress?: (done: number, total: number, phase: ConvertPhase, activity: string) => void;
}

/** What a conversion is doing. */
export type ConvertPhase = 'calibrating' | 'distilling' | 'writing';

const OPTIONS = optionKinds<ConvertOptions>({
  ...SOURCE_OPTIONS,
  from: anything,
  to: anything,
  numKeyValueHeads: checkPositiveInteger,
  method: anything,
  seed: aNumber,
  dtype: anything,
  calibration: aString,
  distill: anything,
  force: aBoolean,
  onProgress: aFunction,
});

/** What `convertCheckpoint` wrote, and from which heads. */
export interface ConvertResult {
  /** The form of the output. */
  readonly format: Checkpoint['kind'];
  /** Hugging Face's class that holds the result; undefined for a `.gguf` file. */
  readonly architecture: string | undefined;
  /** How heads were merged. */
  readonly method: ConvertMethod;
  /** Steps of distillation; undefined without. */
  readonly distill: { readonly steps: number; readonly finalSteps: number } | undefined;
  /** N */
  readonly numHeads: number;
  /** K of both checkpoints. */
  readonly numKeyValueHeads: { readonly before: number; readonly after: number };
  /** Bytes of weights written. */
  readonly bytes: number;
  /** Names of the files in `to`. */
  readonly files: readonly string[];
  /** How each layer's heads were merged, for the drift report; empty without `numKeyValueHeads`. */
  readonly layers: readonly LayerMix[];
}

/**
 * Writes a checkpoint with `numKeyValueHeads` key/value heads, or with its own as another type or format.
 * @throws RangeError when K' neither divides K nor is a multiple of it that divides N, for K' = 1 of a
 * multi-query model in its own form, for multi-head latent attention, for `distill` with nothing to train, or
 * when there is no class for the result; TypeError for options of another kind; FormatError for a damaged
 * checkpoint; Error when `to` exists or has no room; RunConflictError for trained layers of an earlier
 * distillation, unless it is resumed with the same options; the reason of an aborted `signal`. Nothing is left
 * at `to` then
 * @example await convertCheckpoint({ from: 'llama', to: 'llama-gqa8', numKeyValueHeads: 8 });
 * @example
 * const options = { numKeyValueHeads: 1, calibration: text, distill: { text } };
 * await convertCheckpoint({ from: 'llama', to: 'llama-mqa', ...options });
 */
export async function convertCheckpoint(options: ConvertOptions): Promise<ConvertResult> {
  checkOptions('convertCheckpoint', options, OPTIONS);
  aSource('convertCheckpoint', 'from', options.from);
  aPlace('convertCheckpoint', 'to', options.to);
  checkDistill(options.distill);
  const { calibration, seed = 0, dtype, force = false } = options;
  const method = options.method ?? (calibration === undefined ? 'mean' : 'similar');
  const to = await outputPlace(options.to);
  const format = formatNamed(to.file);
  checkForm(method, dtype, format);
  const { token, signal, cache } = options;
  await using checkpoint = await openSource('convertCheckpoint', options.from, { token, signal, cache });
  const description = await describeModel(checkpoint, await readyBackend());
  const { config, names } = description;
  const after = options.numKeyValueHeads ?? config.numKeyValueHeads;
  const isRewritten = dtype !== undefined || format !== checkpoint.format;
  if (options.numKeyValueHeads === undefined) checkChange(isRewritten);
  else checkHeads(config, after, isRewritten);
  checkWeights(checkpoint, config, names);
  const settings = distillSettings(options.distill, method, config, after);
  await checkOutputPlace(checkpoint.place, to, force);
  const identity =
    settings &&
    distillIdentity(settings, config, {
      ...{ method, after, calibration },
      weights: await weightsHash(checkpoint, signal),
    });
  await using kept = identity && (await TrainedLayers.open(to, identity, settings.resume));
  const mixes =
    options.numKeyValueHeads === undefined
      ? []
      : await planLayers(checkpoint, description, method, after, options);
  const onStep = (done: number, total: number, index: number | undefined) => {
    signal?.throwIfAborted();
    const activity =
      index === undefined ? 'training all layers' : `training layer ${index + 1} of ${config.numLayers}`;
    options.onProgress?.(done, total, 'distilling', activity);
  };
  const layers = kept
    ? await distilled(checkpoint, description, mixes, { ...settings, kept, onStep })
    : mixes;
  const onProgress = (done: number, total: number) => options.onProgress?.(done, total, 'writing', 'writing');
  const heads = { layers, numKeyValueHeads: after };
  const job = { checkpoint, ...description, ...heads, format, to, seed, dtype, signal, onProgress };
  const { bytes, files, architecture } = await write(job, force);
  await kept?.remove();
  return {
    format: format.kind,
    architecture,
    method,
    distill: settings && { steps: settings.steps, finalSteps: settings.finalSteps },
    numHeads: config.numHeads,
    numKeyValueHeads: { before: config.numKeyValueHeads, after },
    bytes,
    files: format.ending === undefined ? files : [placeName(options.to)],
    layers,
  };
}

/** @returns bytes of weights, the names of the files, and the class */
async function write(
  job: WriteJob,
  overwrite: boolean,
): Promise<Pick<ConvertResult, 'bytes' | 'files' | 'architecture'>> {
  const { format, to } = job;
  const { bytes, contents } =
    format.names === 'gguf'
      ? await (await import('./gguf-contents.ts')).ggufContents(job)
      : await (await import('./hugging-face-contents.ts')).huggingFaceContents(job);
  let files: readonly string[] = [];
  const fill = async (folder: Folder) => {
    files = await format.write(folder, contents, to.file);
  };
  await (format.ending === undefined ? to.folder.replace(to.file, fill, { overwrite }) : fill(to.folder));
  const classes = contents.config?.architectures;
  const architecture = Array.isArray(classes) ? String(classes[0]) : undefined;
  return { bytes, files, architecture };
}

/** Imported when it is used, as the writers are: a page's bundle is smaller by the optimisers. */
async function distilled(...all: Parameters<typeof distilledLayers>): ReturnType<typeof distilledLayers> {
  const { distilledLayers } = await import('./distill.ts');
  return distilledLayers(...all);
}

async function planLayers(
  checkpoint: Checkpoint,
  description: DecoderDescription,
  method: ConvertMethod,
  after: number,
  { calibration, signal, onProgress }: ConvertOptions,
): Promise<readonly LayerMix[]> {
  const { numLayers, numHeads: N, numKeyValueHeads: K } = description.config;
  if (method === 'similar' && after < K) {
    const onLayer = (done: number, total: number) =>
      onProgress?.(done, total, 'calibrating', `calibrating layer ${done} of ${total}`);
    return similarMixes(checkpoint, description, after, { calibration, signal, onLayer });
  }
  const pooling = method === 'similar' ? 'mean' : method;
  return Array.from({ length: numLayers }, () => layerMix(pooling, N, K, after));
}

function checkForm(method: ConvertMethod, dtype: StorageType | undefined, format: CheckpointFormat): void {
  if (!METHODS.includes(method)) {
    throw new TypeError(`convert: expected method ${METHODS.join(', ')}, got ${method}`);
  }
  if (dtype !== undefined && !format.dtypes.includes(dtype)) {
    throw new TypeError(
      `convert: expected dtype ${format.dtypes.join(', ')} for ${format.kind}, got ${dtype}`,
    );
  }
}

function checkChange(isChanged: boolean): void {
  if (isChanged) return;
  throw new RangeError('convert: expected numKeyValueHeads, dtype or another format, got none of them');
}
