/** The interface of a family: how its config keys and tensor names map to the decoder. */

import { show } from '../../arguments/kinds.ts';
import { KeyReader } from '../../format/key-reader.ts';
import type { ModelShape } from '../../format/model-shape.ts';
import type { Activation } from '../activation.ts';
import type { DecoderConfig, DecoderNames, LayerAttention } from '../decoder-config.ts';

/** The decoder of a model: its config, and the names of its tensors. */
export interface DecoderDescription {
  readonly config: DecoderConfig;
  readonly names: DecoderNames;
}

/** What a family reads: the keys of config.json or GGUF metadata, the sizes read from them, and tensors. */
export interface FamilySource {
  readonly keys: KeyReader;
  readonly shape: ModelShape;
  hasTensor(name: string): boolean;
  /** The numbers of a small tensor. @throws FormatError when it is missing or of another length */
  floats(name: string, length: number): readonly number[];
}

/** The config.json of a converted checkpoint, and the changes that its class needs. */
export interface ConvertedForm {
  readonly config: Readonly<Record<string, unknown>>;
  /** For another class: matrices change between `[In, Out]` and `[Out, In]`, and buffers are not written. */
  readonly transpose?: boolean;
  /** Factor of a layer's queries, for a scaling of scores that the new class does not have; default 1. */
  readonly queryScale?: (layer: number) => number;
}

export interface Family {
  /** Values of `model_type` in config.json. */
  readonly modelTypes: readonly string[];
  /** Values of `general.architecture` in GGUF. */
  readonly ggufArchitectures: readonly string[];
  /** Names of small tensors that count as part of the config, besides those of RoPE. */
  readonly configTensors?: RegExp;
  /** @throws FormatError naming the key that is missing, wrong or not supported */
  fromConfig(source: FamilySource): DecoderDescription;
  /** @throws FormatError naming the key that is missing, wrong or not supported */
  fromGguf(source: FamilySource): DecoderDescription;
  /** `llama` if its safetensors files can be converted to GGUF of that architecture; default: they cannot. */
  readonly ggufForm?: 'llama';
  /**
   * The config.json of a model from a GGUF file of this family, as far as it can describe the model; its
   * tensors then have the names that `fromConfig` gives. Default: such a model cannot be written.
   */
  toConfig?(config: DecoderConfig): Readonly<Record<string, unknown>>;
  /**
   * The form of a model converted to K' key/value heads; default: the same class, with K' in
   * `num_key_value_heads`.
   * @throws RangeError when Hugging Face has no class for it
   */
  convertedForm?(before: ConvertedForm['config'], config: DecoderConfig, to: number): ConvertedForm;
}

/** A model and its family. */
export interface DescribedModel extends DecoderDescription {
  readonly family: Family;
}

/**
 * The converted form of a multi-head family whose class has no key for K.
 * @param architecture of GGUF, which can hold any K; undefined: none
 * @throws RangeError for another K than N
 */
export function onlyHeads(
  modelType: string,
  architecture: string | undefined,
  before: ConvertedForm['config'],
  { numHeads: N }: DecoderConfig,
  to: number,
): ConvertedForm {
  if (to === N) return { config: before };
  const gguf =
    architecture === undefined ? '' : `; a .gguf file of the ${architecture} architecture can hold any K`;
  throw new RangeError(
    `convert: expected K=${N} for ${modelType}, got K=${to}: Hugging Face has no class for its block with fewer key/value heads${gguf}`,
  );
}

/** A positive number at `key`, or `fallback`. @throws FormatError for another value, or without either */
export function positiveNumber(keys: KeyReader, key: string, fallback?: number): number {
  const value = keys.raw(key) ?? fallback;
  if (isPositive(value)) return value;
  const got = value === undefined ? 'no such key' : show(value);
  throw keys.fail(key, `expected a positive number, got ${got}`);
}

/** A list of `length` positive numbers. @throws FormatError for another value */
export function positiveNumbers(keys: KeyReader, key: string, length: number): readonly number[] {
  const list = keys.list(key);
  const wrong = list?.find((item) => !isPositive(item));
  if (list?.length === length && wrong === undefined) return list as readonly number[];
  const item = wrong === undefined ? '' : ` with ${show(wrong)}`;
  const got = list === undefined ? show(keys.raw(key)) : `${list.length}${item}`;
  throw keys.fail(key, `expected ${length} positive numbers, got ${got}`);
}

function isPositive(value: unknown): value is number {
  return typeof value === 'number' && value > 0 && value < Number.POSITIVE_INFINITY;
}

/** A size that can be undefined in `ModelShape`. @throws FormatError when it is */
export function needSize(keys: KeyReader, key: string, value: number | undefined): number {
  if (value === undefined) throw keys.fail(key, 'expected an integer >= 1, got no such key');
  return value;
}

