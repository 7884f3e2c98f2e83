/**
 * Cosines and sines of rotary positions, rounded where Hugging Face rounds: the inverse frequencies are f32,
 * their product with the position is f32, and cos and sin of that are f32. At position 8000, computing in f64
 * would differ by 5e-4.
 *
 * LongRoPE has two sets of frequencies: a sequence longer than the original context uses the second for all
 * its tokens. Dynamic NTK scaling has one set for every length past the original.
 *
 * Source: transformers/modeling_rope_utils.py (_compute_linear_scaling_rope_parameters,
 * _compute_llama3_parameters, _compute_yarn_parameters, _compute_longrope_parameters,
 * longrope_frequency_update, _compute_dynamic_ntk_parameters, dynamic_frequency_update).
 */

import { sameShape } from '../tensor/shape.ts';

/** RoPE scaling for longer contexts. */
export type RopeScaling =
  | { readonly type: 'linear'; readonly factor: number }
  | {
      /** NTK scaling: theta grows with the length of a sequence that is longer than the original. */
      readonly type: 'dynamic';
      readonly factor: number;
      readonly originalMaxPositionEmbeddings: number;
    }
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalMaxPositionEmbeddings: number;
    }
  | {
      /**
       * Peng et al. 2023: short wavelengths are unchanged, long ones scaled by `factor`, with a linear ramp
       * between.
       */
      readonly type: 'yarn';
      readonly factor: number;
      /** Pairs with more rotations than this within the original length are unchanged. */
      readonly betaFast: number;
      /** Pairs with fewer rotations than this are scaled by the full `factor`. */
      readonly betaSlow: number;
      /** Whether the ends of the ramp are rounded outwards to whole pairs. */
      readonly truncate: boolean;
      readonly originalMaxPositionEmbeddings: number;
      /** Multiplies cosines and sines. */
      readonly attentionFactor: number;
    }
  | {
      readonly type: 'longrope';
      /**
       * `[rotaryDim / 2]` each: what divides the frequencies of sequences up to the original length, and of
       * longer ones.
       */
      readonly shortDivisors: readonly number[];
      readonly longDivisors: readonly number[];
      readonly originalMaxPositionEmbeddings: number;
      /** Multiplies cosines and sines, of short sequences too. */
      readonly attentionFactor: number;
    };

/** Rotary positions: which dims rotate, and how fast. */
export interface RopeConfig {
  /** Base of the angles: pair i turns by `theta^(-2i / rotaryDim)` per position. */
  readonly theta: number;
  /** Leading dims of a head that rotate; even. */
  readonly rotaryDim: number;
  /** Pairs (2i, 2i + 1) when true, (i, i + rotaryDim / 2) when false. */
  readonly interleaved: boolean;
  /** Scaling for longer contexts; default none. */
  readonly scaling?: RopeScaling;
  /** Whether pairs turn the other way round (nanochat); default false. */
  readonly reversed?: boolean;
  /**
   * `[rotaryDim / 2]`: divides the frequencies, after any scaling; what a GGUF stores as `rope_freqs.weight`.
   */
  readonly divisors?: readonly number[];
}

const f32 = Math.fround;

/**
 * The rotation per position of each pair: `theta^(-2i / rotaryDim)`, scaled.
 * @param length of the sequence, which matters past the original one of LongRoPE and of dynamic scaling
 * @returns f32 `[rotaryDim / 2]`
 */
export function inverseFrequencies(config: RopeConfig, length: number = 0): Float32Array {
  const { rotaryDim, scaling, divisors } = config;
  const long = frequencySet(config, length) > 0;
  const theta = scaling?.type === 'dynamic' && long ? dynamicTheta(config, scaling, length) : config.theta;
  return Float32Array.from({ length: rotaryDim / 2 }, (_, i) => {
    const power = f32(theta ** f32((2 * i) / rotaryDim));
    const scaled = scaling === undefined ? f32(1 / power) : scaledFrequency(power, i, config, scaling, long);
    return divisors === undefined ? scaled : scaled / divisors[i];
  });
}

/**
 * Which frequencies sequences of `length` tokens rotate by: equal numbers mean the same ones, 0 those of the
 * original length.
 */
