/**
 * How files say how a model rotates: `rope_parameters` (or `rope_theta` and `rope_scaling`) of a config.json, `*.rope.*`
 * keys and factor tensors of a GGUF.
 *
 * Source: transformers/modeling_rope_utils.py; llama.cpp convert_hf_to_gguf.py (generate_extra_tensors of Llama and Phi-3).
 */
import { show } from '../../arguments/kinds.ts';
import { KeyReader } from '../../format/key-reader.ts';
import type { RopeConfig, RopeScaling } from '../rope-table.ts';
import { type FamilySource, nestedKeys, positiveNumber, positiveNumbers } from './family.ts';

/** What families differ in. */
export interface RopeTraits {
  /** Default 10000. */
  readonly theta?: number;
  /** What a config without any of the keys means; default: no scaling. */
  readonly parameters?: Readonly<Record<string, unknown>>;
  /** Of a family whose configs always have one: the original length where the file names none. */
  readonly originalPositions?: number;
  /** Whether `partial_rotary_factor` counts; where transformers reads no such key another value than 1 is refused. Default false. */
  readonly partial?: boolean;
}

/**
 * transformers 5 keeps everything in `rope_parameters`; before it was `rope_theta` and `rope_scaling`. Where both are there the
 * second wins as a whole, as in transformers: it is what users add by hand.
 */
export function configRope(
  keys: KeyReader,
  headDim: number,
  maxPositions: number,
  { theta = 10000, partial = false, parameters: fallback, originalPositions }: RopeTraits = {},
): RopeConfig {
  const parameters = ropeParameters(keys) ?? (fallback && new KeyReader(keys.file, (key) => fallback[key]));
  const byKind = parameters?.find(['full_attention', 'sliding_attention']);
  if (byKind !== undefined) {
    throw keys.fail('rope_parameters', `expected one rotation for all layers in this family, got ${byKind}`);
  }
  const rotaryDim = configRotaryDim(keys, parameters, headDim, partial);
  const original = originalLength(keys, parameters, originalPositions, maxPositions);
  const scaling = configScaling(parameters, rotaryDim, maxPositions, original);
  return {
    theta: positiveNumber(parameters?.has('rope_theta') ? parameters : keys, 'rope_theta', theta),
    rotaryDim,
    interleaved: false,
    ...(scaling && { scaling }),
  };
}

/** The object that says how a config's model rotates; an empty one counts as absent. */
export function ropeParameters(keys: KeyReader): KeyReader | undefined {
  const key = ['rope_scaling', 'rope_parameters'].find((name) => {
    const value = keys.raw(name);
    return typeof value !== 'object' || Object.keys(value as object).length > 0 ? keys.has(name) : false;
  });
  return key === undefined ? undefined : nestedKeys(keys, key);
}

/** Beside the parameters it wins over what stands inside. */
function originalLength(
  config: KeyReader,
  parameters: KeyReader | undefined,
  fallback: number | undefined,
  maxPositions: number,
): number {
  const key = 'original_max_position_embeddings';
  const holder = config.has(key) || !parameters ? config : parameters;
  if (holder !== config && fallback !== undefined) return fallback;
  return positiveNumber(holder, key, fallback ?? maxPositions);
}

/** Phi-4-mini rotates three quarters of a head. */
function configRotaryDim(
  keys: KeyReader,
  parameters: KeyReader | undefined,
  headDim: number,
  partial: boolean,
): number {
  const key = 'partial_rotary_factor';
  const holder = parameters?.has(key) ? parameters : keys;
  const factor = positiveNumber(holder, key, 1);
  if (!partial && factor !== 1) {
    throw holder.fail(key, `expected 1, as transformers rotates whole heads in this family, got ${factor}`);
  }
  const rotaryDim = Math.trunc(headDim * factor);
  if (factor > 1 || rotaryDim % 2 !== 0) {
    throw holder.fail(key, `expected at most 1 and an even number of H=${headDim} dims, got ${factor}`);
  }
  return rotaryDim;
}

function configScaling(
  keys: KeyReader | undefined,
  rotaryDim: number,
  maxPositions: number,
  original: number,
): RopeScaling | undefined {
  const type = keys?.raw('rope_type') ?? keys?.raw('type') ?? 'default';
  if (keys === undefined || type === 'default') return undefined;
  if (type === 'linear') return { type, factor: positiveNumber(keys, 'factor') };
  if (type === 'llama3') {
    return {
      type,
      factor: positiveNumber(keys, 'factor'),
      lowFreqFactor: positiveNumber(keys, 'low_freq_factor'),
      highFreqFactor: positiveNumber(keys, 'high_freq_factor'),
      originalMaxPositionEmbeddings: original,
    };
  }
  if (type === 'yarn') return yarn(keys, maxPositions, original);
  // Phi-3's first name of it was "su".
  if (type === 'longrope' || type === 'su') return longRope(keys, rotaryDim, maxPositions, original);
  if (type === 'dynamic') {
    if (rotaryDim <= 2) throw keys.fail('rope_type', `expected more than 2 rotating dims, got ${rotaryDim}`);
    return { type, factor: positiveNumber(keys, 'factor'), originalMaxPositionEmbeddings: maxPositions };
  }
  throw keys.fail(
    'rope_type',
    `expected default, linear, dynamic, llama3, yarn or longrope, got ${show(type)}`,
  );
}

