/**
 * A trained checkpoint with another number of key/value heads: changes are planned from the headers; then
 * every file is written in slices under a temporary name and renamed.
 *
 * Source: Ainslie et al., GQA (arXiv 2305.13245), section 2.1 (mean, first, random).
 */

import {
  aBoolean,
  aFunction,
  aNumber,
  anything,
  aString,
  checkPositiveInteger,
  describe,
} from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { getBackend } from '../backend/registry.ts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { openCheckpoint } from '../checkpoint/open-checkpoint.ts';
import { checkOutputPlace } from '../checkpoint/output.ts';
import type { StorageType } from '../format/storage-type.ts';
import type { DecoderConfig } from '../models/decoder-config.ts';
import type { DecoderDescription } from '../models/families/family.ts';
import { describeModel } from '../models/load-model.ts';
import { checkWeights } from '../models/load-weights.ts';
import { type LayerMix, layerMix, type PoolingMethod } from './head-mix.ts';
import { similarMixes } from './similar.ts';
import { writeGgufOutput } from './write-gguf-output.ts';
import { writeHuggingFace } from './write-hugging-face.ts';

/**
 * How heads are merged: `mean`, `first` and `random` are the paper's; `similar` groups heads by their
 * activations and aligns them before it takes the mean.
 */
export type ConvertMethod = PoolingMethod | 'similar';

/** Options of `convertCheckpoint`. */
export interface ConvertOptions {
  /** A Hugging Face directory with safetensors, or a `.gguf` file. */
  readonly from: string;
  /** A directory to make, or a `.gguf` file where its name ends so. */
  readonly to: string;
  /**
   * K': a divisor of the checkpoint's K, or a multiple of it that divides N (heads repeated, exactly the same
   * model).
   */
  readonly numKeyValueHeads: number;
  /**
   * How to merge heads; default `similar` with a `calibration` text, else `mean`. `similar` groups and aligns
   * them first.
   */
  readonly method?: ConvertMethod;
  /** Of `random`; default 0. */
  readonly seed?: number;
  /**
   * New type of the weights: f32, f16, bf16, and q8_0 in GGUF. Default: as stored (pooled blocks become
   * q8_0).
   */
  readonly dtype?: StorageType;
  /**
   * Text on which `similar` measures activations, its first 2,048 tokens. Without it: random tokens, which is
   * worse.
   */
  readonly calibration?: string;
  /** Whether to replace an existing checkpoint at `to`; default false: an existing one is an error. */
  readonly force?: boolean;
  /**
   * Called as it goes on: with layers while `similar` reads the calibration text, then with bytes of the
   * output.
   */
  readonly onProgress?: (done: number, total: number, phase: 'calibrating' | 'writing') => void;
}

const OPTIONS = optionKinds<ConvertOptions>({
  from: anything,
  to: anything,
  numKeyValueHeads: anything,
  method: anything,
  seed: aNumber,
  dtype: anything,
  calibration: aString,
  force: aBoolean,
  onProgress: aFunction,
});

/** What `convertCheckpoint` wrote, and from which heads. */
export interface ConvertResult {
  /** The form of the output. */
  readonly format: 'safetensors' | 'gguf';
  /** How heads were merged. */
  readonly method: ConvertMethod;
  /** N */
  readonly numHeads: number;
  /** K of both checkpoints. */
  readonly numKeyValueHeads: { readonly before: number; readonly after: number };
  /** Bytes of weights written. */
  readonly bytes: number;
  /** Names of the files in `to`. */
  readonly files: readonly string[];
  /** How each layer's heads were merged, for the drift report. */
  readonly layers: readonly LayerMix[];
}

const DTYPES = { safetensors: ['f32', 'f16', 'bf16'], gguf: ['f32', 'f16', 'bf16', 'q8_0'] };

/**
 * Writes a checkpoint with `numKeyValueHeads` key/value heads.
 * @throws RangeError when K' neither divides K nor is a multiple of it that divides N, for K' = 1 of a
 * multi-query model in its own form, for multi-head latent attention, or when there is no class for the
 * result; TypeError for options of another kind; FormatError for a damaged checkpoint; Error when `to` exists
 * or has no room. Nothing is left at `to` then
 * @example await convertCheckpoint({ from: 'llama', to: 'llama-gqa8', numKeyValueHeads: 8 });
 */
