/**
 * Generation: prefill the prompt in chunks, then one token at a time, as an async generator of token ids. It
 * yields to the event loop between chunks and tokens, so that abort signals and other requests are handled.
 */

import { aFunction, aNumber, anything, describe } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { KeyValueCache } from '../cache/cache.ts';
import { eventLoopTurn } from '../tensor/event-loop.ts';
import { logitsProcessors, SAMPLING_KINDS, type SamplingOptions } from './generation/logits-processors.ts';
import { pickToken } from './generation/sampling.ts';
import type { Model } from './model.ts';
import { freshSeed, randomSource } from './random-source.ts';
import { StopCondition } from './stop-condition.ts';
import { checkTokenIds } from './token-batch.ts';

/**
 * Tokens of the prompt per forward pass: enough to keep the kernels busy, few enough to answer an abort
 * promptly.
 */
const PREFILL_CHUNK = 256;

/** Options of `generate`. */
export interface GenerateOptions extends SamplingOptions {
  /** Most tokens to make; default 256. 0 only feeds the prompt. */
  readonly maxNewTokens?: number;
  /**
   * The same integer gives the same tokens; default: a fresh one each time. Without a temperature nothing is
   * drawn.
   */
  readonly seed?: number;
  /** Token ids and strings that end the generation; default the model's end tokens, `[]` = never. */
  readonly stop?: readonly (number | string)[];
  /** A cache of one row to continue on; default: one of its own, freed at the end. */
  readonly cache?: KeyValueCache;
  /** Ends the generation by throwing the signal's reason. */
  readonly signal?: AbortSignal;
  /** Called after each chunk with the number of prompt tokens processed. */
  readonly onPrefill?: (done: number, total: number) => void;
}

const OPTIONS = optionKinds<GenerateOptions>({
  ...SAMPLING_KINDS,
  maxNewTokens: anything,
  seed: aNumber,
  stop: anything,
  cache: anything,
  signal: anything,
  onPrefill: aFunction,
});

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
 * `history.slice(cache.lengths[0])` is the prompt to go on with, never empty.
 *
 * @param promptTokens at least one token id
 * @throws RangeError for an empty prompt, an id outside of the vocabulary, a prompt that does not fit into
 * the cache or the context (nothing is fed then), or an option out of range; the signal's reason when
 * aborted. All on the first `next()`.
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
  const { maxNewTokens = 256, temperature = 0, seed, signal, onPrefill } = options;
  if (!Number.isInteger(maxNewTokens) || maxNewTokens < 0) {
    const message = `generate: expected maxNewTokens to be a non-negative integer, got ${describe(maxNewTokens)}`;
    throw typeof maxNewTokens === 'number' ? new RangeError(message) : new TypeError(message);
  }
  if (typeof promptTokens !== 'object' || typeof promptTokens?.length !== 'number') {
    throw new TypeError(
      `generate: expected a prompt of token ids, got ${describe(promptTokens)}; model.tokenizer.encode(text) gives them`,
    );
  }
  const prompt = Array.from(promptTokens);
  if (prompt.length === 0)
    throw new RangeError('generate: expected a prompt of at least one token, got none');
  checkTokenIds('generate', prompt, model.config.vocabSize);
  const random = randomSource(seed ?? freshSeed());
  const ends = options.stop ?? model.endTokenIds;
  const stop = new StopCondition(ends, () => model.tokenizer);
  const processors = logitsProcessors('generate', options, {
    promptLength: prompt.length,
    endTokenIds: ends.filter((end) => typeof end === 'number'),
    vocabSize: model.config.vocabSize,
    maxNewTokens,
  });
  const { capacity, start } = room(model, prompt.length, options.cache);
  if (signal !== undefined && typeof signal?.throwIfAborted !== 'function') {
    throw new TypeError(`generate: expected signal to be an AbortSignal, got ${describe(signal)}`);
  }
  signal?.throwIfAborted();

  const cache =
    options.cache ??
    model.initCache({ batchSize: 1, maxLength: Math.min(prompt.length + maxNewTokens, capacity) });
  let yielded = 0;
  let failed = false;
  /** The final length of the cache. The last token is left for the next call, which needs its logits. */
  const kept = () => start + prompt.length + yielded - (maxNewTokens > 0 ? 1 : 0);
  try {
    /** Also those that are held back. */
    const tokens = [...prompt];
    let logits: Float32Array | undefined;
    for (let fed = 0; fed < prompt.length; ) {
      if (fed > 0) {
        await eventLoopTurn();
        signal?.throwIfAborted();
      }
      const chunk = prompt.slice(fed, fed + PREFILL_CHUNK);
      logits = await step(model, chunk, cache);
      fed += chunk.length;
      onPrefill?.(fed, prompt.length);
    }
    for (let made = 0; made < maxNewTokens && logits; ) {
      await eventLoopTurn();
      signal?.throwIfAborted();
      for (const process of processors) process(logits, tokens);
      const token = pickToken(logits, { temperature, random });
      tokens.push(token);
      made++;
      for (const id of stop.push(token)) {
        yielded++;
        yield id;
      }
      if (stop.stopped) return;
      options.cache?.hold?.(0, kept());
      const full = start + prompt.length + made > capacity;
      logits = full || made === maxNewTokens ? undefined : await step(model, [token], cache);
    }
    for (const id of stop.flush()) {
      yielded++;
      yield id;
    }
  } catch (error) {
    failed = true;
    throw error;
  } finally {
    if (options.cache) takeBack(cache, kept(), failed);
    else cache.dispose();
  }
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

/** @throws TypeError unless it is a model; a missing `await` is a common cause. */
function checkModel(op: string, model: Model): void {
  if (typeof model?.forward === 'function') return;
  const hint = typeof (model as { then?: unknown } | undefined)?.then === 'function' ? '; await it' : '';
  throw new TypeError(`${op}: expected a model, such as loadModel gives, got ${describe(model)}${hint}`);
}

/** The maximum and the current length of the row. @throws RangeError when the prompt does not fit. */
function room(
  model: Model,
  promptLength: number,
  cache: KeyValueCache | undefined,
): { capacity: number; start: number } {
  const context = model.config.maxPositionEmbeddings;
  if (cache !== undefined && typeof cache?.reserve !== 'function') {
    throw new TypeError(`generate: expected cache to be a KeyValueCache, got ${describe(cache)}`);
  }
  if (cache && cache.batchSize !== 1) {
    throw new RangeError(`generate: expected a cache of 1 row, got ${cache.batchSize}`);
  }
  const start = cache?.lengths[0] ?? 0;
  if (cache && start + promptLength > cache.maxLength) {
    throw new RangeError(
      `generate: expected a prompt that fits into the cache, got ${promptLength} tokens; it holds ${start} of ${cache.maxLength}`,
    );
  }
  if (start + promptLength > context) {
    throw new RangeError(
      `generate: expected a prompt within the model's context of ${context} tokens, got ${promptLength}${start > 0 ? ` after ${start}` : ''}`,
    );
  }
  return { capacity: Math.min(cache?.maxLength ?? context, context), start };
}

/** Feeds tokens and reads the logits after the last. */
async function step(model: Model, tokens: number[], cache: KeyValueCache): Promise<Float32Array> {
  const logits = model.forward([tokens], { cache, logits: 'last' });
  try {
    return (await logits.data()) as Float32Array;
  } finally {
    logits.dispose();
  }
}
