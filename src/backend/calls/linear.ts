/**
 * Linear projections by f32, half or block-quantized weights (kernels/linear.c, kernels/linear_backward.c).
 */
import {
  at,
  checkF32,
  codeOf,
  type MatmulPrecision,
  type Operand,
  type PackedCall,
  precisionCode,
} from './call.ts';

/** One weight of `linear`: `out = x @ weight^T + bias`. */
export interface LinearPart {
  /** `[Out, In]`, f32, f16, bf16 or a block type. */
  readonly weight: Operand;
  /** `[Out]`, f32. */
  readonly bias?: Operand;
  /** `[rows, Out]`, f32. */
  readonly out: Operand;
}

/** x `[rows, In]` f32 times one or more weights, in one pass over x. */
export interface LinearCall {
  readonly x: Operand;
  readonly rows: number;
  readonly inFeatures: number;
  readonly precision: MatmulPrecision;
  readonly parts: readonly LinearPart[];
}

export const linear: PackedCall<LinearCall, 'linear'> = {
  name: 'linear',
  pack(host, { x, rows, inFeatures, precision, parts }) {
    checkF32(host, 'linear', x);
    let i = 5;
    const block = host.block(i + 5 * parts.length);
    block[0] = at(x);
    block[1] = rows;
    block[2] = inFeatures;
    block[3] = precisionCode(precision);
    block[4] = parts.length;
    for (const { weight, bias, out } of parts) {
      checkF32(host, 'linear', out, bias);
      block[i++] = at(weight);
      block[i++] = codeOf(host, 'linear', weight.dtype);
      block[i++] = weight.shape[0];
      block[i++] = at(bias);
      block[i++] = at(out);
    }
  },
};

/** One weight of `linearBackward`. */
export interface LinearBackwardPart {
  /** `[Out, In]`, f32. */
  readonly weight: Operand;
  /** `[rows, Out]` */
  readonly dOut: Operand;
  /** `[Out, In]`; not computed when absent. */
  readonly dWeight?: Operand;
}

/** `dX = sum of dOut_i @ weight_i`, `dWeight_i = dOut_i^T @ x`; x and dX are `[rows, In]`. */
export interface LinearBackwardCall {
  /** Not computed when absent. */
  readonly dX?: Operand;
  readonly x: Operand;
  readonly rows: number;
  readonly inFeatures: number;
  readonly precision: MatmulPrecision;
  readonly parts: readonly LinearBackwardPart[];
}

export const linearBackward: PackedCall<LinearBackwardCall, 'linearBackward'> = {
  name: 'linearBackward',
  pack(host, { dX, x, rows, inFeatures, precision, parts }) {
    checkF32(host, 'linearBackward', dX, x);
    let i = 6;
    const block = host.block(i + 4 * parts.length);
    block.set([at(dX), at(x), rows, inFeatures, precisionCode(precision), parts.length]);
    for (const { weight, dOut, dWeight } of parts) {
      checkF32(host, 'linearBackward', weight, dOut, dWeight);
      block[i++] = at(weight);
      block[i++] = weight.shape[0];
      block[i++] = at(dOut);
      block[i++] = at(dWeight);
    }
  },
};
