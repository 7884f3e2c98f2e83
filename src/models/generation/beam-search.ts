/**
 * Beam search for one prompt: the `numBeams` likeliest continuations are kept, token by token. The order of
 * things and the rules for ending are those of transformers.
 *
 * Source: transformers/generation/utils.py (`_beam_search`).
 */
import { describe } from '../../arguments/kinds.ts';
import type { Feed } from './forward-rows.ts';
import type { LogitsProcessor } from './logits-processors.ts';
import { type LogprobRecord, largest, logSumExp } from './logprobs.ts';
import { endTokenIds, type GenerationRequest, processorsFor } from './request.ts';
import type { FinishReason, GenerateResult } from './result.ts';
import { type RowCaches, shareRow } from './row-caches.ts';

/** Options of beam search, with their defaults. */
export interface BeamOptions {
  readonly numBeams: number;
  readonly lengthPenalty: number;
  readonly earlyStopping: boolean;
  readonly numResults: number;
}

/**
 * @param given the caller's options, of which those of beam search need more than one beam
 * @throws TypeError or RangeError that names the option
 */
export function checkBeams(
  { op, temperature, stop, draftModel, promptLookup }: GenerationRequest,
  given: { readonly lengthPenalty?: number; readonly earlyStopping?: boolean },
  { numBeams, lengthPenalty, numResults }: BeamOptions,
): void {
  if (numBeams === 1) {
    const name = (['lengthPenalty', 'earlyStopping'] as const).find((key) => given[key] !== undefined);
    if (name) throw new TypeError(`${op}: expected numBeams above 1 beside ${name}, got 1`);
    return;
  }
  if (numResults > numBeams) {
    throw new RangeError(`${op}: expected n of at most numBeams=${numBeams}, got ${numResults}`);
  }
  if (typeof lengthPenalty !== 'number') {
    throw new TypeError(`${op}: expected lengthPenalty to be a number, got ${describe(lengthPenalty)}`);
  }
  if (!Number.isFinite(lengthPenalty)) {
    throw new RangeError(`${op}: expected a finite lengthPenalty, got ${lengthPenalty}`);
  }
  if (temperature !== 0) {
    throw new RangeError(`${op}: expected temperature 0 with numBeams=${numBeams}, got ${temperature}`);
  }
  if (draftModel !== undefined || promptLookup !== undefined) {
    const name = draftModel === undefined ? 'promptLookup' : 'draftModel';
    throw new TypeError(`${op}: expected no ${name} with numBeams=${numBeams}, got one`);
  }
  if (stop.some((item) => typeof item === 'string')) {
    throw new TypeError(`${op}: expected stop of token ids with numBeams=${numBeams}, got a string`);
  }
}

/** A continuation that is not finished. */
interface Beam extends Feed {
  readonly history: readonly number[];
  /** Sum of log probabilities. */
  readonly sum: number;
  readonly logprobs: LogprobRecord;
}

/** A beam with one more token. */
interface Candidate {
  readonly parent: number;
  readonly token: number;
  readonly sum: number;
}

interface Finished {
  readonly result: GenerateResult;
  readonly score: number;
}

export class BeamSearch {
  /** The rows of the next pass; none when the search is over. */
  feeds: readonly Beam[];
  readonly #op: string;
  readonly #options: BeamOptions;
  readonly #caches: RowCaches;
  readonly #processors: readonly LogitsProcessor[];
  readonly #endTokens: ReadonlySet<number>;
  readonly #promptLength: number;
  /** Most tokens of prompt and answer. */
  readonly #maxLength: number;
  /** Best first, at most `numBeams`. */
  #finished: Finished[] = [];

  /**
   * @param caches `numBeams` rows, of which the first is given the prompt
   * @param maxLength most tokens of prompt and answer
   */
  constructor(
    request: GenerationRequest,
    prompt: readonly number[],
    caches: RowCaches,
    maxLength: number,
    logprobs: LogprobRecord,
    options: BeamOptions,
  ) {
    this.#op = request.op;
    this.#options = options;
    this.#caches = caches;
    this.#processors = processorsFor(request, prompt.length);
    this.#endTokens = new Set(endTokenIds(request.stop));
    this.#promptLength = prompt.length;
    this.#maxLength = maxLength;
    this.feeds = [{ cache: caches.rows[0], tokens: prompt, history: prompt, sum: 0, logprobs }];
    if (request.maxNewTokens > 0) return;
    const result = { tokens: [], ...logprobs.fields(0), score: 0, finishReason: 'length' } as const;
    this.#finished = Array.from({ length: options.numResults }, () => ({ result, score: 0 }));
    this.feeds = [];
  }

