/**
 * Generation from one prompt, as an async generator of token ids. It yields to the event loop between chunks
 * of the prompt and between passes, so that abort signals and other requests are handled.
 */

import { anything, describe } from '../../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../../arguments/options.ts';
import type { KeyValueCache } from '../../cache/cache.ts';
import { eventLoopTurn } from '../../tensor/event-loop.ts';
import type { Model } from '../model.ts';
import { forwardRows, prefill } from './forward-rows.ts';
import { propose } from './propose.ts';
import { freshSeed } from './random-source.ts';
import {
  checkModel,
  checkPrompt,
  checkRequest,
  draftCacheLength,
  GENERATION_KINDS,
  type GenerationOptions,
  type GenerationRequest,
} from './request.ts';
import { Sequence } from './sequence.ts';

/** Options of `generate`. */
export interface GenerateOptions extends GenerationOptions {
  /** A cache of one row to continue on; default: one of its own, freed at the end. */
  readonly cache?: KeyValueCache;
}

const OPTIONS = optionKinds<GenerateOptions>({ ...GENERATION_KINDS, cache: anything });

/**
 * Continues a prompt.
 *
 * It ends at a stop token or string, after `maxNewTokens`, or when the cache or the model's context is full.
 * A stop token is not yielded, nor is any token with text of a stop string; tokens that may turn out to be
 * part of one come late.
 *
 * A given cache is continued from its length. However it ends, also by an abort or by leaving the loop, the
 * cache then holds the prompt and the yielded tokens but for the last one (with fewer when the prompt was not
 * done, and all of it with `maxNewTokens: 0`). So with `history` as everything said so far,
 * `history.slice(cache.lengths[0])` is the prompt to go on with, never empty. Logits processors and proposals
 * see the prompt given here, not what the cache held before.
 *
 * With `draftModel` or `promptLookup` several tokens are checked in one pass (speculation). The tokens are
 * those of plain decoding. Where the two likeliest tokens are within 1e-4 in their logits they may differ with
 * a `promptLookup` above 8, or in a window cache with pinned first tokens: such a pass rounds differently. Drawn
 * tokens keep their distribution; with `promptLookup` the same seed also gives the same tokens as without it.
 *
 * @param promptTokens at least one token id
 * @throws RangeError for an empty prompt, an id outside of the vocabulary, a prompt that does not fit into
 * the cache or the context (nothing is fed then), or an option out of range; the signal's reason when
 * aborted. All on the first `next()`. Error when something else changes the cache meanwhile.
 * @example
 * const prompt = model.tokenizer!.encode('Once'); // undefined where the checkpoint has no tokenizer
 * for await (const token of generate(model, prompt, { maxNewTokens: 20 })) console.log(token);
 */
export async function* generate(
  model: Model,
  promptTokens: ArrayLike<number>,
  options: GenerateOptions = {},
): AsyncGenerator<number, void, undefined> {
  checkModel('generate', model);
  checkOptions('generate', options, OPTIONS);
  const request = checkRequest('generate', model, options);
  const { maxNewTokens, signal, draftModel } = request;
  const start = cacheLength(options.cache);
  const prompt = checkPrompt(request, promptTokens, 'a prompt', start);
  const capacity = room(request, prompt.length, options.cache);
  const maxLength = Math.min(prompt.length + maxNewTokens, capacity);
  const cache = options.cache ?? model.initCache({ batchSize: 1, maxLength });
  let draftCache: KeyValueCache | undefined;
  let yielded = 0;
  let failed = false;
  /** The final length of the cache. The last token is left for the next call, which needs its logits. */
  const kept = () => start + prompt.length + yielded - (maxNewTokens > 0 ? 1 : 0);
  try {
    const draftLength = draftCacheLength(request, prompt.length);
    if (draftLength > 0) draftCache = draftModel?.initCache({ batchSize: 1, maxLength: draftLength });
    const seed = options.seed ?? freshSeed();
    const sequence = new Sequence(request, { prompt, cache, capacity, seed, draftCache });
    signal?.throwIfAborted();
    let logits = [
      await prefill(model, { cache, tokens: prompt }, request, (done) =>
        options.onPrefill?.(done, prompt.length),
      ),
    ];
    while (sequence.finishReason === undefined) {
      await eventLoopTurn();
      signal?.throwIfAborted();
      checkLength(cache, start + sequence.history.length + sequence.proposals.length);
      sequence.take(logits);
      while (yielded < sequence.answer.length) yield sequence.answer[yielded++];
      if (sequence.finishReason !== undefined) break;
      checkLength(cache, start + sequence.history.length - 1);
      await propose(request, [sequence]);
      if (options.cache) cache.hold?.(0, kept());
      else if (sequence.proposals.length > 0) cache.hold?.(0, cache.lengths[0]);
      [logits] = await forwardRows(model, [sequence]);
    }
  } catch (error) {
    failed = true;
    throw error;
  } finally {
    draftCache?.dispose();
    if (options.cache) takeBack(cache, kept(), failed);
    else cache.dispose();
  }
}

/** @throws Error when something else has changed the cache, such as a second `generate` on it */
function checkLength({ lengths: [got] }: KeyValueCache, length: number): void {
  if (got === length) return;
  throw new Error(
    `generate: expected a cache that nothing else changes meanwhile, got ${got} tokens in place of ${length}`,
  );
}

/**
 * Leaves `length` tokens in the cache.
 * @param quietly whether to ignore errors here, so that one already thrown, such as an abort's reason, is
 * kept
 */
function takeBack(cache: KeyValueCache, length: number, quietly: boolean): void {
  try {
    if (cache.lengths[0] > length) cache.truncate(0, length);
    cache.hold?.(0);
  } catch (error) {
    if (!quietly) throw error;
  }
}

/** The tokens that a given cache holds. @throws TypeError or RangeError unless it is a cache of one row. */
function cacheLength(cache: KeyValueCache | undefined): number {
  if (cache === undefined) return 0;
  if (typeof cache?.reserve !== 'function') {
    throw new TypeError(`generate: expected cache to be a KeyValueCache, got ${describe(cache)}`);
  }
  if (cache.batchSize !== 1) {
    throw new RangeError(`generate: expected a cache of 1 row, got ${cache.batchSize}`);
  }
  return cache.lengths[0];
}

/** The most tokens that the row can hold. @throws RangeError when the prompt does not fit into the cache. */
function room({ model }: GenerationRequest, promptLength: number, cache: KeyValueCache | undefined): number {
  const context = model.config.maxPositionEmbeddings;
  if (cache === undefined) return context;
  const [start] = cache.lengths;
  if (start + promptLength > cache.maxLength) {
    throw new RangeError(
      `generate: expected a prompt that fits into the cache, got ${promptLength} tokens; it holds ${start} of ${cache.maxLength}`,
    );
  }
  return Math.min(cache.maxLength, context);
}
