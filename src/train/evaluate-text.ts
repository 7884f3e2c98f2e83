/** The loss of a model on a whole text: every token predicted once, from at most a context of tokens before it. */
import type { Model } from '../models/model.ts';
import { aFunction, aNumber, checkOptions, checkPositiveInteger, optionKinds } from '../tensor/arguments.ts';
import { causalLmLoss } from './causal-lm-loss.ts';
import { checkInteger } from './checks.ts';

export interface TextLoss {
  /** Mean cross-entropy per predicted token, in nats. */
  readonly loss: number;
  /** Tokens predicted. */
  readonly predicted: number;
}

export interface EvaluateOptions {
  /** T; at most the model's context. */
  readonly context: number;
  /** Windows per pass; default 8. */
  readonly batchSize?: number;
  /** Told after each pass how many windows are done. */
  readonly onProgress?: (done: number, total: number) => void;
}

const OPTIONS = optionKinds<EvaluateOptions>({
  context: aNumber,
  batchSize: checkPositiveInteger,
  onProgress: aFunction,
});

/**
 * Windows of `context` tokens that share one token, the last of one being the first of the next, so that each token but the
 * first is predicted once.
 * @throws RangeError for fewer than two tokens
 */
export function evaluateTokens(
  model: Model,
  tokens: Int32Array | readonly number[],
  options: EvaluateOptions,
): TextLoss {
  checkOptions('evaluateTokens', options, OPTIONS);
  const { context, batchSize = 8, onProgress } = options;
  checkInteger('evaluateTokens', 'context', context, 1);
  checkInteger('evaluateTokens', 'batchSize', batchSize, 1);
  if (tokens.length < 2) {
    throw new RangeError(`expected a text of at least 2 tokens, got ${tokens.length}`);
  }
  const windows: number[][] = [];
  for (let at = 0; at + 1 < tokens.length; at += context) {
    windows.push(Array.from(tokens.slice(at, at + context + 1)));
  }
  let total = 0;
  for (let at = 0; at < windows.length; at += batchSize) {
    const batch = windows.slice(at, at + batchSize);
    const count = batch.reduce((sum, row) => sum + row.length - 1, 0);
    const loss = causalLmLoss(model, batch);
    total += loss.dataSync()[0] * count;
    loss.dispose();
    onProgress?.(Math.min(at + batchSize, windows.length), windows.length);
  }
  return { loss: total / (tokens.length - 1), predicted: tokens.length - 1 };
}
