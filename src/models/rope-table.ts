/**
 * Cosines and sines of rotary positions, rounded where Hugging Face rounds: the inverse frequencies are f32, their product
 * with the position is f32, and cos and sin of that are f32. At position 8000 doing it in f64 would differ by 5e-4.
 *
 * Source: transformers/modeling_rope_utils.py (_compute_linear_scaling_rope_parameters, _compute_llama3_parameters).
 */

/** How RoPE was stretched for longer contexts. */
export type RopeScaling =
  | { readonly type: 'linear'; readonly factor: number }
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalMaxPositionEmbeddings: number;
    };

export interface RopeConfig {
  readonly theta: number;
  /** Leading dims of a head that rotate; even. */
  readonly rotaryDim: number;
  /** Pairs (2i, 2i + 1) when true, (i, i + rotaryDim / 2) when false. */
  readonly interleaved: boolean;
  readonly scaling?: RopeScaling;
}

const f32 = Math.fround;

/**
 * The rotation per position of each pair: `theta^(-2i / rotaryDim)`, scaled.
 * @param factors what a GGUF's `rope_freqs.weight` holds, `[rotaryDim / 2]`: each frequency is divided by its own
 * @returns f32 `[rotaryDim / 2]`
 */
export function inverseFrequencies(config: RopeConfig, factors?: ArrayLike<number>): Float32Array {
  const { theta, rotaryDim, scaling } = config;
  return Float32Array.from({ length: rotaryDim / 2 }, (_, i) => {
    const frequency = f32(1 / f32(theta ** f32((2 * i) / rotaryDim)));
    const scaled = scaling === undefined ? frequency : scaleFrequency(frequency, scaling);
    return factors === undefined ? scaled : scaled / factors[i];
  });
}

function scaleFrequency(frequency: number, scaling: RopeScaling): number {
  if (scaling.type === 'linear') return frequency / scaling.factor;
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings: original } = scaling;
  const wavelength = f32((2 * Math.PI) / frequency);
  if (wavelength < original / highFreqFactor) return frequency;
  if (wavelength > original / lowFreqFactor) return frequency / factor;
  const smooth = f32(f32(f32(original / wavelength) - lowFreqFactor) / (highFreqFactor - lowFreqFactor));
  return f32(f32(f32(1 - smooth) * frequency) / factor) + f32(smooth * frequency);
}

/** Rows `[tokens, rotaryDim / 2]` for one forward pass. They may alias the table: read them, do not write. */
export interface RopeRows {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
}

/** The rows of positions 0, 1, 2 … made once, grown by doubling. */
export class RopeTable {
  readonly half: number;
  readonly #frequencies: Float32Array;
  #cos: Float32Array = new Float32Array(0);
  #sin: Float32Array = new Float32Array(0);

  /** @throws RangeError when the dims that rotate are not pairs. */
  constructor(config: RopeConfig, factors?: ArrayLike<number>) {
    if (config.rotaryDim % 2 !== 0) {
      throw new RangeError(`rope: expected an even number of rotating dims, got ${config.rotaryDim}`);
    }
    this.half = config.rotaryDim / 2;
    this.#frequencies = inverseFrequencies(config, factors);
  }

  /**
   * The rows of `length` tokens of every batch row, the first at `starts[row]`, one batch row after the other.
   * @returns `[starts.length * length, half]`
   */
  rows(starts: readonly number[], length: number): RopeRows {
    const { half } = this;
    let end = 0;
    for (const start of starts) end = Math.max(end, start + length);
    this.#grow(end);
    if (starts.length === 1) {
      const from = starts[0] * half;
      const to = from + length * half;
      return { cos: this.#cos.subarray(from, to), sin: this.#sin.subarray(from, to) };
    }
    const cos = new Float32Array(starts.length * length * half);
    const sin = new Float32Array(cos.length);
    for (let row = 0; row < starts.length; row++) {
      const from = starts[row] * half;
      cos.set(this.#cos.subarray(from, from + length * half), row * length * half);
      sin.set(this.#sin.subarray(from, from + length * half), row * length * half);
    }
    return { cos, sin };
  }

  #grow(positions: number): void {
    const { half } = this;
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
        cos[position * half + i] = Math.cos(angle);
        sin[position * half + i] = Math.sin(angle);
      }
    }
    this.#cos = cos;
    this.#sin = sin;
  }
}
