/** Root-mean-square normalisation (Zhang and Sennrich 2019). */

import { aNumber } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { isRecorded, record } from '../autograd/tape.ts';
import * as calls from '../backend/calls/norm.ts';
import type { Tensor } from '../tensor/tensor.ts';
import {
  allocate,
  asWide,
  checkExactShape,
  checkRank,
  commonBackend,
  floatDType,
  freeCopy,
  hasNoOutput,
} from './operands.ts';

/** Options of `rmsNorm`. */
export interface RmsNormOptions {
  /** Added to the mean square; default 1e-6. */
  readonly eps?: number;
  /** Added to the weight, 1 for Gemma; default 0. */
  readonly weightOffset?: number;
}

const OPTIONS = optionKinds<RmsNormOptions>({ eps: aNumber, weightOffset: aNumber });

/**
 * `x / sqrt(mean(x^2) + eps) * (weight + weightOffset)` over the last axis.
 * @param x `[…, D]` f32 (f64 on the reference backend).
 * @param weight `[D]` f32, f16 or bf16; absent means no scaling.
 * @throws RangeError when D differs.
 * @returns x's shape and dtype.
 */
export function rmsNorm(x: Tensor, weight?: Tensor, options: RmsNormOptions = {}): Tensor {
  checkOptions('rmsNorm', options, OPTIONS);
  const { eps = 1e-6, weightOffset = 0 } = options;
  const backend = commonBackend('rmsNorm', x, weight);
  checkRank('rmsNorm', 'x', x, 1, Number.POSITIVE_INFINITY);
  const n = x.shape[x.shape.length - 1];
  if (weight) checkExactShape('rmsNorm', 'weight', weight, [n]);
  const dtype = floatDType('rmsNorm', x);
  const scale = asWide('rmsNorm', weight);
  const out = allocate(backend, dtype, x);
  const rows = n === 0 ? 0 : x.size / n;
  backend.run(calls.rmsNorm, { out, x, rows, n, weight: scale, eps, weightOffset });
  if (isRecorded(x, weight)) {
    record({
      inputs: [x, weight],
      outputs: [out],
      saved: [x, scale],
      vjp: ([g], [before, factor], needed) => {
        const dX = needed[0] ? allocate(backend, dtype, before) : undefined;
        const dWeight = needed[1] ? allocate(backend, dtype, [n]) : undefined;
        if (!hasNoOutput(dX, dWeight))
          backend.run(calls.normBackward, {
            centred: false,
            dOut: g as Tensor,
            x: before,
            rows,
            n,
            weight: factor,
            eps,
            weightOffset,
            dX,
            dWeight,
          });
        return [dX, dWeight];
      },
    });
  }
  freeCopy(scale, weight);
  return out;
}