/** DeepSeek's and gpt-oss's. Without a factor of its own it is how many times longer the context became. */
function yarn(keys: KeyReader, maxPositions: number, original: number): RopeScaling {
  const factor = positiveNumber(keys, 'factor', maxPositions / original);
  const [mscale, allDim] = ['mscale', 'mscale_all_dim'].map((name) => keys.raw(name));
  const both = typeof mscale === 'number' && typeof allDim === 'number' && mscale !== 0 && allDim !== 0;
  return {
    type: 'yarn',
    factor,
    betaFast: positiveNumber(keys, 'beta_fast', 32),
    betaSlow: positiveNumber(keys, 'beta_slow', 1),
    truncate: keys.flag('truncate') ?? true,
    originalMaxPositionEmbeddings: original,
    attentionFactor: positiveNumber(
      keys,
      'attention_factor',
      both ? yarnScale(factor, mscale) / yarnScale(factor, allDim) : yarnScale(factor),
    ),
  };
}

/** How much larger YaRN makes cosines, sines or scores for a context `factor` times as long. */
export function yarnScale(factor: number, mscale: number = 1): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
}

function longRope(keys: KeyReader, rotaryDim: number, maxPositions: number, original: number): RopeScaling {
  const factor = positiveNumber(keys, 'factor', maxPositions / original);
  return {
    type: 'longrope',
    shortDivisors: positiveNumbers(keys, 'short_factor', rotaryDim / 2),
    longDivisors: positiveNumbers(keys, 'long_factor', rotaryDim / 2),
    originalMaxPositionEmbeddings: original,
    attentionFactor: positiveNumber(
      keys,
      'attention_factor',
      factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original)),
    ),
  };
}

/** Llama 3's and Phi-3's scalings are not in the keys: their converters store the divisors themselves, as tensors. */
/** @param truncate whether YaRN's ramp ends at whole pairs; not in the keys. */
export function ggufRope(
  source: FamilySource,
  arch: string,
  interleaved: boolean,
  truncate = true,
): RopeConfig {
  const { keys, shape, hasTensor, floats } = source;
  const typeKey = `${arch}.rope.scaling.type`;
  const type = keys.raw(typeKey) ?? 'linear';
  const hasLong = hasTensor(LONG);
  if (type !== 'none' && type !== 'linear' && type !== 'yarn' && !(type === 'longrope' && hasLong)) {
    throw keys.fail(typeKey, `expected none, linear or yarn, got ${show(type)}`);
  }
  const factorKey = keys.find([`${arch}.rope.scaling.factor`, `${arch}.rope.scale_linear`]);
  // llama.cpp scales nothing by a factor of 0, and nothing where the type is none.
  const scaled = factorKey !== undefined && !hasLong && type !== 'none' && keys.raw(factorKey) !== 0;
  const factor = scaled ? positiveNumber(keys, factorKey) : 1;
  const rotaryKey = `${arch}.rope.dimension_count`;
  const rotaryDim = keys.int(rotaryKey) ?? shape.headDim;
  if (rotaryDim > shape.headDim || rotaryDim % 2 !== 0) {
    throw keys.fail(rotaryKey, `expected an even number up to H=${shape.headDim}, got ${rotaryDim}`);
  }
  const divisors = hasTensor(DIVISORS) ? floats(DIVISORS, rotaryDim / 2) : undefined;
  const scaling: RopeScaling | undefined = hasLong
    ? {
        type: 'longrope',
        shortDivisors: floats(SHORT, rotaryDim / 2),
        longDivisors: floats(LONG, rotaryDim / 2),
        originalMaxPositionEmbeddings: positiveNumber(keys, `${arch}.rope.scaling.original_context_length`),
        attentionFactor: positiveNumber(keys, `${arch}.rope.scaling.attn_factor`, 1),
      }
    : factor === 1
      ? undefined
      : type === 'yarn'
        ? ggufYarn(source, `${arch}.rope.scaling`, factor, truncate)
        : { type: 'linear', factor };
  return {
    theta: positiveNumber(keys, `${arch}.rope.freq_base`, 10000),
    rotaryDim,
    interleaved,
    ...(scaling && { scaling }),
    ...(divisors && { divisors }),
  };
}

function ggufYarn(
  { keys, shape }: FamilySource,
  prefix: string,
  factor: number,
  truncate: boolean,
): RopeScaling {
  return {
    type: 'yarn',
    factor,
    betaFast: positiveNumber(keys, `${prefix}.yarn_beta_fast`, 32),
    betaSlow: positiveNumber(keys, `${prefix}.yarn_beta_slow`, 1),
    truncate,
    originalMaxPositionEmbeddings: positiveNumber(
      keys,
      `${prefix}.original_context_length`,
      shape.maxPositionEmbeddings,
    ),
    // llama.cpp multiplies the two.
    attentionFactor: positiveNumber(keys, `${prefix}.attn_factor`, 1) * yarnScale(factor),
  };
}

const DIVISORS = 'rope_freqs.weight';
const SHORT = 'rope_factors_short.weight';
const LONG = 'rope_factors_long.weight';
