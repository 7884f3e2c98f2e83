/**
 * A checkpoint as a `Model`, with its weights used as they are stored (mapped by the native backend).
 */
import { aBoolean, aFunction, anything } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { BackendName } from '../backend/backend.ts';
import type { MatmulPrecision } from '../backend/calls/call.ts';
import { readyBackend } from '../backend/registry.ts';
import { openSource } from '../checkpoint/open-checkpoint.ts';
import { type ModelSource, SOURCE_OPTIONS, type SourceOptions } from '../files/source.ts';
import { checkMatmulPrecision, matmulPrecision as programPrecision } from '../ops/matmul-precision.ts';
import { describeModel } from './describe-model.ts';
import { loadParts } from './load-parts.ts';
import { Model } from './model.ts';

/** Options of `loadModel`. */
export interface LoadModelOptions extends SourceOptions {
  /** Where the weights go and the model runs; default: the current backend. */
  readonly backend?: BackendName;
  /** Converts float weights to this type; block types stay. Default: as stored, f64 as f32. */
  readonly dtype?: 'f32' | 'f16' | 'bf16';
  /**
   * Whether the native backend maps files of a disk. A mapped model is there at once, and processes share its
   * memory. `false` reads the weights into memory of this process, where decoding is faster: Linux gives it
   * pages of 2 MiB. Default true. Other backends and sources read files into memory in any case.
   */
  readonly useMmap?: boolean;
  /** Of this model's passes; default: as `setMatmulPrecision` says when they run. */
  readonly matmulPrecision?: MatmulPrecision;
  /**
   * Called as the weights come into place (`loading`): how many of their bytes, as stored, are there, and of
   * how many. Before that with `cache`, as each file of weights is fetched (`downloading`).
   */
  readonly onProgress?: (done: number, total: number, phase: 'downloading' | 'loading') => void;
}

const OPTIONS = optionKinds<LoadModelOptions>({
  ...SOURCE_OPTIONS,
  backend: anything,
  dtype: anything,
  useMmap: aBoolean,
  matmulPrecision: anything,
  onProgress: aFunction,
});

/**
 * Opens a model for inference.
 * @param source a Hugging Face folder, a `.gguf` file, or a `.safetensors` file beside its config.json: on a
 * disk (Node), at an address, picked by a user, or in memory (see `ModelSource`)
 * @throws FormatError when a file is damaged, the architecture is not supported, or a tensor is missing or
 * has another shape than the config says; UnsupportedError for weights of a type without kernels.
 * @example const model = await loadModel('SmolLM2-135M-Instruct.Q4_1.gguf');
 */
export async function loadModel(source: ModelSource, options: LoadModelOptions = {}): Promise<Model> {
  checkOptions('loadModel', options, OPTIONS);
  const { dtype, useMmap = true, matmulPrecision, onProgress, token, signal, cache } = options;
  if (dtype !== undefined && dtype !== 'f32' && dtype !== 'f16' && dtype !== 'bf16') {
    throw new TypeError(`loadModel: expected dtype f32, f16 or bf16, got ${String(dtype)}`);
  }
  // Without one of its own it is the program's: a wrong GQA_MATMUL_PRECISION is an error before loading.
  checkMatmulPrecision('loadModel', matmulPrecision ?? programPrecision());
  const backend = await readyBackend(options.backend, 'loadModel');
  const told = (phase: 'downloading' | 'loading') =>
    onProgress && ((done: number, total: number) => onProgress(done, total, phase));
  const from = { token, signal, cache };
  await using checkpoint = await openSource('loadModel', source, from, told('downloading'));
  checkpoint.backendFiles.useMmap = useMmap;
  const description = await describeModel(checkpoint, backend);
  const how = { backend, dtype, signal, onProgress: told('loading') };
  return new Model({ ...(await loadParts(checkpoint, description, how)), matmulPrecision });
}