type Sizes = Pick<
  DecoderConfig,
  | 'modelType'
  | 'vocabSize'
  | 'hiddenSize'
  | 'numLayers'
  | 'numHeads'
  | 'numKeyValueHeads'
  | 'headDim'
  | 'intermediateSize'
  | 'maxPositionEmbeddings'
  | 'tiedEmbeddings'
>;

/** The sizes that every file states. @param sizeKeys for errors @throws FormatError when one is missing */
export function decoderSizes(
  { keys, shape }: FamilySource,
  [vocab, inner, positions]: SizeKeys,
  maxPositions?: number,
): Sizes {
  return {
    modelType: shape.modelType,
    vocabSize: needSize(keys, vocab, shape.vocabSize),
    hiddenSize: shape.hiddenSize,
    numLayers: shape.numLayers,
    numHeads: shape.numHeads,
    numKeyValueHeads: shape.numKeyValueHeads,
    headDim: shape.headDim,
    intermediateSize: needSize(keys, inner, shape.intermediateSize),
    maxPositionEmbeddings: needSize(keys, positions, shape.maxPositionEmbeddings ?? maxPositions),
    tiedEmbeddings: shape.tiedEmbeddings ?? false,
  };
}

type SizeKeys = readonly [vocabulary: string, mlpWidth: string, contextLength: string];

/** For a config.json. */
export const CONFIG_SIZES: SizeKeys = ['vocab_size', 'intermediate_size', 'max_position_embeddings'];

/** For a GGUF file. */
export function ggufSizes(arch: string): SizeKeys {
  return [`${arch}.vocab_size`, `${arch}.feed_forward_length`, `${arch}.context_length`];
}

/** By transformers' names; without activations that have parameters or that no decoder uses. */
const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_python: 'gelu',
  gelu_new: 'geluTanh',
  gelu_fast: 'geluTanh',
  gelu_accurate: 'geluTanh',
  gelu_pytorch_tanh: 'geluTanh',
  gelu_python_tanh: 'geluTanh',
  gelu_10: 'clippedGelu',
  quick_gelu: 'quickGelu',
  relu: 'relu',
  relu2: 'relu2',
  relu6: 'relu6',
  leaky_relu: 'leakyRelu',
  mish: 'mish',
  hardswish: 'hardSwish',
  sigmoid: 'sigmoid',
  tanh: 'tanh',
  linear: 'linear',
};

/** The activation that `key` names. @throws FormatError for one that the decoder does not have */
export function activationAt(keys: KeyReader, key: string, fallback: string): Activation {
  const name = keys.raw(key) ?? fallback;
  if (typeof name === 'string' && Object.hasOwn(ACTIVATIONS, name)) return ACTIVATIONS[name];
  throw keys.fail(key, `expected one of ${Object.keys(ACTIVATIONS).join(', ')}, got ${show(name)}`);
}

/** A reader of the object at `key`; undefined when absent. @throws FormatError for another value */
export function nestedKeys(keys: KeyReader, key: string): KeyReader | undefined {
  const value = keys.raw(key);
  if (value === undefined) return undefined;
  if (typeof value !== 'object' || Array.isArray(value)) throw keys.fail(key, 'expected an object');
  return new KeyReader(keys.file, (name) => (value as Record<string, unknown>)[name]);
}

/**
 * How each layer attends: to every token, or to those of its window; with which heads, and whose keys and
 * values.
 * @throws FormatError for another kind of attention, or values of other dims than keys
 */
export function layerAttention(keys: KeyReader, shape: ModelShape): readonly LayerAttention[] {
  const { numHeads, numKeyValueHeads, headDim, layers } = shape;
  return layers.map((layer, index) => {
    const { kind, numHeads: N = numHeads, numKeyValueHeads: K, keyHeadDim: H, valueHeadDim: Hv } = layer;
    const { window, keysAreValues } = layer;
    const known = kind === 'full' || kind === 'sliding' || kind === 'chunked' || kind === 'shared';
    if (!known || N !== numHeads || Hv !== H) {
      const expected = `expected full or sliding attention with N=${numHeads} and one head dim`;
      throw keys.fail(`layer ${index}`, `${expected}, got ${kind} with N=${N}, H=${H} and ${Hv}`);
    }
    return {
      ...(K !== numKeyValueHeads && { numKeyValueHeads: K }),
      ...(H !== headDim && { headDim: H }),
      ...(window !== undefined && { window }),
      ...(keysAreValues && { keysAreValues }),
      ...(kind === 'shared' && { reads: sourceOf(keys, layers, index) }),
    };
  });
}

/** The last layer of the same kind that has keys and values of its own. */
function sourceOf(keys: KeyReader, layers: ModelShape['layers'], index: number): number {
  const { window } = layers[index];
  const source = layers.findLastIndex(
    (layer, i) => i < index && layer.kind !== 'shared' && layer.window === window,
  );
  if (source >= 0) return source;
  throw keys.fail(`layer ${index}`, 'expected an earlier layer of its kind with keys and values, got none');
}