function frequencySet({ scaling }: RopeConfig, length: number): number {
  if (scaling?.type !== 'longrope' && scaling?.type !== 'dynamic') return 0;
  if (length <= scaling.originalMaxPositionEmbeddings) return 0;
  return scaling.type === 'dynamic' ? length : 1;
}

/** Each step in f32, as transformers has the length in a tensor. */
function dynamicTheta(
  { theta, rotaryDim }: RopeConfig,
  { factor, originalMaxPositionEmbeddings: original }: Extract<RopeScaling, { type: 'dynamic' }>,
  length: number,
): number {
  const stretch = f32(f32(f32(factor * length) / original) - f32(factor - 1));
  return f32(theta * f32(stretch ** (rotaryDim / (rotaryDim - 2))));
}

/** @param power `theta^(2i / rotaryDim)` */
function scaledFrequency(
  power: number,
  i: number,
  config: RopeConfig,
  scaling: RopeScaling,
  long: boolean,
): number {
  const frequency = f32(1 / power);
  if (scaling.type === 'yarn') {
    const stretched = f32(yarnRamp(config, scaling, i));
    return f32(f32(1 / f32(scaling.factor * power)) * stretched) + f32(frequency * f32(1 - stretched));
  }
  if (scaling.type === 'dynamic') return frequency;
  if (scaling.type === 'linear') return frequency / scaling.factor;
  if (scaling.type === 'longrope') {
    const divisor = f32((long ? scaling.longDivisors : scaling.shortDivisors)[i]);
    return 1 / f32(divisor * power);
  }
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings: original } = scaling;
  const wavelength = f32((2 * Math.PI) / frequency);
  if (wavelength < original / highFreqFactor) return frequency;
  if (wavelength > original / lowFreqFactor) return frequency / factor;
  const smooth = f32(f32(f32(original / wavelength) - lowFreqFactor) / (highFreqFactor - lowFreqFactor));
  return f32(f32(f32(1 - smooth) * frequency) / factor) + f32(smooth * frequency);
}

