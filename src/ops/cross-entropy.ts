/** Softmax cross-entropy against integer labels: the loss of classification and of language models. */

import { record } from '../autograd/tape.ts';
import * as calls from '../backend/calls/loss.ts';
import { shapeText } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { allocate, checkExactShape, checkRank, commonBackend, floatDType } from './operands.ts';

/**
 * `-log softmax(logits)[label]` of each position: computed as `(max - logit) + log(sum(exp(logits - max)))`,
 * which is exact for large logits.
 * @param logits `[…, V]` f32 (f64 on the reference backend).
 * @param labels `[…]` i32: 0 … V - 1, or negative to ignore a position (loss and gradient 0).
 * @throws RangeError when shapes differ or a label is >= V; TypeError for labels of another dtype.
 * @returns `[…]`, of logits' dtype; take `mean` or `sum` of it.
 *
 * Source: optax.softmax_cross_entropy_with_integer_labels; torch.nn.functional.cross_entropy (reduction
 * 'none').
 */
export function softmaxCrossEntropy(logits: Tensor, labels: Tensor): Tensor {
  const op = 'softmaxCrossEntropy';
  const backend = commonBackend(op, logits, labels);
  const dtype = floatDType(op, logits);
  checkRank(op, 'logits', logits, 1, Number.POSITIVE_INFINITY);
  if (labels.dtype !== 'i32') throw new TypeError(`${op}: expected i32 labels, got ${labels.dtype}`);
  const shape = logits.shape.slice(0, -1);
  const n = logits.shape[logits.shape.length - 1];
  checkExactShape(op, 'labels', labels, shape);
  if (n === 0)
    throw new RangeError(`${op}: expected logits of at least one class, got ${shapeText(logits.shape)}`);
  // A label out of range would read outside the row. On a CPU the check is cheap; a device backend would
  // clamp in its kernel.
  for (const label of labels.dataSync()) {
    if (label >= n) throw new RangeError(`${op}: expected labels below V=${n}, got ${label}`);
  }
  const rows = logits.size / n;
  const loss = allocate(backend, dtype, shape);
  const sums = allocate(backend, dtype, [2, ...shape]);
  backend.run(calls.crossEntropy, { loss, sums, logits, labels, rows, n });
  record({
    inputs: [logits],
    outputs: [loss],
    saved: [logits, sums, labels],
    vjp: ([g], [x, kept, targets]) => {
      const dLogits = allocate(backend, dtype, x);
      const operands = { dLogits, logits: x, sums: kept, labels: targets, dLoss: g as Tensor };
      backend.run(calls.crossEntropyBackward, { rows, n, ...operands });
      return [dLogits];
    },
  });
  sums.dispose();
  return loss;
}
