/**
 * The modules behind `mhaGqa` and `mhaMqa`: a Linen module of DenseGeneral layers and an NNX module of Linear
 * ones. A Linen checkpoint's `params` map onto `LinenGqa` by name (`q.kernel` is `params/q/kernel`).
 */

import { checkPositiveInteger } from '../arguments/kinds.ts';
import { dotProductAttention } from '../nn/attention.ts';
import { Linear, LinearGeneral } from '../nn/linear.ts';
import { Module } from '../nn/module.ts';
import type { ParamKeys, Rngs } from '../nn/rngs.ts';
import { reshape } from '../ops/reshape.ts';
import { key } from '../random/key.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { foldInPath } from './linen-rng.ts';

interface LinenGqaOptions {
  readonly seed: number;
  /** Width of inputs and outputs. */
  readonly inFeatures: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  /** N times the head dim. */
  readonly qkvFeatures: number;
}

/**
 * Grouped-query attention without mask, with parameters initialised as by `module.init(PRNGKey(seed), x)`.
 */
export class LinenGqa extends Module {
  readonly q: LinearGeneral;
  readonly k: LinearGeneral;
  readonly v: LinearGeneral;
  readonly out: LinearGeneral;

  /** @throws RangeError unless counts are positive integers, N is a multiple of K and qkvFeatures of N. */
  constructor(options: LinenGqaOptions) {
    super();
    const { seed, inFeatures, numHeads, numKvHeads, qkvFeatures } = options;
    checkHeads('mhaGqa', numHeads, numKvHeads, qkvFeatures, 'qkvFeatures');
    const headDim = qkvFeatures / numHeads;
    const project = (name: string, heads: number) =>
      new LinearGeneral({ inFeatures, outFeatures: [heads, headDim], rngs: linenRngs(seed, name) });
    this.q = project('q', numHeads);
    this.k = project('k', numKvHeads);
    this.v = project('v', numKvHeads);
    this.out = new LinearGeneral({
      inFeatures: [numHeads, headDim],
      outFeatures: inFeatures,
      axis: [-2, -1],
      rngs: linenRngs(seed, 'out'),
    });
  }

  /** @param x `[…, T, inFeatures]`. @returns the same shape. */
  forward(x: Tensor): Tensor {
    return scope(() => {
      const mixed = dotProductAttention(this.q.forward(x), this.k.forward(x), this.v.forward(x), {});
      return this.out.forward(mixed);
    });
  }
}

interface NnxMqaOptions {
  readonly dModel: number;
  readonly numHeads: number;
  readonly rngs: Rngs;
}

/**
 * Multi-query attention without mask: one key and one value head of `dModel / numHeads` for all query heads.
 */
export class NnxMqa extends Module {
  readonly qProj: Linear;
  readonly kProj: Linear;
  readonly vProj: Linear;
  readonly outProj: Linear;
  readonly numHeads: number;
  readonly headDim: number;

  /** @throws RangeError unless counts are positive integers and dModel is a multiple of N. */
  constructor(options: NnxMqaOptions) {
    super();
    const { dModel, numHeads, rngs } = options;
    checkHeads('mhaMqa', numHeads, 1, dModel, 'dModel');
    this.numHeads = numHeads;
    this.headDim = dModel / numHeads;
    const make = (outFeatures: number) => new Linear({ inFeatures: dModel, outFeatures, rngs });
    this.qProj = make(dModel);
    this.kProj = make(this.headDim);
    this.vProj = make(this.headDim);
    this.outProj = make(dModel);
  }

  /** @param x `[…, T, dModel]`. @returns the same shape. */
  forward(x: Tensor): Tensor {
    const lead = x.shape.slice(0, -1);
    const heads = (y: Tensor, count: number) => reshape(y, [...lead, count, this.headDim]);
    return scope(() => {
      const q = heads(this.qProj.forward(x), this.numHeads);
      const k = heads(this.kProj.forward(x), 1);
      const v = heads(this.vProj.forward(x), 1);
      return this.outProj.forward(reshape(dotProductAttention(q, k, v, {}), x.shape));
    });
  }
}

/** The keys of a Linen layer: the first for the kernel, the second for the bias. */
function linenRngs(seed: number, layer: string): ParamKeys {
  let draw = 0;
  return { params: () => foldInPath(key(seed), [layer, ++draw]) };
}

function checkHeads(op: string, N: number, K: number, features: number, what: string): void {
  for (const [name, value] of Object.entries({ numHeads: N, numKvHeads: K, [what]: features })) {
    checkPositiveInteger(op, name, value);
  }
  if (N % K !== 0)
    throw new RangeError(
      `${op}: expected numHeads to be a multiple of numKvHeads, got numHeads=${N} and numKvHeads=${K}`,
    );
  if (features % N !== 0)
    throw new RangeError(
      `${op}: expected ${what} to be a multiple of numHeads, got ${what}=${features} and numHeads=${N}`,
    );
}
