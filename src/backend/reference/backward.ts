/** The ways back of the reference backend, as backend.ts says them, attention apart (attention-backward.ts). */
import { sizeOf } from '../../tensor/shape.ts';
import type {
  AdamwCall,
  GateActivation,
  LinearBackwardPart,
  NormBackwardCall,
  Operand,
  UnaryOp,
} from '../backend.ts';
import { GATE, SLOPE } from './functions.ts';
import { store, valuesOf } from './memory.ts';

export function unaryBackward(op: UnaryOp, dX: Operand, x: Operand, dOut: Operand): void {
  const values = valuesOf(x);
  store(
    dX,
    Float64Array.from(valuesOf(dOut), (g, i) => g * SLOPE[op](values[i])),
  );
}

export function gatedBackward(
  activation: GateActivation,
  dGate: Operand,
  dUp: Operand,
  gate: Operand,
  up: Operand,
  dOut: Operand,
): void {
  const [g, x, y] = [valuesOf(dOut), valuesOf(gate), valuesOf(up)];
  const forGate = Float64Array.from(g, (value, i) => value * y[i] * SLOPE[activation](x[i]));
  const forUp = Float64Array.from(g, (value, i) => value * GATE[activation](x[i]));
  store(dGate, forGate);
  store(dUp, forUp);
}

export function linearBackward(
  dX: Operand | undefined,
  x: Operand,
  rows: number,
  inFeatures: number,
  parts: readonly LinearBackwardPart[],
): void {
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

/** With u = (x - mean) * factor and h = dOut * weight: dX = factor * (h - mean(h) [centred] - u * mean(h * u)). */
export function normBackward(call: NormBackwardCall): void {
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

export function embeddingBackward(dTable: Operand, ids: Operand, dOut: Operand): void {
  const dim = dTable.shape[1];
  const g = valuesOf(dOut);
  const result = new Float64Array(sizeOf(dTable.shape));
  valuesOf(ids).forEach((id, i) => {
    for (let d = 0; d < dim; d++) result[id * dim + d] += g[i * dim + d];
  });
  store(dTable, result);
}

export function crossEntropy(
  loss: Operand,
  sums: Operand,
  logits: Operand,
  labels: Operand,
  rows: number,
  n: number,
): void {
  const [x, label] = [valuesOf(logits), valuesOf(labels)];
  const losses = new Float64Array(rows);
  const kept = new Float64Array(2 * rows);
  for (let row = 0; row < rows; row++) {
    let max = -Infinity;
    for (let i = 0; i < n; i++) max = Math.max(max, x[row * n + i]);
    let sum = 0;
    for (let i = 0; i < n; i++) sum += Math.exp(x[row * n + i] - max);
    kept[row] = max;
    kept[rows + row] = Math.log(sum);
    losses[row] = label[row] < 0 ? 0 : max - x[row * n + label[row]] + kept[rows + row];
  }
  store(loss, losses);
  store(sums, kept);
}

export function crossEntropyBackward(
  dLogits: Operand,
  logits: Operand,
  sums: Operand,
  labels: Operand,
  dLoss: Operand,
  rows: number,
  n: number,
): void {
  const [x, kept, label, g] = [valuesOf(logits), valuesOf(sums), valuesOf(labels), valuesOf(dLoss)];
  const result = new Float64Array(rows * n);
  for (let row = 0; row < rows; row++) {
    if (label[row] < 0) continue;
    for (let i = 0; i < n; i++) {
      const weight = Math.exp(x[row * n + i] - kept[row] - kept[rows + row]);
      result[row * n + i] = g[row] * (weight - Number(i === label[row]));
    }
  }
  store(dLogits, result);
}

export function sumOfSquares(out: Operand, xs: readonly Operand[]): void {
  let total = 0;
  for (const x of xs) for (const value of valuesOf(x)) total += value * value;
  store(out, [total]);
}

export function adamw(call: AdamwCall): void {
  const { b1, b2, eps, learningRate, step } = call;
  const scale = call.gradientScale ? valuesOf(call.gradientScale)[0] : 1;
  for (const { weightDecay, ...part } of call.parts) {
    const [p, g, m, v] = [part.parameter, part.gradient, part.m, part.v].map((x) =>
      Float64Array.from(valuesOf(x)),
    );
    for (let i = 0; i < p.length; i++) {
      const gradient = g[i] * scale;
      m[i] = b1 * m[i] + (1 - b1) * gradient;
      v[i] = b2 * v[i] + (1 - b2) * gradient ** 2;
      const mean = m[i] / (1 - b1 ** step);
      const deviation = Math.sqrt(v[i] / (1 - b2 ** step));
      p[i] -= learningRate * (mean / (deviation + eps) + weightDecay * p[i]);
    }
    store(part.parameter, p);
    store(part.m, m);
    store(part.v, v);
  }
}
