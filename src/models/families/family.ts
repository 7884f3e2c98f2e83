/** What a family file provides: how its config keys and tensor names map onto the one decoder. */

import { show } from '../../arguments/kinds.ts';
import { KeyReader } from '../../format/key-reader.ts';
import type { ModelShape } from '../../format/model-shape.ts';
import type { Activation } from '../activation.ts';
import type { DecoderConfig, DecoderNames, LayerAttention } from '../decoder-config.ts';

/** A model as the decoder takes it. */
export interface DecoderDescription {
  readonly config: DecoderConfig;
  readonly names: DecoderNames;
}

/** The values a family reads: config.json's or GGUF metadata's, the sizes already read from them, and the tensors. */
export interface FamilySource {
  readonly keys: KeyReader;
  readonly shape: ModelShape;
  hasTensor(name: string): boolean;
  /** The numbers of a small tensor. @throws FormatError when it is not there or not of this length. */
  floats(name: string, length: number): readonly number[];
}

/** A converted checkpoint's config.json, and what else its class wants. */
export interface ConvertedForm {
  readonly config: Readonly<Record<string, unknown>>;
  /** Whether it is another class: matrices of the layers change between `[In, Out]` and `[Out, In]`, buffers are left out. */
  readonly transpose?: boolean;
  /** Multiplies each layer's queries: what the old class does to the scores and the new one does not; default 1. */
  readonly queryScale?: (layer: number) => number;
}

export interface Family {
  /** `model_type` of the config.json files it reads. */
  readonly modelTypes: readonly string[];
  /** `general.architecture` of the GGUF files it reads. */
  readonly ggufArchitectures: readonly string[];
  /** @throws FormatError naming the key that is missing, wrong or not supported. */
  fromConfig(source: FamilySource): DecoderDescription;
  /** @throws FormatError naming the key that is missing, wrong or not supported. */
  fromGguf(source: FamilySource): DecoderDescription;
  /** `llama` where its safetensors can be written as GGUF of that architecture; default: they cannot. */
  readonly ggufForm?: 'llama';
  /**
   * The form of a model converted to K' key/value heads; default: the same class, with K' in `num_key_value_heads`.
   * @throws RangeError when Hugging Face has no class for it
   */
  convertedForm?(before: ConvertedForm['config'], config: DecoderConfig, to: number): ConvertedForm;
}

/** A model, and the family that read it. */
export interface DescribedModel extends DecoderDescription {
  readonly family: Family;
}

/** A positive number at `key`, or `fallback`. @throws FormatError for anything else, or when neither is there. */
export function positiveNumber(keys: KeyReader, key: string, fallback?: number): number {
  const value = keys.raw(key) ?? fallback;
  if (!isPositive(value)) {
    throw keys.fail(
      key,
      `expected a positive number, got ${value === undefined ? 'no such key' : show(value)}`,
    );
  }
  return value;
}

/** A list of `length` positive numbers. @throws FormatError for anything else. */
export function positiveNumbers(keys: KeyReader, key: string, length: number): readonly number[] {
  const list = keys.list(key);
  const wrong = list?.find((item) => !isPositive(item));
  if (list?.length === length && wrong === undefined) return list as readonly number[];
  const got =
    list === undefined
      ? show(keys.raw(key))
      : `${list.length}${wrong === undefined ? '' : ` with ${show(wrong)}`}`;
  throw keys.fail(key, `expected ${length} positive numbers, got ${got}`);
}

function isPositive(value: unknown): value is number {
  return typeof value === 'number' && value > 0 && value < Number.POSITIVE_INFINITY;
}

/** A size that `ModelShape` need not have. @throws FormatError when the file does not say. */
export function needSize(keys: KeyReader, key: string, value: number | undefined): number {
  if (value === undefined) throw keys.fail(key, 'expected a positive integer, got no such key');
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

/** What every file states in one way or another; the keys are for errors. @throws FormatError when a size is not there. */
export function decoderSizes(
  { keys, shape }: FamilySource,
  [vocab, inner, positions]: readonly [vocab: string, inner: string, positions: string],
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

/** Of a config.json: vocabulary, MLP width, context. */
export const CONFIG_SIZES: readonly [vocab: string, inner: string, positions: string] = [
  'vocab_size',
  'intermediate_size',
  'max_position_embeddings',
];

/** The same of a GGUF. */
export function ggufSizes(arch: string): readonly [vocab: string, inner: string, positions: string] {
  return [`${arch}.vocab_size`, `${arch}.feed_forward_length`, `${arch}.context_length`];
}

/** By transformers' names; without those that have parameters of their own, or that no decoder uses. */
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

/** transformers' name of an activation at `key`. @throws FormatError for one that the decoder does not have. */
export function activationAt(keys: KeyReader, key: string, fallback: string): Activation {
  const name = keys.raw(key) ?? fallback;
  if (typeof name === 'string' && Object.hasOwn(ACTIVATIONS, name)) return ACTIVATIONS[name];
  throw keys.fail(key, `expected one of ${Object.keys(ACTIVATIONS).join(', ')}, got ${show(name)}`);
}

/** The keys of an object inside a config, undefined when it is absent. @throws FormatError when it is no object. */
export function nestedKeys(keys: KeyReader, key: string): KeyReader | undefined {
  const value = keys.raw(key);
  if (value === undefined) return undefined;
  if (typeof value !== 'object' || Array.isArray(value)) throw keys.fail(key, 'expected an object');
  return new KeyReader(keys.file, (name) => (value as Record<string, unknown>)[name]);
}

/**
 * How each layer attends: to every token, or to those of its window.
 * @throws FormatError unless all layers have K and V of their own and of one shape, as this decoder wants them
 */
export function layerAttention(keys: KeyReader, shape: ModelShape): readonly LayerAttention[] {
  const { numKeyValueHeads, headDim } = shape;
  return shape.layers.map((layer, index) => {
    const { kind, numKeyValueHeads: K, keyHeadDim: H, valueHeadDim: Hv, window } = layer;
    const known = kind === 'full' || kind === 'sliding';
    if (!known || K !== numKeyValueHeads || H !== headDim || Hv !== headDim) {
      throw keys.fail(
        `layer ${index}`,
        `expected full or sliding attention with K=${numKeyValueHeads} and H=${headDim} in every layer, got ${kind} with K=${K}, H=${H} and ${Hv}`,
      );
    }
    return window === undefined ? {} : { window };
  });
}
