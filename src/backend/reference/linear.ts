/** Linear projections of the reference backend and their gradients. */
import { byteLengthOf } from '../../tensor/dtype.ts';
import type { LinearBackwardCall, LinearCall } from '../calls/linear.ts';
import { decodeAt, store, valuesOf } from './memory.ts';

export function linear({ x, rows, inFeatures, parts }: LinearCall): void {
  const values = valuesOf(x);
  for (const { weight, bias, out } of parts) {
    const outFeatures = weight.shape[0];
    const rowBytes = byteLengthOf(weight.dtype, inFeatures);
    const added = bias && valuesOf(bias);
    const result = new Float64Array(rows * outFeatures);
    for (let o = 0; o < outFeatures; o++) {
      const row = decodeAt(weight.storage, weight.dtype, o * rowBytes, inFeatures);
      for (let r = 0; r < rows; r++) {
        let sum = 0;
        for (let i = 0; i < inFeatures; i++) sum += values[r * inFeatures + i] * row[i];
        result[r * outFeatures + o] = sum + (added ? added[o] : 0);
      }
    }
    store(out, result);
  }
}

export function linearBackward({ dX, x, rows, inFeatures, parts }: LinearBackwardCall): void {
  const values = valuesOf(x);
  const forX = new Float64Array(rows * inFeatures);
  for (const { weight, dOut, dWeight } of parts) {
    const [w, g, outFeatures] = [valuesOf(weight), valuesOf(dOut), weight.shape[0]];
    const forWeight = new Float64Array(outFeatures * inFeatures);
    for (let r = 0; r < rows; r++) {
      for (let o = 0; o < outFeatures; o++) {
        const d = g[r * outFeatures + o];
        for (let i = 0; i < inFeatures; i++) {
          forX[r * inFeatures + i] += d * w[o * inFeatures + i];
          forWeight[o * inFeatures + i] += d * values[r * inFeatures + i];
        }
      }
    }
    if (dWeight) store(dWeight, forWeight);
  }
  if (dX) store(dX, forX);
}
