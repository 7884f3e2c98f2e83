/** Rotary position embedding as a module. */

import { aBoolean, aNumber } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { cast } from '../ops/cast.ts';
import { tensor } from '../ops/creation.ts';
import { reshape } from '../ops/reshape.ts';
import { rope } from '../ops/rope.ts';
import { scope } from '../tensor/scope.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { withFlax } from './arguments.ts';
import { Module } from './module.ts';

/** Options of `RoPE`. */
export interface RoPEOptions {
  /** Default 10000. */
  readonly theta?: number;
  /**
   * Size of the vectors, even; only together with `maxSeqLen`. Other sizes and later positions are then
   * errors.
   */
  readonly embeddingSize?: number;
  /** Positions from 0 that may be rotated; together with `embeddingSize`. */
  readonly maxSeqLen?: number;
  /** Pairs (2i, 2i + 1), as in DeepSeek and GPT-J, instead of Flax's (i, i + size / 2); default false. */
  readonly interleaved?: boolean;
}

const OPTIONS = optionKinds<RoPEOptions>({
  theta: aNumber,
  embeddingSize: aNumber,
  maxSeqLen: aNumber,
  interleaved: aBoolean,
});

/**
 * Rotary position embedding: dims i and i + half of a head are a pair (interleaved: dims 2i and 2i + 1), and
 * pair i at position p is rotated by the angle `p / theta^(2i / size)`. Pass it to `MultiHeadAttention` as
 * `rope`.
 *
 * Source: Su et al. 2021, "RoFormer"; flax/nnx/nn/attention.py (RoPE).
 */
export class RoPE extends Module {
  readonly theta: number;
  readonly embeddingSize: number | undefined;
  readonly maxSeqLen: number | undefined;
  readonly interleaved: boolean;

  /** @throws RangeError when only one of `embeddingSize` and `maxSeqLen` is given, or for an odd size. */
  constructor(options: RoPEOptions = {}) {
    super();
    checkOptions('RoPE', options, OPTIONS);
    const { theta = 10000, embeddingSize, maxSeqLen, interleaved = false } = options;
    if ((embeddingSize === undefined) !== (maxSeqLen === undefined)) {
      throw new RangeError(
        withFlax(
          `RoPE: expected embeddingSize and maxSeqLen together, got ${embeddingSize} and ${maxSeqLen}`,
          'Either both `embedding_size` and `max_seq_len` or none of them must be provided.',
        ),
      );
    }
    if (embeddingSize !== undefined) checkSize(embeddingSize);
    this.theta = theta;
    this.embeddingSize = embeddingSize;
    this.maxSeqLen = maxSeqLen;
    this.interleaved = interleaved;
  }

  /**
   * Rotates vectors by their positions.
   * @param x `[…, T, size]`.
   * @param positions one per token; default 0 … T - 1.
   * @throws RangeError for an odd size, a wrong number of positions, or a position past `maxSeqLen`.
   * @returns x's shape, f32.
   */
  forward(x: Tensor, positions?: ArrayLike<number>): Tensor {
    const [T, size] = x.shape.slice(-2);
    return scope(() => {
      const rows = reshape(x, [sizeOf(x.shape.slice(0, -2)), T, 1, size]);
      return reshape(this.rotateHeads(rows, positions ?? 0), x.shape);
    });
  }

  /**
   * Rotates heads: `x` `[…, T, N, H]`.
   * @param positions one per token, or the position of the first.
   */
  rotateHeads(x: Tensor, positions: ArrayLike<number> | number): Tensor {
    const [T, N, H] = x.shape.slice(-3);
    checkSize(H);
    if (this.embeddingSize !== undefined && H !== this.embeddingSize) {
      throw new RangeError(`RoPE: expected vectors of embeddingSize=${this.embeddingSize}, got ${H}`);
    }
    const at = typeof positions === 'number' ? Array.from({ length: T }, (_, t) => positions + t) : positions;
    if (at.length !== T) {
      throw new RangeError(
        withFlax(
          `RoPE: expected a position for each of ${T} tokens, got ${at.length}`,
          '`input_positions` must have the same seq_len as `x`.',
        ),
      );
    }
    const half = H / 2;
    const [cos, sin] = [new Float32Array(T * half), new Float32Array(T * half)];
    const frequencies = Float32Array.from({ length: half }, (_, i) =>
      Math.fround(1 / Math.fround(this.theta ** Math.fround((2 * i) / H))),
    );
    for (let t = 0; t < T; t++) {
      if (this.maxSeqLen !== undefined && at[t] >= this.maxSeqLen) {
        throw new RangeError(`RoPE: expected positions below maxSeqLen=${this.maxSeqLen}, got ${at[t]}`);
      }
      for (let i = 0; i < half; i++) {
        const angle = Math.fround(at[t] * frequencies[i]);
        cos[t * half + i] = Math.cos(angle);
        sin[t * half + i] = Math.sin(angle);
      }
    }
    return scope(() => {
      const wide = x.dtype === 'f64' ? x : cast(x, 'f32');
      const heads = reshape(wide, [sizeOf(x.shape.slice(0, -3)), T, N, H]);
      const table = (values: Float32Array) => tensor(values, { shape: [T, half] });
      return reshape(rope(heads, table(cos), table(sin), { interleaved: this.interleaved }), x.shape);
    });
  }
}

function checkSize(size: number): void {
  if (!Number.isInteger(size) || size <= 0 || size % 2 !== 0) {
    throw new RangeError(
      withFlax(
        `RoPE: expected a positive even size, got ${size}`,
        `\`embedding_size\` must be positive and even. Got ${size}.`,
      ),
    );
  }
}
