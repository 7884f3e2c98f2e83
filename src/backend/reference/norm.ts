/** RMS and layer normalisation of the reference backend, and their gradients. */
import type { ArgumentsOf } from '../calls/call.ts';
import type * as calls from '../calls/norm.ts';
import { store, valuesOf } from './memory.ts';

export function rmsNorm({
  out,
  x,
  rows,
  n,
  weight,
  eps,
  weightOffset,
}: ArgumentsOf<typeof calls.rmsNorm>): void {
  const values = valuesOf(x);
  const scale = weight && valuesOf(weight);
  const result = new Float64Array(rows * n);
  for (let row = 0; row < rows; row++) {
    let squares = 0;
    for (let i = 0; i < n; i++) squares += values[row * n + i] ** 2;
    const factor = 1 / Math.sqrt(squares / n + eps);
    for (let i = 0; i < n; i++) {
      result[row * n + i] = values[row * n + i] * factor * (scale ? scale[i] + weightOffset : 1);
    }
  }
  store(out, result);
}

export function layerNorm({ out, x, rows, n, weight, bias, eps }: ArgumentsOf<typeof calls.layerNorm>): void {
  const values = valuesOf(x);
  const scale = weight && valuesOf(weight);
  const shift = bias && valuesOf(bias);
  const result = new Float64Array(rows * n);
  for (let row = 0; row < rows; row++) {
    let mean = 0;
    for (let i = 0; i < n; i++) mean += values[row * n + i] / n;
    let variance = 0;
    for (let i = 0; i < n; i++) variance += (values[row * n + i] - mean) ** 2 / n;
    const factor = 1 / Math.sqrt(variance + eps);
    for (let i = 0; i < n; i++) {
      const unit = (values[row * n + i] - mean) * factor;
      result[row * n + i] = unit * (scale ? scale[i] : 1) + (shift ? shift[i] : 0);
    }
  }
  store(out, result);
}

/**
 * With u = (x - mean) * factor and h = dOut * weight: dX = factor * (h - mean(h) [centred] - u * mean(h *
 * u)).
 */
export function normBackward(call: ArgumentsOf<typeof calls.normBackward>): void {
  const { rows, n, centred, eps, weightOffset } = call;
  const [x, g] = [valuesOf(call.x), valuesOf(call.dOut)];
  const weight = call.weight && valuesOf(call.weight);
  const dX = new Float64Array(rows * n);
  const dWeight = new Float64Array(n);
  const dBias = new Float64Array(n);
  for (let row = 0; row < rows; row++) {
    const at = row * n;
    let mean = 0;
    if (centred) for (let i = 0; i < n; i++) mean += x[at + i] / n;
    let squares = 0;
    for (let i = 0; i < n; i++) squares += (x[at + i] - mean) ** 2 / n;
    const factor = 1 / Math.sqrt(squares + eps);
    let [sum, dot] = [0, 0];
    for (let i = 0; i < n; i++) {
      const unit = (x[at + i] - mean) * factor;
      const h = g[at + i] * (weight ? weight[i] + weightOffset : 1);
      if (centred) sum += h / n;
      dot += (h * unit) / n;
      dWeight[i] += g[at + i] * unit;
      dBias[i] += g[at + i];
    }
    for (let i = 0; i < n; i++) {
      const unit = (x[at + i] - mean) * factor;
      const h = g[at + i] * (weight ? weight[i] + weightOffset : 1);
      dX[at + i] = factor * (h - sum - unit * dot);
    }
  }
  if (call.dX) store(call.dX, dX);
  if (call.dWeight) store(call.dWeight, dWeight);
  if (call.dBias) store(call.dBias, dBias);
}
