/**
 * The loss of knowledge distillation: a student model is trained on a teacher's predictions and on the text.
 *
 * Of the teacher's distribution over the vocabulary only the k likeliest tokens are kept; all others are one
 * class, so both models are compared as distributions over k + 1 classes, whose KL divergence is a lower
 * bound of that over all tokens.
 *
 * Source: Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), at temperature 1.
 */
import { withoutRecording } from '../autograd/tape.ts';
import { backendOf } from '../backend/registry.ts';
import { add, mul, sub } from '../ops/binary.ts';
import { concat } from '../ops/concat.ts';
import type { DropoutMask } from '../ops/dropout.ts';
import { embedding } from '../ops/embedding.ts';
import { upload } from '../ops/operands.ts';
import { max, sum } from '../ops/reduce.ts';
import { reshape } from '../ops/reshape.ts';
import { logSoftmax } from '../ops/softmax.ts';
import { exp, log } from '../ops/unary.ts';
import { scope } from '../tensor/scope.ts';
import { shapeText } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { inputsOf, type LanguageModel, nextTokenLoss } from './causal-lm-loss.ts';
import type { TopK } from './top-k-tokens.ts';

/** Added to the logit of a token that is left out of a sum: its exponential becomes 0. */
const LEFT_OUT = -1e30;

/**
 * KL(teacher || student) of each distribution, in nats, over the teacher's top k tokens and the rest as one
 * class.
 * @param logits the student's, `[…, V]`, `teacher.count` rows
 * @throws RangeError when sizes disagree, or for 2^31 logits and more
 * @returns `[count]`
 */
export function topKDivergence(logits: Tensor, teacher: TopK): Tensor {
  const { count, k, ids, logProbs } = teacher;
  const V = logits.shape[logits.shape.length - 1];
  if (logits.size !== count * V || k >= V) {
    throw new RangeError(
      `topKDivergence: expected logits of ${count} rows and more than k=${k} tokens, got ${shapeText(logits.shape)}`,
    );
  }
  if (logits.size >= 2 ** 31) {
    throw new RangeError(
      `topKDivergence: expected fewer than 2^31 logits, got ${shapeText(logits.shape)}; smaller batches need fewer`,
    );
  }
  const backend = backendOf(logits);
  const mask = new Float32Array(count * V);
  const places = Int32Array.from(ids, (id, i) => Math.floor(i / k) * V + id);
  for (const place of places) mask[place] = LEFT_OUT;
  return scope(() => {
    const masked = add(reshape(logits, [count, V]), upload(backend, 'f32', mask, [count, V]));
    const rest = logSumExp(masked);
    const at = upload(backend, 'i32', places, [count, k]);
    const kept = reshape(embedding(reshape(logits, [count * V, 1]), at), [count, k]);
    const student = logSoftmax(concat([kept, rest], 1));
    const target = upload(backend, 'f32', logProbs, [count, k + 1]);
    return sum(mul(exp(target), sub(target, student)), { axis: 1 });
  });
}

/** `log(sum(exp(x)))` of each row `[n, V]`, as `[n, 1]`. */
function logSumExp(x: Tensor): Tensor {
  const largest = withoutRecording(() => max(x, { axis: 1, keepDims: true }));
  return add(largest, log(sum(exp(sub(x, largest)), { axis: 1, keepDims: true })));
}

/**
 * `kdRatio * KL(teacher || student) + (1 - kdRatio) * cross-entropy`, both the mean over the predicted tokens,
 * in nats.
 * @param rows of one length, at least two tokens
 * @param teacher its predictions for the tokens of each row but the last
 * @param kdRatio 0 to 1
 * @returns a scalar
 */
export function distillationLoss(
  model: LanguageModel,
  rows: readonly (readonly number[])[],
  teacher: TopK,
  kdRatio: number,
  dropout?: DropoutMask,
): Tensor {
  return scope(() => {
    const logits = model.forward(inputsOf(rows), dropout);
    const divergence = mul(sum(topKDivergence(logits, teacher)), kdRatio / teacher.count);
    return add(divergence, mul(nextTokenLoss(logits, rows), 1 - kdRatio));
  });
}
