/**
 * Reads a model's RoPE: from `rope_parameters` (or `rope_theta` and `rope_scaling`) of a config.json, or from
 * the `*.rope.*` keys and factor tensors of a GGUF file.
 *
 * Source: transformers/modeling_rope_utils.py; llama.cpp convert_hf_to_gguf.py (generate_extra_tensors of
 * Llama and Phi-3).
 */
import { show } from '../../arguments/kinds.ts';
import { KeyReader } from '../../format/key-reader.ts';
import type { RopeConfig, RopeScaling } from '../rope-table.ts';
import { type FamilySource, nestedKeys, positiveNumber, positiveNumbers } from './family.ts';

/** How families differ. */
export interface RopeTraits {
  /** Default 10000. */
  readonly theta?: number;
  /** The parameters of a config without any; default: no scaling. */
  readonly parameters?: Readonly<Record<string, unknown>>;
  /** Default of the original context length, in a family whose configs always state one. */
  readonly originalPositions?: number;
  /** Default of `partial_rotary_factor`; absent: another value than 1 is an error. */
  readonly partial?: number;
  /** Whether pairs are (2i, 2i + 1); default false. */
  readonly interleaved?: boolean;
  /** Whether pairs turn the other way round; default false. */
  readonly reversed?: boolean;
}

/**
 * transformers 5 writes `rope_parameters`, older versions `rope_theta` and `rope_scaling`. A `rope_scaling`
 * has priority as a whole, as in transformers: users add it by hand.
 */
export function configRope(
  keys: KeyReader,
  headDim: number,
  maxPositions: number,
  {
    theta = 10000,
    partial,
    parameters: fallback,
    originalPositions,
    interleaved = false,
    reversed,
  }: RopeTraits = {},
): RopeConfig {
  const parameters = ropeParameters(keys) ?? (fallback && new KeyReader(keys.file, (key) => fallback[key]));
  const byKind = parameters?.find(['full_attention', 'sliding_attention']);
  if (byKind !== undefined) {
    throw keys.fail('rope_parameters', `expected one RoPE for all layers in this family, got ${byKind}`);
  }
  const rotaryDim = configRotaryDim(keys, parameters, headDim, partial);
  const original = originalLength(keys, parameters, originalPositions, maxPositions);
  const scaling = configScaling(parameters, rotaryDim, maxPositions, original);
  return {
    theta: positiveNumber(parameters?.has('rope_theta') ? parameters : keys, 'rope_theta', theta),
    rotaryDim,
    interleaved,
    ...(reversed && { reversed }),
    scaling,
  };
}

/**
 * The RoPE of full layers and of sliding layers. Their keys are two objects in `rope_parameters`, or keys of
 * the config; `rope_scaling` is for full layers and has priority.
 * @param thetas defaults
 */
export function ropesByKind(
  keys: KeyReader,
  headDim: number,
  maxPositions: number,
  thetas: { readonly full_attention: number; readonly sliding_attention: number },
): { readonly rope: RopeConfig; readonly windowRope: RopeConfig } {
  const parameters = nestedKeys(keys, 'rope_parameters');
  if (parameters && !parameters.find(['full_attention', 'sliding_attention'])) {
    throw keys.fail('rope_parameters', 'expected full_attention and sliding_attention in it');
  }
  const scaling = nestedKeys(keys, 'rope_scaling') ? (keys.raw('rope_scaling') as object) : {};
  const of = (kind: 'full_attention' | 'sliding_attention', theta: unknown, added: object) => {
    const own = parameters && nestedKeys(parameters, kind);
    const stated = own ? (parameters.raw(kind) as object) : { rope_type: 'default' };
    const values: Readonly<Record<string, unknown>> = {
      rope_parameters: { ...stated, ...added },
      rope_theta: theta,
    };
    const reader = new KeyReader(keys.file, (key) => (Object.hasOwn(values, key) ? values[key] : undefined));
    return configRope(reader, headDim, maxPositions, { theta: thetas[kind] });
  };
  return {
    rope: of('full_attention', keys.raw('rope_theta'), scaling),
    windowRope: of('sliding_attention', keys.raw('rope_local_base_freq'), {}),
  };
}

