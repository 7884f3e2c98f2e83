/** Log probabilities of tokens under the model's own logits. */
import { maximum } from './filters.ts';

/** A token and the natural logarithm of its probability. */
export interface TokenLogprob {
  readonly token: number;
  readonly logprob: number;
}

/** log(sum(exp(logits))), computed in f64. */
export function logSumExp(logits: Float32Array): number {
  const max = maximum(logits);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - max);
  return max + Math.log(sum);
}

/** The k largest values and their indices, largest first; of equal ones the lower index first. */
export function largest(values: ArrayLike<number>, k: number): { index: number; value: number }[] {
  const kept: { index: number; value: number }[] = [];
  for (let index = 0; index < values.length; index++) {
    const value = values[index];
    if (kept.length === k && !(value > kept[k - 1].value)) continue;
    if (kept.length === k) kept.pop();
    let at = kept.length;
    while (at > 0 && kept[at - 1].value < value) at--;
    kept.splice(at, 0, { index, value });
  }
  return kept;
}

/** Collects the log probabilities of one result's tokens. */
export class LogprobRecord {
  #logprobs: number[] | undefined;
  #top: (readonly TokenLogprob[])[] | undefined;
  readonly #count: number;

  /** @param topLogprobs how many of the likeliest tokens to record per token; 0 = none */
  constructor(logprobs: boolean, topLogprobs: number) {
    this.#logprobs = logprobs ? [] : undefined;
    this.#top = topLogprobs > 0 ? [] : undefined;
    this.#count = topLogprobs;
  }

  /** The same record, to be continued apart. */
  copy(): LogprobRecord {
    const copy = new LogprobRecord(false, this.#count);
    copy.#logprobs = this.#logprobs?.slice();
    copy.#top = this.#top?.slice();
    return copy;
  }

  /** @param logits `[V]` before any processor */
  push(logits: Float32Array, token: number): void {
    if (!this.#logprobs && !this.#top) return;
    const total = logSumExp(logits);
    this.#logprobs?.push(logits[token] - total);
    this.#top?.push(
      largest(logits, this.#count).map(({ index, value }) => ({ token: index, logprob: value - total })),
    );
  }

  /** Those of the first `length` tokens, as fields of a result. */
  fields(length: number): {
    readonly logprobs?: readonly number[];
    readonly topLogprobs?: readonly (readonly TokenLogprob[])[];
  } {
    return {
      ...(this.#logprobs && { logprobs: this.#logprobs.slice(0, length) }),
      ...(this.#top && { topLogprobs: this.#top.slice(0, length) }),
    };
  }
}
