/**
 * Generation from many prompts: rows of several prompts and results share each pass. A row that has ended
 * leaves the batch, and the next prompt takes its place.
 */
import { aBoolean, anything, checkInteger, describe } from '../../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../../arguments/options.ts';
import { FEW_ROWS } from '../../ops/linear.ts';
import { eventLoopTurn } from '../../tensor/event-loop.ts';
import type { Model } from '../model.ts';
import { checkBeams } from './beam-search.ts';
import { forwardRows } from './forward-rows.ts';
import { type BatchRequest, PromptRun } from './prompt-run.ts';
import { propose } from './propose.ts';
import {
  checkModel,
  checkPrompt,
  checkRequest,
  GENERATION_KINDS,
  type GenerationOptions,
} from './request.ts';
import type { GenerateResult } from './result.ts';

/** Most results and beams of a prompt: their rows all exist at once. */
const MAX_ROWS_PER_PROMPT = 4096;

/** Options of `generateBatch`: those of `generate` but for `cache`, and these. */
export interface GenerateBatchOptions extends GenerationOptions {
  /** Results per prompt, at most 4096; default 1. They share the prompt's keys and values. */
  readonly n?: number;
  /**
   * Beams per prompt, at most 4096; default 1, which is no beam search. More need `n <= numBeams`, no
   * temperature, no speculation, and `stop` of token ids only.
   */
  readonly numBeams?: number;
  /**
   * For beam search: scores are sums of log probabilities divided by `length ** lengthPenalty`, so more than 0
   * favours longer answers; default 1.
   */
  readonly lengthPenalty?: number;
  /**
   * For beam search: whether to end as soon as `numBeams` answers are complete; default false: when no open
   * beam is likely to become better, as in transformers.
   */
  readonly earlyStopping?: boolean;
  /** Whether results have the log probabilities of their tokens; default false. */
  readonly logprobs?: boolean;
  /** How many of the likeliest tokens to report at each token, with their log probabilities; default 0. */
  readonly topLogprobs?: number;
}

const OPTIONS = optionKinds<GenerateBatchOptions>({
  ...GENERATION_KINDS,
  n: anything,
  numBeams: anything,
  lengthPenalty: anything,
  earlyStopping: aBoolean,
  logprobs: aBoolean,
  topLogprobs: anything,
});

/**
 * Continues many prompts at once: faster than one after the other, because a pass reads the weights once for
 * all of its rows.
 *
 * Result j of a prompt is what `generate` gives for the prompt alone with the seed `seed + j`, whatever else
 * is in the batch.
 *
 * Log probabilities are the log-softmax of the model's logits, before any processor or temperature, as
 * servers with OpenAI's API report them: so they say what the model thinks, and do not change with the
 * sampling options. transformers gives the same as the log-softmax of `output_logits`.
 *
 * Beam search has the rules of transformers; its results are ordered by `score`, best first.
 *
 * Memory: at most 16 rows, or the rows of one prompt with more, have keys and values for the prompt and
 * `maxNewTokens`.
 *
 * @param prompts token ids per prompt, at least one each; no prompts give no results
 * @throws RangeError or TypeError as `generate` (the message numbers the prompt), before anything is fed; the
 * signal's reason when aborted. Nothing stays allocated then.
 * @returns per prompt its `n` results
 * @example
 * const prompts = ['Once', 'The sea'].map((text) => model.tokenizer!.encode(text));
 * for (const [result] of await generateBatch(model, prompts, { maxNewTokens: 20, logprobs: true }))
 *   console.log(model.tokenizer!.decode(result.tokens), result.logprobs);
 */
export async function generateBatch(
  model: Model,
  prompts: readonly ArrayLike<number>[],
  options: GenerateBatchOptions = {},
): Promise<GenerateResult[][]> {
  const op = 'generateBatch';
  checkModel(op, model);
  checkOptions(op, options, OPTIONS);
  const request = checkBatch(model, options);
  if (!Array.isArray(prompts)) {
    throw new TypeError(
      `${op}: expected prompts as an array of token ids per prompt, got ${describe(prompts)}`,
    );
  }
  const own = Array.from(prompts, (prompt, i) => checkPrompt(request, prompt, `prompt ${i}`));
  const { signal, onPrefill } = request;
  signal?.throwIfAborted();

  const total = own.reduce((sum, { length }) => sum + length, 0);
  let prefilled = 0;
  const results: GenerateResult[][] = own.map(() => []);
  const running = new Set<PromptRun>();
  try {
    for (let next = 0; next < own.length || running.size > 0; ) {
      await eventLoopTurn();
      signal?.throwIfAborted();
      const feeds = [...running].flatMap((run) => run.feeds);
      if (next < own.length && feeds.length < FEW_ROWS) {
        const run = new PromptRun(request, own[next], next++);
        running.add(run);
        await run.start((done) => onPrefill?.(prefilled + done, total));
        prefilled += run.promptLength;
      } else {
        await pass(request, [...running]);
      }
      for (const run of running) {
        if (run.feeds.length > 0) continue;
        results[run.index] = run.results;
        run.dispose();
        running.delete(run);
      }
    }
    return results;
  } finally {
    for (const run of running) run.dispose();
  }
}

/** The next token, or tokens, of all rows. */
async function pass(request: BatchRequest, runs: readonly PromptRun[]): Promise<void> {
  await propose(
    request,
    runs.flatMap((run) => run.sequences),
  );
  const feeds = runs.flatMap((run) => run.feeds);
  for (const { cache, tokens } of feeds) if (tokens.length > 1) cache.hold?.(0, cache.lengths[0]);
  const logits = await forwardRows(request.model, feeds);
  let at = 0;
  for (const run of runs) {
    const count = run.feeds.length;
    run.take(logits.slice(at, at + count));
    at += count;
  }
}

function checkBatch(model: Model, options: GenerateBatchOptions): BatchRequest {
  const op = 'generateBatch';
  const { n = 1, numBeams = 1, lengthPenalty = 1, earlyStopping = false } = options;
  const { logprobs = false, topLogprobs = 0 } = options;
  const request = checkRequest(op, model, options);
  checkInteger(op, 'n', n, 1);
  checkInteger(op, 'numBeams', numBeams, 1);
  for (const [name, value] of Object.entries({ n, numBeams })) {
    if (value > MAX_ROWS_PER_PROMPT) {
      throw new RangeError(`${op}: expected ${name} of at most ${MAX_ROWS_PER_PROMPT}, got ${value}`);
    }
  }
  checkInteger(op, 'topLogprobs', topLogprobs, 0);
  const { vocabSize } = model.config;
  if (topLogprobs > vocabSize) {
    throw new RangeError(`${op}: expected topLogprobs of at most V=${vocabSize}, got ${topLogprobs}`);
  }
  if (options.seed !== undefined && !Number.isSafeInteger(options.seed + (n - 1))) {
    throw new RangeError(
      `${op}: expected seed + n - 1 to be a safe integer, got seed ${options.seed} and n ${n}`,
    );
  }
  const beams = { numBeams, lengthPenalty, earlyStopping, numResults: n };
  checkBeams(request, options, beams);
  return { ...request, n, beams: numBeams > 1 ? beams : undefined, logprobs, topLogprobs };
}
