/**
 * A model whose weights are f32 parameters, which an optimiser changes in place. It uses the same decoder as
 * a loaded model. Created from a config, or from a checkpoint.
 */

import { anything, describe } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { Backend, BackendName } from '../backend/backend.ts';
import { convert, fill } from '../backend/calls/copy.ts';
import { random } from '../backend/calls/random.ts';
import { backendOfHandle } from '../backend/handle.ts';
import { getBackend, open, readyBackend } from '../backend/registry.ts';
import { configWithTying } from '../checkpoint/config-json.ts';
import { openSource } from '../checkpoint/open-checkpoint.ts';
import type { TensorBytes } from '../checkpoint/tensor-bytes.ts';
import { type ModelSource, SOURCE_OPTIONS, type SourceOptions } from '../files/source.ts';
import { Param } from '../nn/variable.ts';
import { allocate } from '../ops/operands.ts';
import { foldIn, key, keyWords } from '../random/key.ts';
import { scope } from '../tensor/scope.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { DecoderConfig, DecoderLayerNames, DecoderNames } from './decoder-config.ts';
import { type DecoderWeights, decoderWeights } from './decoder-weights.ts';
import { describeConfig, describeModel } from './describe-model.ts';
import { loadParts } from './load-parts.ts';
import { Model, type ModelParts } from './model.ts';
import { ropeTables } from './rope-table.ts';
import { type PlacedWeight, type StoredParam, storedBytes } from './stored-weight.ts';
import type { WeightPlace } from './weight-place.ts';

/** Options of `createModel`. */
export interface CreateModelOptions {
  /** Of the initial weights; default 0. The same on every backend. */
  readonly seed?: number;
  /** Where the weights go and the model runs; default: the current backend. */
  readonly backend?: BackendName;
}

const CREATE_OPTIONS = optionKinds<CreateModelOptions>({ seed: anything, backend: anything });

/** Options of `loadTrainableModel`. */
export interface LoadTrainableModelOptions extends SourceOptions {
  /** Where the weights go and the model runs; default: the current backend. */
  readonly backend?: BackendName;
}

const LOAD_OPTIONS = optionKinds<LoadTrainableModelOptions>({ ...SOURCE_OPTIONS, backend: anything });

/**
 * A model whose weights are f32 parameters: `valueAndGrad` and `Optimizer` take it. Made by `createModel` and
 * `loadTrainableModel`.
 */
export class TrainableModel extends Model {
  /**
   * The config.json of this model, as Hugging Face transformers reads it; undefined when it came from a GGUF
   * file.
   */
  readonly configJson: Readonly<Record<string, unknown>> | undefined;
  readonly #parameters: ReadonlyMap<string, Param>;
  readonly #stored: readonly StoredParam[];

  /** @internal */
  constructor(
    parts: Omit<ModelParts, 'tensors'>,
    params: ReadonlyMap<string, StoredParam>,
    configJson?: Readonly<Record<string, unknown>>,
  ) {
    super({ ...parts, tensors: [...params.values()].map(({ parameter }) => parameter.value) });
    this.#stored = [...params.values()];
    const trained = [...params].filter(([, { place }]) => !place.buffer);
    this.#parameters = new Map(trained.map(([path, { parameter }]) => [path, parameter]));
    this.configJson = configJson;
  }

  /**
   * By the checkpoint's names; `name[first:end]` (or `name[first:end:stride]`) where one tensor holds several
   * projections. Tied weights are one.
   */
  parameters(): ReadonlyMap<string, Param> {
    return this.#parameters;
  }

  /**
   * The weights as a checkpoint of this model's form stores them, f32, by name: projections that share a
   * tensor are concatenated, and matrices transposed, as that form stores them. Bytes are read on demand.
   */
  storedTensors(): Record<string, TensorBytes> {
    const byName = new Map<string, StoredParam[]>();
    for (const param of this.#stored) {
      const { name } = param.place;
      byName.set(name, [...(byName.get(name) ?? []), param]);
    }
    return Object.fromEntries(
      [...byName].map(([name, parts]) => [
        name,
        {
          dtype: 'f32',
          shape: parts[0].place.stored,
          data: () => storedBytes(backendOfHandle(this.backend), parts.map(placedWeight), 'f32'),
        },
      ]),
    );
  }

