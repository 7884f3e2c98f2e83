/** The answers to one prompt of a batch: its caches, and its rows in each pass. */
import { type BeamOptions, BeamSearch } from './beam-search.ts';
import { type Feed, prefill } from './forward-rows.ts';
import { LogprobRecord } from './logprobs.ts';
import { freshSeed } from './random-source.ts';
import { draftCacheLength, type GenerationRequest } from './request.ts';
import type { GenerateResult } from './result.ts';
import { RowCaches } from './row-caches.ts';
import { Sequence } from './sequence.ts';

/** Checked options of `generateBatch`. */
export interface BatchRequest extends GenerationRequest {
  readonly n: number;
  /** Undefined without beam search. */
  readonly beams: BeamOptions | undefined;
  readonly logprobs: boolean;
  readonly topLogprobs: number;
}

export class PromptRun {
  /** Of the prompt in the batch. */
  readonly index: number;
  readonly #request: BatchRequest;
  readonly #prompt: readonly number[];
  readonly #caches: RowCaches;
  #draftCaches: RowCaches | undefined;
  #sequences: readonly Sequence[] = [];
  #search: BeamSearch | undefined;

  /** @throws RangeError when there is no memory for its caches; nothing stays allocated then */
  constructor(request: BatchRequest, prompt: readonly number[], index: number) {
    const { model, draftModel, n, beams, maxNewTokens } = request;
    this.index = index;
    this.#request = request;
    this.#prompt = prompt;
    const capacity = model.config.maxPositionEmbeddings;
    const maxLength = Math.min(prompt.length + maxNewTokens, capacity);
    this.#caches = new RowCaches(model, beams?.numBeams ?? n, prompt.length, maxLength);
    try {
      const newRecord = () => new LogprobRecord(request.logprobs, request.topLogprobs);
      if (beams) {
        // The last token is not fed, so it needs no room.
        const longest = Math.min(prompt.length + maxNewTokens, capacity + 1);
        this.#search = new BeamSearch(request, prompt, this.#caches, longest, newRecord(), beams);
        return;
      }
      const draftLength = draftCacheLength(request, prompt.length);
      if (draftModel && draftLength > 0) {
        this.#draftCaches = new RowCaches(draftModel, n, prompt.length, draftLength);
      }
      const seed = request.seed ?? freshSeed();
      this.#sequences = this.#caches.rows.map((cache, j) => {
        const draftCache = this.#draftCaches?.rows[j];
        const parts = { prompt, cache, capacity, draftCache, logprobs: newRecord() };
        return new Sequence(request, { ...parts, seed: seed + j });
      });
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  get promptLength(): number {
    return this.#prompt.length;
  }

  /** The answers that go on; none in a beam search. */
  get sequences(): readonly Sequence[] {
    return this.#sequences.filter(({ finishReason }) => finishReason === undefined);
  }

  /** The rows of the next pass; none when all answers have ended. */
  get feeds(): readonly Feed[] {
    return this.#search?.feeds ?? this.sequences;
  }

  get results(): GenerateResult[] {
    return [...(this.#search?.results ?? this.#sequences.map(({ result }) => result))];
  }

  /** Feeds the prompt and chooses the first tokens. */
  async start(onChunk: (done: number) => void): Promise<void> {
    const { model, draftModel } = this.#request;
    const feed = ({ rows }: RowCaches) => ({ cache: rows[0], tokens: this.#prompt });
    const logits = await prefill(model, feed(this.#caches), this.#request, onChunk);
    if (draftModel && this.#draftCaches) {
      await prefill(draftModel, feed(this.#draftCaches), this.#request);
      this.#draftCaches.share();
    }
    if (!this.#search) this.#caches.share();
    this.take(this.feeds.map(() => [logits]));
  }

  /** @param logits of each row of `feeds`, after each of its tokens */
  take(logits: readonly (readonly Float32Array[])[]): void {
    if (this.#search) this.#search.take(logits);
    else this.sequences.forEach((sequence, row) => void sequence.take(logits[row]));
  }

  dispose(): void {
    this.#caches.dispose();
    this.#draftCaches?.dispose();
  }
}
