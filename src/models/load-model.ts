/**
 * From a checkpoint to a `Model`: which family it is, what its header says, whether all tensors are there in
 * the right shape, and then the weights, used as they are stored (mapped by the native backend).
 */

import { aBoolean, aFunction, anything, show } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { Backend, BackendName } from '../backend/backend.ts';
import type { MatmulPrecision } from '../backend/calls/call.ts';
import { readyBackend } from '../backend/registry.ts';
import { folderWithoutWeights } from '../checkpoint/carried-files.ts';
import { Checkpoint } from '../checkpoint/checkpoint.ts';
import { CONFIG } from '../checkpoint/config-json.ts';
import { openSource } from '../checkpoint/open-checkpoint.ts';
import { safetensorsCheckpoint } from '../checkpoint/safetensors-checkpoint.ts';
import { MemoryFolder } from '../files/memory-folder.ts';
import { type ModelSource, SOURCE_OPTIONS, type SourceOptions } from '../files/source.ts';
import { checkMatmulPrecision, matmulPrecision as programPrecision } from '../ops/matmul-precision.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { DecoderConfig, DecoderNames } from './decoder-config.ts';
import { weightPlaces } from './decoder-weights.ts';
import { FAMILIES } from './families/families.ts';
import type { DecoderDescription, DescribedModel, Family } from './families/family.ts';
import { ROPE_TENSORS } from './families/rope-keys.ts';
import { checkTensor, type LoadWeightsOptions, loadWeights, readVectors } from './load-weights.ts';
import { Model, type ModelOrigin, type ModelParts } from './model.ts';
import { refuseForeignWeights } from './quantized.ts';
import { ropeTables } from './rope-table.ts';
import { asStored } from './stored-form.ts';

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
  // Without one of its own this is the program's, so that a wrong GQA_MATMUL_PRECISION is an error before loading.
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

/** Everything that a model is made of. The tensors are the caller's to free; none is left when it throws. */
export async function loadParts(
  checkpoint: Checkpoint,
  { config, names }: DecoderDescription,
  options: Omit<LoadWeightsOptions, 'loaded'>,
): Promise<ModelParts> {
  const tensors: Tensor[] = [];
  try {
    const { makeTokenizer, endTokenIds } = await checkpoint.format.text(checkpoint);
    const weights = await loadWeights(checkpoint, config, names, { ...options, loaded: tensors });
    return {
      config,
      weights,
      tensors,
      backend: options.backend,
      ...ropeTables(config),
      endTokenIds: Object.freeze(endTokenIds),
      makeTokenizer,
      origin: await originOf(checkpoint, config, names, options.dtype),
    };
  } catch (error) {
    for (const tensor of tensors) tensor.dispose();
    throw error;
  }
}

async function originOf(
  checkpoint: Checkpoint,
  config: DecoderConfig,
  names: DecoderNames,
  dtype: LoadWeightsOptions['dtype'],
): Promise<ModelOrigin> {
  const { format, file, config: json, tensors } = checkpoint;
  if (format.names === 'gguf') return { names };
  const used = new Set(weightPlaces(config, names).map(({ name }) => name));
  // Saved without: with tied embeddings it is the table once more.
  used.add(`${names.headCopy}.weight`);
  const all = [...tensors];
  const others = all.map(([name]) => name).filter((name) => !used.has(name) && !names.isBuffer?.(name));
  const folder = others.length > 0 ? checkpoint.folder : await folderWithoutWeights(checkpoint);
  return {
    names,
    place: { folder, file },
    configJson: json as ModelOrigin['configJson'],
    dtypes: dtype === undefined ? new Map(all.map(([name, info]) => [name, info.dtype])) : undefined,
    others,
  };
}

/** As `describeModel`, of a config.json alone. */
export function describeConfig(config: Readonly<Record<string, unknown>>): DescribedModel {
  const parts = { folder: new MemoryFolder('.'), file: CONFIG, config, tensors: new Map() };
  const checkpoint = new Checkpoint(safetensorsCheckpoint, parts, parts);
  return described(checkpoint, familyOf(checkpoint), new Map());
}

/** Finds the family and lets it read the config. @throws FormatError listing the supported ones. */
export async function describeModel(checkpoint: Checkpoint, backend: Backend): Promise<DescribedModel> {
  const family = familyOf(checkpoint);
  const own = [...checkpoint.tensors.keys()].filter((name) => family.configTensors?.test(name));
  const vectors = await readVectors(checkpoint, backend, [...ROPE_TENSORS, ...own]);
  const stated = described(checkpoint, family, vectors);
  if (checkpoint.format.names === 'gguf') return stated;
  const { config, names } = await asStored(checkpoint, stated);
  return { ...stated, config: freeze(config), names };
}

/** @throws FormatError listing the supported families */
function familyOf(checkpoint: Checkpoint): Family {
  const { format } = checkpoint;
  const isGguf = format.names === 'gguf';
  if (!isGguf) refuseForeignWeights(checkpoint);
  const keys = format.keys(checkpoint);
  const typeKey = isGguf ? 'general.architecture' : 'model_type';
  const known = (family: Family) => (isGguf ? family.ggufArchitectures : family.modelTypes);
  const type = keys.raw(typeKey);
  const family = FAMILIES.find((candidate) => known(candidate).includes(String(type)));
  if (!family) {
    const supported = FAMILIES.flatMap(known).join(', ');
    const classes = keys.raw('architectures');
    const beside = classes === undefined ? '' : ` (architectures ${JSON.stringify(classes)})`;
    throw keys.fail(
      typeKey,
      `expected a supported one (${supported}), got ${type === undefined ? 'no such key' : show(type)}${beside}`,
    );
  }
  return family;
}

function described(
  checkpoint: Checkpoint,
  family: Family,
  vectors: ReadonlyMap<string, readonly number[]>,
): DescribedModel {
  const { format, tensors } = checkpoint;
  const source = {
    keys: format.keys(checkpoint),
    shape: checkpoint.shape,
    hasTensor: (name: string) => tensors.has(name),
    floats(name: string, length: number) {
      checkTensor(checkpoint, name, [length]);
      return vectors.get(name) as readonly number[];
    },
  };
  const { config: read, names } =
    format.names === 'gguf' ? family.fromGguf(source) : family.fromConfig(source);
  return { family, config: freeze({ ...read, maxPositionEmbeddings: contextOf(read) }), names };
}

/** YaRN and dynamic scaling added by hand make the context longer than the file says. */
function contextOf({ maxPositionEmbeddings: stated, rope }: DecoderConfig): number {
  const { scaling } = rope ?? {};
  if (scaling?.type !== 'yarn' && scaling?.type !== 'dynamic') return stated;
  return Math.max(stated, Math.floor(scaling.originalMaxPositionEmbeddings * scaling.factor));
}

function freeze<T extends object>(value: T): T {
  for (const item of Object.values(value)) if (typeof item === 'object' && item !== null) freeze(item);
  return Object.freeze(value);
}