  /** Number of trained numbers. */
  get parameterCount(): number {
    let count = 0;
    for (const { value } of this.#parameters.values()) count += value.size;
    return count;
  }
}

/**
 * A fresh model from a config.json object of any supported `model_type`. Matrices are normal with standard
 * deviation `initializer_range` (default 0.02), those that end a residual branch with that over `sqrt(2 *
 * layers)`; norms are 1, biases 0.
 *
 * Source: GPT-2 (Radford et al. 2019, section 2.3) as nanoGPT has it.
 * @throws FormatError for a config that is not supported or contradicts itself, such as K not dividing N.
 * @example
 * const config = llamaConfig({ vocabSize: 65, hiddenSize: 384, numLayers: 6, numHeads: 6, numKeyValueHeads: 2 });
 * const model = createModel(config);
 */
export function createModel(
  configJson: Readonly<Record<string, unknown>>,
  options: CreateModelOptions = {},
): TrainableModel {
  if (typeof configJson !== 'object' || configJson === null) {
    throw new TypeError(
      `createModel: expected a config, such as llamaConfig gives, got ${describe(configJson)}`,
    );
  }
  checkOptions('createModel', options, CREATE_OPTIONS);
  const { seed = 0 } = options;
  const backend = options.backend === undefined ? getBackend() : open(options.backend);
  const { config, names } = describeConfig(configJson);
  const range = typeof configJson.initializer_range === 'number' ? configJson.initializer_range : 0.02;
  const ends = new Set(
    Array.from({ length: config.numLayers }, (_, i) => names.layer(i)).flatMap((layer) => [
      `${layer.attentionOutput}.weight`,
      `${layer.down}.weight`,
      ...expertOutputNames(config, layer),
    ]),
  );
  const root = key(seed);
  const norm = 1 - (config.normWeightOffset ?? 0);
  let index = 0;
  const { weights, params } = makeParams(config, names, (place) => {
    const out = allocate(backend, 'f32', place.shape);
    const spread = ends.has(place.name) ? range / Math.sqrt(2 * config.numLayers) : range;
    if (place.shape.length === 1) {
      backend.run(fill, { out, count: out.size, value: /(bias|sinks)$/.test(place.name) ? 0 : norm });
    } else
      drawNormal(
        backend,
        out,
        scope(() => keyWords('createModel', foldIn(root, index))),
        spread,
      );
    index++;
    return out;
  });
  root.dispose();
  const made = { config, weights, backend, endTokenIds: [], origin: { names, configJson } };
  return new TrainableModel({ ...made, ...ropeTables(config) }, params, configJson);
}

/**
 * A checkpoint's model with its weights copied into parameters of f32.
 * @throws as `loadModel`
 */
export async function loadTrainableModel(
  source: ModelSource,
  options: LoadTrainableModelOptions = {},
): Promise<TrainableModel> {
  checkOptions('loadTrainableModel', options, LOAD_OPTIONS);
  const backend = await readyBackend(options.backend, 'loadTrainableModel');
  const { token, signal, cache } = options;
  await using checkpoint = await openSource('loadTrainableModel', source, { token, signal, cache });
  const description = await describeModel(checkpoint, backend);
  const { config, names } = description;
  const loaded = await loadParts(checkpoint, description, { backend, dtype: 'f32', signal });
  try {
    let next = 0;
    const { weights, params } = makeParams(config, names, ({ shape }) => {
      // Mapped files are read-only, and block types cannot be trained.
      const out = allocate(backend, 'f32', shape);
      backend.run(convert, { out, x: loaded.tensors[next++], count: out.size });
      return out;
    });
    const json = checkpoint.config as Readonly<Record<string, unknown>> | undefined;
    return new TrainableModel({ ...loaded, weights }, params, json && configWithTying(json, config));
  } finally {
    for (const tensor of loaded.tensors) tensor.dispose();
  }
}

function placedWeight({ parameter, place }: StoredParam): PlacedWeight {
  return { place, tensor: parameter.value };
}

/** Names of a layer's expert output matrices; one repeated name when stacked. */
function expertOutputNames({ experts }: DecoderConfig, { experts: names }: DecoderLayerNames): string[] {
  return Array.from(
    { length: names ? (experts?.numExperts ?? 0) : 0 },
    (_, e) => names?.expert(e).down.weight ?? '',
  );
}

/** Makes a parameter for every weight of the decoder, in the decoder's order. */
function makeParams(
  config: DecoderConfig,
  names: DecoderNames,
  make: (place: WeightPlace) => Tensor,
): { weights: DecoderWeights; params: Map<string, StoredParam> } {
  const params = new Map<string, StoredParam>();
  const source = (place: WeightPlace): Tensor => {
    const parameter = new Param(make(place));
    params.set(parameterName(place), { parameter, place });
    return parameter.value;
  };
  const weights = decoderWeights(config, names, source);
  const table = params.get(`${names.embedding}.weight`);
  if (table && names.headCopy !== undefined) {
    const name = `${names.headCopy}.weight`;
    params.set(name, { ...table, place: { ...table.place, name, buffer: true } });
  }
  return { weights, params };
}

/**
 * `name[first:end]` where a tensor holds more, `name[first:end:stride]` where the outputs recur every
 * `stride`, `name[item]` in front of these where it holds several experts.
 */
function parameterName({ name, shape, stored, first, blocks, item }: WeightPlace): string {
  const own = item === undefined ? name : `${name}[${item}]`;
  if (sizeOf(shape) === sizeOf(item === undefined ? stored : stored.slice(1))) return own;
  if (blocks) return `${own}[${first}:${first + blocks.size}:${blocks.stride}]`;
  return `${own}[${first}:${first + shape[0]}]`;
}

/** `normal(key, shape) * spread` with JAX's numbers. */
function drawNormal(backend: Backend, out: Tensor, words: readonly [number, number], spread: number): void {
  backend.run(random, {
    out,
    count: out.size,
    kind: 'normal',
    key: words,
    minval: ABOVE_MINUS_ONE,
    maxval: 1,
    factor: Math.fround(Math.SQRT2),
    low: -Infinity,
    high: Infinity,
    scale: spread,
  });
}

/** The f32 after -1, so that u is inside (-1, 1), where erf_inv is finite. */
const ABOVE_MINUS_ONE = -(1 - 2 ** -24);