export async function convertCheckpoint(options: ConvertOptions): Promise<ConvertResult> {
  checkOptions('convertCheckpoint', options, OPTIONS);
  for (const name of ['from', 'to'] as const) {
    const path = options[name];
    // An empty path would mean the current folder.
    if (typeof path !== 'string' || path === '') {
      throw new TypeError(
        `convertCheckpoint: expected ${name} to be a path, got ${path === '' ? 'an empty string' : describe(path)}`,
      );
    }
  }
  checkPositiveInteger('convertCheckpoint', 'numKeyValueHeads', options.numKeyValueHeads);
  const { from, to, numKeyValueHeads: after, calibration, seed = 0, dtype, force = false } = options;
  const method = options.method ?? (calibration === undefined ? 'mean' : 'similar');
  const format = to.toLowerCase().endsWith('.gguf') ? 'gguf' : 'safetensors';
  checkForm(method, dtype, format);
  await using checkpoint = await openCheckpoint(from);
  const description = describeModel(checkpoint, getBackend());
  const { config, names } = description;
  checkHeads(config, after, dtype !== undefined || format !== checkpoint.kind);
  checkWeights(checkpoint, config, names);
  await checkOutputPlace(checkpoint.path, to, force);
  const layers = await planLayers(checkpoint, description, method, options);
  const onProgress = (done: number, total: number) => options.onProgress?.(done, total, 'writing');
  const heads = { layers, numKeyValueHeads: after };
  const job = { checkpoint, ...description, ...heads, to, seed, dtype, force, onProgress };
  const written = await (format === 'gguf' ? writeGgufOutput(job) : writeHuggingFace(job));
  return {
    format,
    method,
    numHeads: config.numHeads,
    numKeyValueHeads: { before: config.numKeyValueHeads, after },
    ...written,
    layers,
  };
}

async function planLayers(
  checkpoint: Checkpoint,
  description: DecoderDescription,
  method: ConvertMethod,
  { numKeyValueHeads: after, calibration, onProgress }: ConvertOptions,
): Promise<readonly LayerMix[]> {
  const { numLayers, numHeads: N, numKeyValueHeads: K } = description.config;
  if (method === 'similar' && after < K) {
    const onLayer = (done: number, total: number) => onProgress?.(done, total, 'calibrating');
    return similarMixes(checkpoint, description, after, calibration, onLayer);
  }
  const pooling = method === 'similar' ? 'mean' : method;
  return Array.from({ length: numLayers }, () => layerMix(pooling, N, K, after));
}

function checkForm(method: string, dtype: StorageType | undefined, format: 'safetensors' | 'gguf'): void {
  if (!['mean', 'first', 'random', 'similar'].includes(method)) {
    throw new TypeError(`convert: expected method mean, first, random or similar, got ${method}`);
  }
  if (dtype !== undefined && !DTYPES[format].includes(dtype)) {
    throw new TypeError(
      `convert: expected dtype ${DTYPES[format].join(', ')} for ${format === 'gguf' ? 'GGUF' : 'safetensors'}, got ${dtype}`,
    );
  }
}

function checkHeads(
  { numHeads: N, numKeyValueHeads: K, latent }: DecoderConfig,
  after: number,
  changesForm: boolean,
): void {
  if (latent) {
    throw new RangeError(
      `convert: expected key/value heads to pool, got multi-head latent attention: its N=${N} heads already share one latent of ${latent.kvLoraRank} values and one rope key of ${latent.qkRopeHeadDim} per token`,
    );
  }
  const choices = [];
  for (let k = 1; k <= N; k++) if (k !== K && N % k === 0 && (K % k === 0 || k % K === 0)) choices.push(k);
  if (after === 1 && K === 1 && !changesForm) {
    throw new RangeError(
      `convert: expected more than one key/value head to pool, got a multi-query model (N=${N}, K=1)${choices.length ? `; it can be written with K=${choices.join(', ')}` : ''}`,
    );
  }
  const fits = Number.isSafeInteger(after) && after >= 1 && N % after === 0;
  if (!fits || (K % after !== 0 && after % K !== 0)) {
    throw new RangeError(
      `convert: expected K to divide the checkpoint's K=${K}, or to be a multiple of it that divides N=${N}, got ${after}; choose one of ${choices.join(', ') || K}`,
    );
  }
}
