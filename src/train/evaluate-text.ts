/**
 * The loss of a model on a whole text: every token predicted once, from at most a context of tokens before
 * it.
 */

import { aFunction, aNumber, anything, checkInteger, checkPositiveInteger } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { Model } from '../models/model.ts';
import { documentWindows } from '../text/documents.ts';
import { causalLmLoss } from './causal-lm-loss.ts';

/** The loss of a model on a text. */
export interface TextLoss {
  /** Mean cross-entropy per predicted token, in nats. */
  readonly loss: number;
  /** Tokens predicted. */
  readonly predicted: number;
}

/** Options of `evaluateTokens`. */
export interface EvaluateOptions {
  /** T; at most the model's context. */
  readonly context: number;
  /**
   * Tokens that every window begins with, such as bos, as in training. Default none.
   */
  readonly start?: readonly number[];
  /** Windows per pass; default 8. */
  readonly batchSize?: number;
  /** Called after each pass with the number of windows done. */
  readonly onProgress?: (done: number, total: number) => void;
}

const OPTIONS = optionKinds<EvaluateOptions>({
  context: aNumber,
  start: anything,
  batchSize: checkPositiveInteger,
  onProgress: aFunction,
});

/**
 * Each token is predicted once, from at most `context` tokens before it, `start` among them. Without a start
 * the first token is not predicted.
 * @throws RangeError when no token can be predicted, or a context or batch size that is no positive integer
 */
export function evaluateTokens(
  model: Model,
  tokens: Int32Array | readonly number[],
  options: EvaluateOptions,
): TextLoss {
  const passes = evaluationPasses(model, tokens, options);
  for (;;) {
    const pass = passes.next();
    if (pass.done) return pass.value;
  }
}

/** `evaluateTokens`, one pass at a time. */
export function* evaluationPasses(
  model: Model,
  tokens: Int32Array | readonly number[],
  options: EvaluateOptions,
): Generator<void, TextLoss> {
  checkOptions('evaluateTokens', options, OPTIONS);
  const { context, start = [], batchSize = 8, onProgress } = options;
  checkInteger('evaluateTokens', 'context', context, 1);
  const windows = documentWindows(tokens, start, context + 1);
  if (windows.length === 0) {
    throw new RangeError(`expected a text of at least 2 tokens, got ${tokens.length}`);
  }
  let total = 0;
  let predicted = 0;
  for (let at = 0; at < windows.length; at += batchSize) {
    const batch = windows.slice(at, at + batchSize);
    const count = batch.reduce((sum, row) => sum + row.length - 1, 0);
    const loss = causalLmLoss(model, batch);
    total += loss.dataSync()[0] * count;
    predicted += count;
    loss.dispose();
    onProgress?.(Math.min(at + batchSize, windows.length), windows.length);
    yield;
  }
  return { loss: total / predicted, predicted };
}
