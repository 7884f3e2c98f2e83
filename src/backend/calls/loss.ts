/** Softmax cross-entropy of f32 rows `[rows, n]` against i32 labels `[rows]` (kernels/loss.c). */

/**
 * `loss = maximum + log sum - logits[label]`, and `sums` `[2, rows]`, each row's maximum and the log of its
 * sum of `exp(logits - maximum)`. A negative label gives a loss of 0.
 */
export const crossEntropy = {
  name: 'crossEntropy',
  fields: { loss: 'f32', sums: 'f32', logits: 'f32', labels: 'operand', rows: 'number', n: 'number' },
} as const;

/**
 * `dLogits = dLoss * (exp(logits - maximum - log sum) - [column = label])`; zeros for a negative label. May
 * be in place.
 */
export const crossEntropyBackward = {
  name: 'crossEntropyBackward',
  fields: {
    dLogits: 'f32',
    logits: 'f32',
    sums: 'f32',
    labels: 'operand',
    dLoss: 'f32',
    rows: 'number',
    n: 'number',
  },
} as const;