/** The share of scaling of pair i, 0 to 1. */
function yarnRamp(
  { theta, rotaryDim }: RopeConfig,
  scaling: Extract<RopeScaling, { type: 'yarn' }>,
  i: number,
): number {
  const { betaFast, betaSlow, truncate, originalMaxPositionEmbeddings: original } = scaling;
  /** The pair with this many rotations within the original length. */
  const pairOf = (turns: number) =>
    (rotaryDim * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [low, high] = truncate
    ? [Math.floor(pairOf(betaFast)), Math.ceil(pairOf(betaSlow))]
    : [pairOf(betaFast), pairOf(betaSlow)];
  const [from, to] = [Math.max(low, 0), Math.min(high, rotaryDim - 1)];
  const ramp = f32(f32(i - f32(from)) / f32(from === to ? 0.001 : to - from));
  return Math.min(1, Math.max(0, ramp));
}

/** The tables of a model: for all layers, and for layers with a window if their frequencies differ. */
export interface RopeTables {
  readonly ropeTable?: RopeTable;
  readonly windowRopeTable?: RopeTable;
}

/** @throws RangeError when rotaryDim is odd. */
export function ropeTables(config: {
  readonly rope?: RopeConfig;
  readonly windowRope?: RopeConfig;
}): RopeTables {
  const { rope, windowRope } = config;
  return {
    ...(rope && { ropeTable: new RopeTable(rope) }),
    ...(windowRope && { windowRopeTable: new RopeTable(windowRope) }),
  };
}

/** Rows `[tokens, rotaryDim / 2]` for one forward pass. They may alias the table: read them, do not write. */
export interface RopeRows {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
}

/** The rows of positions 0, 1, 2 … made once, grown by doubling. */
export class RopeTable {
  readonly half: number;
  /**
   * Rows that end past so many tokens rotate by other frequencies than shorter ones; Infinity when there is
   * one set.
   */
  readonly switchLength: number;
  readonly #config: RopeConfig;
  readonly #factor: number;
  readonly #short: PositionRows;
  /** The most recently used set for long sequences. */
  #long: { readonly set: number; readonly rows: PositionRows } | undefined;
  /** The most recent table of several rows: each pass of a training run needs the same. */
  #last:
    | { readonly starts: readonly number[]; readonly ends: readonly number[]; readonly rows: RopeRows }
    | undefined;

  /** @throws RangeError when rotaryDim is odd. */
  constructor(config: RopeConfig) {
    const { rotaryDim, scaling } = config;
    if (rotaryDim % 2 !== 0) {
      throw new RangeError(`rope: expected an even number of rotating dims, got ${rotaryDim}`);
    }
    this.half = rotaryDim / 2;
    const severalSets = scaling?.type === 'longrope' || scaling?.type === 'dynamic';
    this.#config = config;
    this.#factor = scaling && 'attentionFactor' in scaling ? f32(scaling.attentionFactor) : 1;
    this.switchLength = severalSets ? scaling.originalMaxPositionEmbeddings : Number.POSITIVE_INFINITY;
    this.#short = new PositionRows(config, 0, this.#factor);
  }

  /** Whether sequences of both lengths rotate by the same frequencies. */
  sameFrequencies(length: number, other: number): boolean {
    return frequencySet(this.#config, length) === frequencySet(this.#config, other);
  }

  #rowsFor(length: number): PositionRows {
    const set = frequencySet(this.#config, length);
    if (set === 0) return this.#short;
    if (this.#long?.set !== set) {
      this.#long = { set, rows: new PositionRows(this.#config, length, this.#factor) };
    }
    return this.#long.rows;
  }

  /**
   * The rows of `length` tokens of every batch row, the first at `starts[row]`, one batch row after the
   * other.
   * @param ends how long each row is in the end, which decides its frequencies; default: after these tokens
   * @returns `[starts.length * length, half]`
   */
  rows(
    starts: readonly number[],
    length: number,
    ends: readonly number[] = starts.map((start) => start + length),
  ): RopeRows {
    const { half } = this;
    const last = this.#last;
    const size = starts.length * length * half;
    if (last?.rows.cos.length === size && sameShape(last.starts, starts) && sameShape(last.ends, ends)) {
      return last.rows;
    }
    const parts = starts.map((start, row) => this.#rowsFor(ends[row]).slice(start, length));
    if (parts.length === 1) return parts[0];
    const cos = new Float32Array(size);
    const sin = new Float32Array(size);
    parts.forEach((part, row) => {
      cos.set(part.cos, row * length * half);
      sin.set(part.sin, row * length * half);
    });
    this.#last = { starts: [...starts], ends: [...ends], rows: { cos, sin } };
    return this.#last.rows;
  }
}

/** The rows of one set of frequencies. */
class PositionRows {
  readonly #frequencies: Float32Array;
  readonly #factor: number;
  #cos: Float32Array = new Float32Array(0);
  #sin: Float32Array = new Float32Array(0);

  /** @param length which chooses the frequencies */
  constructor(config: RopeConfig, length: number, factor: number) {
    const frequencies = inverseFrequencies(config, length);
    this.#frequencies = config.reversed ? frequencies.map((frequency) => -frequency) : frequencies;
    this.#factor = factor;
  }

  /** The rows of positions `start … start + length - 1`, aliasing the table. */
  slice(start: number, length: number): RopeRows {
    this.#grow(start + length);
    const from = start * this.#frequencies.length;
    const to = from + length * this.#frequencies.length;
    return { cos: this.#cos.subarray(from, to), sin: this.#sin.subarray(from, to) };
  }

  #grow(positions: number): void {
    const half = this.#frequencies.length;
    const have = half === 0 ? positions : this.#cos.length / half;
    if (positions <= have) return;
    const capacity = Math.max(positions, 2 * have, 256);
    const cos = new Float32Array(capacity * half);
    const sin = new Float32Array(capacity * half);
    cos.set(this.#cos);
    sin.set(this.#sin);
    for (let position = have; position < capacity; position++) {
      for (let i = 0; i < half; i++) {
        const angle = f32(position * this.#frequencies[i]);
        cos[position * half + i] = f32(Math.cos(angle)) * this.#factor;
        sin[position * half + i] = f32(Math.sin(angle)) * this.#factor;
      }
    }
    this.#cos = cos;
    this.#sin = sin;
  }
}
