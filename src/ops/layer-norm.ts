/** Layer normalisation (Ba, Kiros and Hinton 2016). */

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

/** Options of `layerNorm`. */
export interface LayerNormOptions {
  /** Added to the variance; default 1e-6 (Flax's; PyTorch's is 1e-5). */
  readonly eps?: number;
}

const OPTIONS = optionKinds<LayerNormOptions>({ eps: aNumber });

/**
 * `(x - mean) / sqrt(var + eps) * weight + bias` over the last axis, `var` the biased variance.
 * @param x `[…, D]` f32 (f64 on the reference backend).
 * @param weight `[D]` f32, f16 or bf16; absent means no scaling.
 * @param bias `[D]`, likewise.
 * @throws RangeError when D differs.
 * @returns x's shape and dtype.
 */
export function layerNorm(x: Tensor, weight?: Tensor, bias?: Tensor, options: LayerNormOptions = {}): Tensor {
  checkOptions('layerNorm', options, OPTIONS);
  const { eps = 1e-6 } = options;
  const backend = commonBackend('layerNorm', x, weight, bias);
  checkRank('layerNorm', 'x', x, 1, Number.POSITIVE_INFINITY);
  const n = x.shape[x.shape.length - 1];
  if (weight) checkExactShape('layerNorm', 'weight', weight, [n]);
  if (bias) checkExactShape('layerNorm', 'bias', bias, [n]);
  const dtype = floatDType('layerNorm', x);
  const scale = asWide('layerNorm', weight);
  const shift = asWide('layerNorm', bias);
  const out = allocate(backend, dtype, x);
  const rows = n === 0 ? 0 : x.size / n;
  backend.run(calls.layerNorm, { out, x, rows, n, weight: scale, bias: shift, eps });
  if (isRecorded(x, weight, bias)) {
    record({
      inputs: [x, weight, bias],
      outputs: [out],
      saved: [x, scale],
      vjp: ([g], [before, factor], needed) => {
        const dX = needed[0] ? allocate(backend, dtype, before) : undefined;
        const dWeight = needed[1] ? allocate(backend, dtype, [n]) : undefined;
        const dBias = needed[2] ? allocate(backend, dtype, [n]) : undefined;
        if (!hasNoOutput(dX, dWeight, dBias))
          backend.run(calls.normBackward, {
            centred: true,
            dOut: g as Tensor,
            x: before,
            rows,
            n,
            weight: factor,
            eps,
            weightOffset: 0,
            dX,
            dWeight,
            dBias,
          });
        return [dX, dWeight, dBias];
      },
    });
  }
  freeCopy(scale, weight);
  freeCopy(shift, bias);
  return out;
}
