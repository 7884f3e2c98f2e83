/** Softmax cross-entropy of the reference backend and its gradient. */
import type { ArgumentsOf } from '../calls/call.ts';
import type * as calls from '../calls/loss.ts';
import { store, valuesOf } from './memory.ts';

export function crossEntropy({
  loss,
  sums,
  logits,
  labels,
  rows,
  n,
}: ArgumentsOf<typeof calls.crossEntropy>): void {
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

export function crossEntropyBackward(args: ArgumentsOf<typeof calls.crossEntropyBackward>): void {
  const { dLogits, logits, sums, labels, dLoss, rows, n } = args;
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