  get results(): readonly GenerateResult[] {
    return this.#finished.slice(0, this.#options.numResults).map(({ result }) => result);
  }

  /** @param logits per row of `feeds` those after its last token */
  take(logits: readonly (readonly Float32Array[])[]): void {
    const { numBeams } = this.#options;
    const rows = logits.map((row) => row[row.length - 1]);
    const count = Math.max(2, 1 + this.#endTokens.size) * numBeams;
    const candidates = this.#candidates(rows, count);
    const open: Candidate[] = [];
    candidates.forEach((candidate, rank) => {
      const reason = this.#endOf(candidate);
      if (reason === undefined) open.push(candidate);
      // Those after the first numBeams only replace finished ones among the beams.
      else if (rank < numBeams) this.#finish(candidate, reason, rows);
    });
    this.feeds = this.#continued(open.slice(0, numBeams), rows);
    if (!this.#isOver()) return;
    this.feeds = [];
    const { numResults } = this.#options;
    if (this.#finished.length < numResults) {
      throw new RangeError(
        `${this.#op}: expected tokens above -Infinity for ${numResults} different answers, got ${this.#finished.length}`,
      );
    }
  }

  /** The best `count` continuations by one token, best first. */
  #candidates(rows: readonly Float32Array[], count: number): Candidate[] {
    const all = rows.flatMap((logits, parent) => {
      const { history, sum } = this.feeds[parent];
      const total = logSumExp(logits);
      const scores = logits.map((logit) => logit - total);
      for (const process of this.#processors) process(scores, history);
      return largest(scores, count)
        .filter(({ value }) => value > Number.NEGATIVE_INFINITY)
        .map(({ index, value }) => ({ parent, token: index, sum: sum + value }));
    });
    return all.sort((a, b) => b.sum - a.sum).slice(0, count);
  }

  #endOf({ parent, token }: Candidate): FinishReason | undefined {
    if (this.#endTokens.has(token)) return 'stop';
    return this.feeds[parent].history.length + 1 >= this.#maxLength ? 'length' : undefined;
  }

  #finish(
    { parent, token, sum }: Candidate,
    finishReason: FinishReason,
    rows: readonly Float32Array[],
  ): void {
    const { history, logprobs } = this.feeds[parent];
    const made = [...history.slice(this.#promptLength), token];
    const score = sum / made.length ** this.#options.lengthPenalty;
    const tokens = finishReason === 'stop' ? made.slice(0, -1) : made;
    const record = logprobs.copy();
    record.push(rows[parent], token);
    const result = { tokens, ...record.fields(tokens.length), score, finishReason };
    this.#finished.push({ result, score });
    this.#finished.sort((a, b) => b.score - a.score);
    this.#finished.length = Math.min(this.#finished.length, this.#options.numBeams);
  }

  /** The beams of the next pass: a beam's first child keeps its cache, further ones share it. */
  #continued(chosen: readonly Candidate[], rows: readonly Float32Array[]): Beam[] {
    const kept = new Set(chosen.map(({ parent }) => this.feeds[parent].cache));
    const free = this.#caches.rows.filter((cache) => !kept.has(cache));
    return chosen.map(({ parent, token, sum }) => {
      const { history, logprobs, cache: held } = this.feeds[parent];
      const record = logprobs.copy();
      record.push(rows[parent], token);
      let cache = held;
      if (!kept.delete(held)) {
        cache = free.pop() as typeof held;
        shareRow(cache, held);
      }
      return { cache, tokens: [token], history: [...history, token], sum, logprobs: record };
    });
  }

  /** Whether no open beam can become better than the worst finished one, by transformers' estimate. */
  #isOver(): boolean {
    const { numBeams, lengthPenalty, earlyStopping } = this.#options;
    const [best] = this.feeds;
    if (best === undefined) return true;
    if (this.#finished.length < numBeams) return false;
    if (earlyStopping) return true;
    const made = best.history.length - this.#promptLength;
    return best.sum / made ** lengthPenalty <= this.#finished[numBeams - 1].score;
  }
}
