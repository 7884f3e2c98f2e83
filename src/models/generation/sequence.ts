/** One answer while it is made: the tokens so far, how the next one is chosen, and when it ends. */
import type { KeyValueCache } from '../../cache/cache.ts';
import { chooseToken, type Proposal } from './choose-token.ts';
import type { Feed } from './forward-rows.ts';
import type { LogitsProcessor } from './logits-processors.ts';
import { LogprobRecord } from './logprobs.ts';
import { randomSource } from './random-source.ts';
import { type GenerationRequest, processorsFor } from './request.ts';
import type { FinishReason, GenerateResult } from './result.ts';
import type { RandomSource } from './sampling.ts';
import { StopCondition } from './stop-condition.ts';

/** Parts of a `Sequence`. */
export interface SequenceParts {
  readonly prompt: readonly number[];
  /** Of one row, with the prompt still to be fed. */
  readonly cache: KeyValueCache;
  /** Tokens that the cache and the context have room for, those before the prompt included. */
  readonly capacity: number;
  readonly seed: number;
  /** The draft model's cache of one row; undefined when it proposes nothing. */
  readonly draftCache?: KeyValueCache;
  readonly logprobs?: LogprobRecord;
}

export class Sequence implements Feed {
  readonly cache: KeyValueCache;
  readonly draftCache: KeyValueCache | undefined;
  /** The prompt and the tokens made. */
  readonly history: number[];
  /** Tokens known to be part of the answer: without a stop token, or text of a stop string. */
  readonly answer: number[] = [];
  /** Set once it has ended. */
  finishReason: FinishReason | undefined;
  /** Tokens for the next pass to check. */
  proposals: readonly Proposal[] = [];
  readonly #request: GenerationRequest;
  readonly #promptLength: number;
  /** Tokens in the cache before the prompt. */
  readonly #start: number;
  /** Most tokens of `history` that fit. */
  readonly #room: number;
  readonly #processors: readonly LogitsProcessor[];
  readonly #random: RandomSource;
  readonly #stop: StopCondition;
  readonly #logprobs: LogprobRecord;

  constructor(request: GenerationRequest, parts: SequenceParts) {
    const { model, op, stop, maxNewTokens } = request;
    this.cache = parts.cache;
    this.draftCache = parts.draftCache;
    this.history = [...parts.prompt];
    this.#request = request;
    this.#promptLength = parts.prompt.length;
    [this.#start] = parts.cache.lengths;
    this.#room = parts.capacity - this.#start;
    this.#random = randomSource(parts.seed);
    this.#stop = new StopCondition(op, stop, () => model.tokenizer);
    this.#processors = processorsFor(request, parts.prompt.length);
    this.#logprobs = parts.logprobs ?? new LogprobRecord(false, 0);
    if (maxNewTokens === 0) this.finishReason = 'length';
  }

  /** What the next pass feeds: the last token, which the cache does not hold yet, and the proposals. */
  get tokens(): readonly number[] {
    return [this.history[this.history.length - 1], ...this.proposals.map(({ token }) => token)];
  }

  /** How many of `wanted` proposals the next pass may check. */
  proposalLimit(wanted: number): number {
    const { model, maxNewTokens } = this.#request;
    const length = this.history.length;
    let limit = Math.min(wanted, maxNewTokens - (length - this.#promptLength) - 1, this.#room - length);
    // A pass that reaches other rotary frequencies computes all of its tokens with them.
    const end = this.#start + length;
    while (limit > 0 && !model.sameFrequencies(end, end + limit)) limit--;
    return Math.max(0, limit);
  }

  /** The processed logits (a copy, unless nothing changes them) that follow `history` and then `more`. */
  processed(logits: Float32Array, more: readonly number[] = []): Float32Array {
    if (this.#processors.length === 0) return logits;
    const scores = logits.slice();
    const tokens = more.length > 0 ? [...this.history, ...more] : this.history;
    for (const process of this.#processors) process(scores, tokens);
    return scores;
  }

  /** The next token by the options, from logits that `processed` gave. */
  choose(scores: Float32Array, proposal?: Proposal): number {
    return chooseToken(scores, this.#request.temperature, this.#random, proposal);
  }

  /**
   * Adds the next tokens, up to the first that differs from its proposal, and removes the others from the
   * caches.
   * @param logits `[V]` after each token of the last pass
   */
  take(logits: readonly Float32Array[]): void {
    const { proposals } = this;
    this.proposals = [];
    for (let i = 0; i <= proposals.length && this.finishReason === undefined; i++) {
      const token = this.choose(this.processed(logits[i]), proposals[i]);
      this.#logprobs.push(logits[i], token);
      this.#push(token);
      if (token !== proposals[i]?.token) break;
    }
    const fed = this.history.length - 1;
    if (this.cache.lengths[0] > this.#start + fed) this.cache.truncate(0, this.#start + fed);
    const { draftCache } = this;
    if (draftCache && draftCache.lengths[0] > fed) draftCache.truncate(0, fed);
  }

  #push(token: number): void {
    this.history.push(token);
    this.answer.push(...this.#stop.push(token));
    const made = this.history.length - this.#promptLength;
    if (this.#stop.stopped) this.finishReason = 'stop';
    else if (made === this.#request.maxNewTokens || this.history.length > this.#room) {
      this.finishReason = 'length';
      this.answer.push(...this.#stop.flush());
    }
  }

  get result(): GenerateResult {
    const { answer, finishReason = 'length' } = this;
    return { tokens: answer, ...this.#logprobs.fields(answer.length), finishReason };
  }
}
