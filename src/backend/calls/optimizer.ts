/** An optimizer step over all parameters in one call (kernels/optimizer.c). */
import { sizeOf } from '../../tensor/shape.ts';
import { at, checkF32, type Operand, type PackedCall } from './call.ts';

/** `out[0]` = the sum of all elements' squares. */
export interface SumOfSquaresCall {
  readonly out: Operand;
  readonly xs: readonly Operand[];
}

export const sumOfSquares: PackedCall<SumOfSquaresCall, 'sumOfSquares'> = {
  name: 'sumOfSquares',
  pack(host, { out, xs }) {
    checkF32(host, 'sumOfSquares', out, ...xs);
    let i = 2;
    const block = host.block(i + 2 * xs.length);
    block[0] = at(out);
    block[1] = xs.length;
    for (const x of xs) {
      block[i++] = at(x);
      block[i++] = sizeOf(x.shape);
    }
  },
};

/** A parameter of an AdamW step, its gradient and its moments: four arrays of one shape. */
export interface AdamwPart {
  readonly parameter: Operand;
  readonly gradient: Operand;
  readonly m: Operand;
  readonly v: Operand;
  readonly weightDecay: number;
}

/**
 * One AdamW step of some parameters, in place: m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, and p = p -
 * rate * (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay * p), g the gradient times `gradientScale`.
 */
export interface AdamwCall {
  readonly parts: readonly AdamwPart[];
  /** f32 scalar. */
  readonly gradientScale?: Operand;
  readonly learningRate: number;
  readonly b1: number;
  readonly b2: number;
  readonly eps: number;
  /** t, from 1. */
  readonly step: number;
}

export const adamw: PackedCall<AdamwCall, 'adamw'> = {
  name: 'adamw',
  pack(host, { gradientScale, learningRate, b1, b2, eps, step, parts }) {
    checkF32(host, 'adamw', gradientScale);
    const head = [at(gradientScale), learningRate, b1, b2, eps, 1 - b1 ** step, 1 - b2 ** step, parts.length];
    let i = head.length;
    const block = host.block(i + 6 * parts.length);
    block.set(head);
    for (const { parameter, gradient, m, v, weightDecay } of parts) {
      checkF32(host, 'adamw', parameter, gradient, m, v);
      block[i++] = at(parameter);
      block[i++] = sizeOf(parameter.shape);
      block[i++] = at(gradient);
      block[i++] = at(m);
      block[i++] = at(v);
      block[i++] = weightDecay;
    }
  },
};
