/** Causal grouped-query self-attention without biases or rotary embedding. */

import { aFunction, anything, checkPositiveInteger } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { reshape } from '../ops/reshape.ts';
import { aDType, type DType } from '../tensor/dtype.ts';
import { scope } from '../tensor/scope.ts';
import { shapeText } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { dotProductAttention } from './attention.ts';
import type { Initializer } from './initializers.ts';
import { Linear } from './linear.ts';
import { Module } from './module.ts';
import type { Rngs } from './rngs.ts';

/** Options of `GroupedQueryAttention`. */
export interface GroupedQueryAttentionOptions {
  /** Width of inputs and outputs D; a multiple of `numHeads`. */
  readonly dim: number;
  /** Query heads N. */
  readonly numHeads: number;
  /** Key/value heads K, a divisor of N; default N. */
  readonly numKeyValueHeads?: number;
  /** Type of inputs and products; default the type of the parameters. */
  readonly dtype?: DType;
  /** Default f32. */
  readonly paramDtype?: DType;
  /** Default lecunNormal. */
  readonly kernelInit?: Initializer;
  /** Keys of the initial parameters. */
  readonly rngs: Rngs;
}

/**
 * Causal self-attention with grouped key/value heads: four projections without bias, as in a Llama or Mistral
 * block, but without rotary embedding.
 *
 * Source: Ainslie et al. 2023, "GQA: training generalized multi-query transformer models from multi-head
 * checkpoints".
 * @example
 * const block = new GroupedQueryAttention({ dim: 512, numHeads: 8, numKeyValueHeads: 2, rngs: new Rngs(0) });
 * const y = block.forward(x); // x and y [B, T, 512]
 */
export class GroupedQueryAttention extends Module {
  /** kernel `[D, N * H]` */
  readonly qProj: Linear;
  /** kernel `[D, K * H]` */
  readonly kProj: Linear;
  /** kernel `[D, K * H]` */
  readonly vProj: Linear;
  /** kernel `[N * H, D]` */
  readonly oProj: Linear;
  readonly numHeads: number;
  readonly numKeyValueHeads: number;
  readonly headDim: number;

  /** @throws RangeError unless counts are positive integers, D is a multiple of N and N of K. */
  constructor(options: GroupedQueryAttentionOptions) {
    super();
    checkOptions(OP, options, OPTIONS);
    const { dim, numHeads, numKeyValueHeads = numHeads, dtype, paramDtype, kernelInit, rngs } = options;
    checkPositiveInteger(OP, 'dim', dim);
    this.numHeads = checkPositiveInteger(OP, 'numHeads', numHeads);
    this.numKeyValueHeads = checkPositiveInteger(OP, 'numKeyValueHeads', numKeyValueHeads);
    if (dim % numHeads !== 0) {
      throw new RangeError(`${OP}: expected dim to be a multiple of numHeads, got ${dim} and ${numHeads}`);
    }
    if (numHeads % numKeyValueHeads !== 0) {
      throw new RangeError(
        `${OP}: expected numHeads to be a multiple of numKeyValueHeads, got ${numHeads} and ${numKeyValueHeads}`,
      );
    }
    this.headDim = dim / numHeads;
    const make = (outFeatures: number) =>
      new Linear({ inFeatures: dim, outFeatures, useBias: false, dtype, paramDtype, kernelInit, rngs });
    this.qProj = make(dim);
    this.kProj = make(numKeyValueHeads * this.headDim);
    this.vProj = make(numKeyValueHeads * this.headDim);
    this.oProj = make(dim);
  }

  /**
   * @param x `[...batch, T, D]`.
   * @returns `[...batch, T, D]`; token t depends on tokens 0 … t.
   */
  forward(x: Tensor): Tensor {
    if (x.shape.length < 2)
      throw new RangeError(`${OP}: expected an input [...batch, T, D], got ${shapeText(x.shape)}`);
    const lead = x.shape.slice(0, -1);
    return scope(() => {
      // [..., T, heads * H] -> [..., T, heads, H]
      const q = reshape(this.qProj.forward(x), [...lead, this.numHeads, this.headDim]);
      const k = reshape(this.kProj.forward(x), [...lead, this.numKeyValueHeads, this.headDim]);
      const v = reshape(this.vProj.forward(x), [...lead, this.numKeyValueHeads, this.headDim]);
      const mixed = dotProductAttention(q, k, v, { isCausal: true });
      return this.oProj.forward(reshape(mixed, [...lead, this.numHeads * this.headDim]));
    });
  }
}

const OP = 'GroupedQueryAttention';
const OPTIONS = optionKinds<GroupedQueryAttentionOptions>({
  dim: anything,
  numHeads: anything,
  numKeyValueHeads: anything,
  dtype: aDType,
  paramDtype: aDType,
  kernelInit: aFunction,
  rngs: anything,
});
