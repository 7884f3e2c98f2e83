/** Mixture of experts: routing, and the projection of each row by its own experts (kernels/experts.c). */
import {
  at,
  checkF32,
  codeOf,
  type MatmulPrecision,
  type Operand,
  type PackedCall,
  precisionCode,
} from './call.ts';

/**
 * Top-k routing: the `count` experts of largest score + bias for each row of `scores`. Experts form `groups`
 * equal groups; only the `keptGroups` groups with the largest sum of their `best` largest scores take part.
 * Ties go to the lower index.
 */
export const chooseExperts = {
  name: 'chooseExperts',
  fields: {
    /** `[rows, E]` */
    scores: 'f32',
    rows: 'number',
    numExperts: 'number',
    /** `[E]`; used for the choice only. */
    bias: 'f32?',
    groups: 'number',
    keptGroups: 'number',
    best: 'number',
    count: 'number',
    /** `[rows, count]`: the chosen scores, without bias, best first. */
    values: 'f32',
    /** i32 `[rows, count]` */
    ids: 'operand',
  },
} as const;

/** One projection of all experts. */
export interface ExpertPart {
  /**
   * E times `[Out, In]` (`[In, Out]` when the call is transposed), f32, f16, bf16 or a block type, all of one
   * type.
   */
  readonly weights: readonly Operand[];
  /** E times `[Out]`, f32. */
  readonly biases?: readonly Operand[];
  readonly outFeatures: number;
  /** `[pairs, Out]`, f32. */
  readonly out: Operand;
}

/**
 * `out[p] = x[floor(p / each)] @ weight[ids[p]]^T + bias[ids[p]]`; weights of experts that `ids` does not
 * name are not read.
 */
export interface ExpertLinearCall {
  /** f32 `[pairs / each, In]` */
  readonly x: Operand;
  /** i32 `[pairs]` in 0 … E - 1. */
  readonly ids: Operand;
  readonly pairs: number;
  /** Number of consecutive (row, expert) pairs that share a row of x. */
  readonly each: number;
  readonly inFeatures: number;
  readonly numExperts: number;
  /** Whether weights are `[In, Out]`. */
  readonly transposed: boolean;
  readonly precision: MatmulPrecision;
  readonly parts: readonly ExpertPart[];
}

export const expertLinear: PackedCall<ExpertLinearCall, 'expertLinear'> = {
  name: 'expertLinear',
  pack(host, { x, pairs, each, inFeatures, ids, numExperts, transposed, precision, parts }) {
    checkF32(host, 'expertLinear', x);
    const args = [at(x), pairs, each, inFeatures, at(ids), numExperts, Number(transposed)];
    args.push(precisionCode(precision), parts.length);
    for (const { weights, biases, outFeatures, out } of parts) {
      checkF32(host, 'expertLinear', out, ...(biases ?? []));
      args.push(codeOf(host, 'expertLinear', weights[0].dtype), outFeatures, at(out));
      for (let e = 0; e < numExperts; e++) args.push(at(weights[e]), at(biases?.[e]));
    }
    host.block(args.length).set(args);
  },
};

/**
 * The gradients of one part of `expertLinear` with respect to its weights; zeros for an expert that no pair
 * uses.
 */
export interface ExpertLinearBackwardCall extends Omit<ExpertLinearCall, 'parts' | 'precision'> {
  readonly outFeatures: number;
  /** f32 `[pairs, Out]` */
  readonly dOut: Operand;
  /** E times, f32, shaped as the weight; undefined where not needed. */
  readonly dWeights: readonly (Operand | undefined)[];
  /** E times f32 `[Out]`. */
  readonly dBiases: readonly (Operand | undefined)[];
}

export const expertLinearBackward: PackedCall<ExpertLinearBackwardCall, 'expertLinearBackward'> = {
  name: 'expertLinearBackward',
  pack(host, call) {
    const { x, dOut, pairs, each, inFeatures, outFeatures, ids, numExperts, transposed } = call;
    checkF32(host, 'expertLinearBackward', x, dOut, ...call.dWeights, ...call.dBiases);
    const args = [at(x), at(dOut), pairs, each, inFeatures, outFeatures, at(ids), numExperts];
    args.push(Number(transposed));
    for (let e = 0; e < numExperts; e++) args.push(at(call.dWeights[e]), at(call.dBiases[e]));
    host.block(args.length).set(args);
  },
};
