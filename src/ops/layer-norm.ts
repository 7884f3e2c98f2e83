/** Layer normalisation (Ba, Kiros and Hinton 2016). */
import type { Tensor } from '../tensor/tensor.ts';
import { allocate, checkExactShape, checkRank, commonBackend, floatDType, widened } from './operands.ts';

/**
 * `(x - mean) / sqrt(var + eps) * weight + bias` over the last axis, `var` the biased variance.
 * @param x `[…, D]` f32 (f64 on the reference backend).
 * @param weight `[D]` f32, f16 or bf16; absent means no scaling.
 * @param bias `[D]`, likewise.
 * @param options.eps default 1e-6 (Flax's; PyTorch's is 1e-5).
 * @throws RangeError when D differs.
 * @returns x's shape and dtype.
 */
export function layerNorm(
  x: Tensor,
  weight?: Tensor,
  bias?: Tensor,
  options: { readonly eps?: number } = {},
): Tensor {
  const { eps = 1e-6 } = options;
  const backend = commonBackend('layerNorm', x, weight, bias);
  checkRank('layerNorm', 'x', x, 1, Number.POSITIVE_INFINITY);
  const n = x.shape[x.shape.length - 1];
  if (weight) checkExactShape('layerNorm', 'weight', weight, [n]);
  if (bias) checkExactShape('layerNorm', 'bias', bias, [n]);
  const dtype = floatDType('layerNorm', x);
  const scale = widened('layerNorm', weight);
  const shift = widened('layerNorm', bias);
  const out = allocate(backend, dtype, x.shape);
  backend.layerNorm(out, x, n === 0 ? 0 : x.size / n, n, scale.tensor, shift.tensor, eps);
  scale.free();
  shift.free();
  return out;
}