/** `keys` without those of RoPE, for families that read these by kind of layer. */
export function withoutRope(keys: KeyReader): KeyReader {
  const other = (key: string) => !key.startsWith('rope_');
  return new KeyReader(keys.file, (key) =>
    other(key) ? (keys.isNull(key) ? null : keys.raw(key)) : undefined,
  );
}

/** The object with the RoPE parameters of a config; an empty one counts as absent. */
export function ropeParameters(keys: KeyReader): KeyReader | undefined {
  const key = ['rope_scaling', 'rope_parameters'].find((name) => {
    const value = keys.raw(name);
    return typeof value !== 'object' || Object.keys(value as object).length > 0 ? keys.has(name) : false;
  });
  return key === undefined ? undefined : nestedKeys(keys, key);
}

/** The key of the config has priority over that of the parameters. */
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

/** Phi-4-mini rotates three quarters of a head's dims. */
function configRotaryDim(
  keys: KeyReader,
  parameters: KeyReader | undefined,
  headDim: number,
  partial: number | undefined,
): number {
  const key = 'partial_rotary_factor';
  const holder = parameters?.has(key) ? parameters : keys;
  const factor = positiveNumber(holder, key, partial ?? 1);
  if (partial === undefined && factor !== 1) {
    throw holder.fail(
      key,
      `expected 1, since transformers rotates whole heads in this family, got ${factor}`,
    );
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
  // "su" is Phi-3's older name of it.
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

/** YaRN (DeepSeek, gpt-oss). The default factor is the context length over the original one. */
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

/** The factor by which YaRN scales cosines, sines or scores for a context `factor` times as long. */
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

/**
 * For Llama 3 and Phi-3 the converter writes the divisors of frequencies as tensors, and no keys.
 * @param interleaved whether pairs are (2i, 2i + 1)
 * @param truncate whether YaRN's ramp is rounded to whole pairs, for which there is no key
 */
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
  // As in llama.cpp, a factor of 0 or the type none means no scaling.
  const scaled = factorKey !== undefined && !hasLong && type !== 'none' && keys.raw(factorKey) !== 0;
  const factor = scaled ? positiveNumber(keys, factorKey) : 1;
  const rotaryKey = `${arch}.rope.dimension_count`;
  const rotaryDim = keys.int(rotaryKey) ?? shape.headDim;
  if (rotaryDim > shape.headDim || rotaryDim % 2 !== 0) {
    throw keys.fail(rotaryKey, `expected an even number up to H=${shape.headDim}, got ${rotaryDim}`);
  }
  const theta = positiveNumber(keys, `${arch}.rope.freq_base`, 10000);
  const divisors = hasTensor(DIVISORS) ? floats(DIVISORS, rotaryDim / 2) : undefined;
  const rope = { theta, rotaryDim, interleaved, divisors };
  if (!hasLong && factor === 1) return rope;
  if (!hasLong && type === 'yarn') {
    return { ...rope, scaling: ggufYarn(source, `${arch}.rope.scaling`, factor, truncate) };
  }
  if (!hasLong) return { ...rope, scaling: { type: 'linear', factor } };
  const scaling: RopeScaling = {
    type: 'longrope',
    shortDivisors: floats(SHORT, rotaryDim / 2),
    longDivisors: floats(LONG, rotaryDim / 2),
    originalMaxPositionEmbeddings: positiveNumber(keys, `${arch}.rope.scaling.original_context_length`),
    attentionFactor: positiveNumber(keys, `${arch}.rope.scaling.attn_factor`, 1),
  };
  return { ...rope, scaling };
}

function ggufYarn(
  { keys, shape }: FamilySource,
  prefix: string,
  factor: number,
  truncate: boolean,
): RopeScaling {
  const logMultiplier = keys.raw(`${prefix}.yarn_log_multiplier`);
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
    // llama.cpp multiplies these.
    attentionFactor:
      (positiveNumber(keys, `${prefix}.attn_factor`, 1) * yarnScale(factor)) /
      yarnScale(factor, typeof logMultiplier === 'number' ? logMultiplier : 0),
  };
}

const DIVISORS = 'rope_freqs.weight';
const SHORT = 'rope_factors_short.weight';
const LONG = 'rope_factors_long.weight';
/** The tensors of GGUF files that belong to the config. */
export const ROPE_TENSORS: readonly string[] = [DIVISORS, SHORT, LONG];
