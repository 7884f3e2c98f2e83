/**
 * From a checkpoint to a `Model`: which family it is, what its header says, whether all tensors are there in the right
 * shape, and then the weights, used as they are stored (mapped by the native backend).
 */
import type { Backend, BackendName } from '../backend/backend.ts';
import { getBackend, open } from '../backend/registry.ts';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { loadTensor } from '../checkpoint/load-tensor.ts';
import { openCheckpoint } from '../checkpoint/open-checkpoint.ts';
import { FormatError } from '../format/format-error.ts';
import { KeyReader } from '../format/key-reader.ts';
import type { DType } from '../tensor/dtype.ts';
import { type Shape, sameShape, shapeText } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { DecoderConfig, DecoderNames } from './decoder-config.ts';
import {
  type DecoderLayer,
  type DecoderWeights,
  decoderEnds,
  decoderLayerWeights,
  type WeightSource,
} from './decoder-weights.ts';
import { eventLoopTurn } from './event-loop.ts';
import type { DecoderDescription, Family } from './families/family.ts';
import { llama } from './families/llama.ts';
import { Model } from './model.ts';
import { RopeTable } from './rope-table.ts';
import { endTokenIds, tokenizerMaker } from './text-parts.ts';

const FAMILIES: readonly Family[] = [llama];

export interface LoadModelOptions {
  /** Where the weights go and the model runs; default: the current backend. */
  readonly backend?: BackendName;
  /** Converts float weights to this type; block types stay. Default: as stored. */
  readonly dtype?: 'f32' | 'f16' | 'bf16';
  /** Told after each layer how many bytes of the weights, as stored, are in place. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Opens a model for inference.
 * @param path a Hugging Face directory, a `.gguf` file, or a `.safetensors` file beside its config.json
 * @throws FormatError when a file is damaged, the architecture is not supported, or a tensor is missing or has another shape
 * than the config says; UnsupportedError for weights of a type without kernels.
 * @example const model = await loadModel('SmolLM2-135M-Instruct.Q4_1.gguf');
 */
export async function loadModel(path: string, options: LoadModelOptions = {}): Promise<Model> {
  const { dtype } = options;
  if (dtype !== undefined && dtype !== 'f32' && dtype !== 'f16' && dtype !== 'bf16') {
    throw new TypeError(`loadModel: expected dtype f32, f16 or bf16, got ${String(dtype)}`);
  }
  const backend = options.backend === undefined ? getBackend() : open(options.backend);
  const checkpoint = await openCheckpoint(path);
  const tensors: Tensor[] = [];
  try {
    const { config, names } = describeModel(checkpoint);
    const makeTokenizer = await tokenizerMaker(checkpoint);
    const weights = await loadWeights(checkpoint, config, names, backend, options, tensors);
    return new Model({
      config,
      weights,
      tensors,
      backend,
      ropeTable: new RopeTable(config.rope, ropeFactors(checkpoint, config, names, backend)),
      endTokenIds: endTokenIds(checkpoint),
      makeTokenizer,
    });
  } catch (error) {
    for (const tensor of tensors) tensor.dispose();
    throw error;
  } finally {
    await checkpoint.close();
  }
}

/** Finds the family and lets it read the config. @throws FormatError listing the supported ones. */
function describeModel(checkpoint: Checkpoint): DecoderDescription {
  const { gguf, directory, path, tensors } = checkpoint;
  const file = gguf ? path : `${directory}/config.json`;
  if (!gguf && checkpoint.config === undefined) {
    throw new FormatError(file, undefined, 'expected config.json next to the weights, got none');
  }
  const config = checkpoint.config as Readonly<Record<string, unknown>>;
  const keys = new KeyReader(file, (key) => (gguf ? gguf.metadata.get(key) : config[key]));
  const typeKey = gguf ? 'general.architecture' : 'model_type';
  const known = (family: Family): readonly string[] => (gguf ? family.ggufArchitectures : family.modelTypes);
  const type = keys.raw(typeKey);
  const family = FAMILIES.find((candidate) => known(candidate).includes(String(type)));
  if (!family) {
    const supported = FAMILIES.flatMap(known).join(', ');
    throw keys.fail(
      typeKey,
      `expected a supported one (${supported}), got ${JSON.stringify(type) ?? 'no such key'}`,
    );
  }
  const source = { keys, shape: checkpoint.shape, hasTensor: (name: string) => tensors.has(name) };
  const description = gguf ? family.fromGguf(source) : family.fromConfig(source);
  return { config: freeze(description.config), names: description.names };
}

/** Every tensor goes into `loaded` as soon as it is made, so that the caller can free a half-loaded model. */
async function loadWeights(
  checkpoint: Checkpoint,
  config: DecoderConfig,
  names: DecoderNames,
  backend: Backend,
  options: LoadModelOptions,
  loaded: Tensor[],
): Promise<DecoderWeights> {
  // All names and shapes first: a wrong file fails at once.
  let total = 0;
  const check: WeightSource<void> = (name, shape) => {
    total += checkTensor(checkpoint, name, shape);
  };
  decoderEnds(config, names, check);
  for (let i = 0; i < config.numLayers; i++) decoderLayerWeights(config, names.layer(i), check);

  let done = 0;
  const load: WeightSource<Tensor> = (name, shape) => {
    const info = checkpoint.tensor(name);
    const isFloat =
      info.dtype === 'f32' || info.dtype === 'f16' || info.dtype === 'bf16' || info.dtype === 'f64';
    const dtype: DType | undefined = shape.length === 1 ? 'f32' : isFloat ? options.dtype : undefined;
    const tensor = loadTensor(checkpoint, name, { backend, dtype });
    loaded.push(tensor);
    done += info.byteLength;
    return tensor;
  };
  const ends = decoderEnds(config, names, load);
  const layers: DecoderLayer[] = [];
  for (let i = 0; i < config.numLayers; i++) {
    layers.push(decoderLayerWeights(config, names.layer(i), load));
    options.onProgress?.(done, total);
    await eventLoopTurn();
  }
  return { ...ends, layers };
}

/** @throws FormatError naming the tensor and both shapes. @returns its bytes as stored. */
function checkTensor(checkpoint: Checkpoint, name: string, shape: Shape): number {
  const info = checkpoint.tensors.get(name);
  if (!info) {
    throw new FormatError(
      checkpoint.path,
      undefined,
      `expected tensor ${name} of shape ${shapeText(shape)}, got none of that name`,
    );
  }
  if (!sameShape(info.shape, shape)) {
    throw new FormatError(
      info.path,
      info.byteOffset,
      `expected tensor ${name} of shape ${shapeText(shape)}, got ${shapeText(info.shape)}`,
    );
  }
  return info.byteLength;
}

/** The divisors of the rotary frequencies that a GGUF may hold as a tensor. */
function ropeFactors(
  checkpoint: Checkpoint,
  config: DecoderConfig,
  names: DecoderNames,
  backend: Backend,
): ArrayLike<number> | undefined {
  if (names.ropeFactors === undefined) return undefined;
  checkTensor(checkpoint, names.ropeFactors, [config.rope.rotaryDim / 2]);
  const tensor = loadTensor(checkpoint, names.ropeFactors, { backend });
  try {
    return tensor.dataSync();
  } finally {
    tensor.dispose();
  }
}

function freeze<T extends object>(value: T): T {
  for (const item of Object.values(value)) if (typeof item === 'object' && item !== null) freeze(item);
  return Object.freeze(value);
}
