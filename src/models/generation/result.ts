/** What `generateBatch` gives for an answer. */
import type { TokenLogprob } from './logprobs.ts';

/** `stop`: a stop token or string; `length`: `maxNewTokens`, or the model's context is full. */
export type FinishReason = 'stop' | 'length';

/** One answer of `generateBatch`. */
export interface GenerateResult {
  /** The answer, without a stop token or text of a stop string. */
  readonly tokens: readonly number[];
  /** For `logprobs`: the log probability of each token. */
  readonly logprobs?: readonly number[];
  /** For `topLogprobs`: at each token the likeliest tokens there, likeliest first. */
  readonly topLogprobs?: readonly (readonly TokenLogprob[])[];
  /** For `numBeams` > 1: the sum of log probabilities divided by `length ** lengthPenalty`. */
  readonly score?: number;
  readonly finishReason: FinishReason;
}
