/**
 * What `generate` and `generateBatch` are asked for: their common options, checked, and prompts.
 */
import { aFunction, anything, checkInteger, describe } from '../../arguments/kinds.ts';
import type { OptionKinds } from '../../arguments/options.ts';
import type { Model } from '../model.ts';
import { checkTokenIds } from '../token-batch.ts';
import {
  type LogitsProcessor,
  logitsProcessors,
  SAMPLING_KINDS,
  type SamplingOptions,
} from './logits-processors.ts';
import { checkSeed } from './random-source.ts';
import { StopCondition } from './stop-condition.ts';

/** Options that `generate` and `generateBatch` share. */
export interface GenerationOptions extends SamplingOptions {
  /** Most tokens to make; default 256. 0 only feeds the prompt. */
  readonly maxNewTokens?: number;
  /**
   * The same integer gives the same tokens; default: a fresh one each time. Without a temperature nothing is
   * drawn.
   */
  readonly seed?: number;
  /** Token ids and strings that end the generation; default the model's end tokens, `[]` = never. */
  readonly stop?: readonly (number | string)[];
  /**
   * A small model of the same vocabulary that proposes the next tokens; `model` checks them in one pass
   * (speculative decoding). Not beside `promptLookup`.
   */
  readonly draftModel?: Model;
  /**
   * Proposes up to this many tokens that followed the last ones where those occurred before, in the prompt
   * or the answer, and checks them in one pass; for answers that repeat parts of their prompt.
   */
  readonly promptLookup?: number;
  /** Ends the generation by throwing the signal's reason. */
  readonly signal?: AbortSignal;
  /**
   * Most tokens of a prompt per pass, default 256. With fewer, an abort is answered sooner; the last bits of the
   * logits may differ.
   */
  readonly prefillChunkSize?: number;
  /** Called after each chunk with the number of prompt tokens processed, and of all. */
  readonly onPrefill?: (done: number, total: number) => void;
}

export const GENERATION_KINDS: OptionKinds<GenerationOptions> = {
  ...SAMPLING_KINDS,
  maxNewTokens: anything,
  seed: anything,
  stop: anything,
  draftModel: anything,
  promptLookup: anything,
  signal: anything,
  prefillChunkSize: anything,
  onPrefill: aFunction,
};

/** Checked options, with their defaults. */
export interface GenerationRequest extends Omit<GenerationOptions, keyof SamplingOptions> {
  /** The function that was called, for errors. */
  readonly op: string;
  readonly model: Model;
  readonly maxNewTokens: number;
  readonly temperature: number;
  /** The options of sampling as they were given. */
  readonly sampling: SamplingOptions;
  readonly stop: readonly (number | string)[];
}

/** @throws TypeError unless it is a model; a missing `await` is a common cause. */
export function checkModel(op: string, model: Model, name = 'a model'): void {
  if (typeof model?.forward === 'function') return;
  const hint = typeof (model as { then?: unknown } | undefined)?.then === 'function' ? '; await it' : '';
  throw new TypeError(`${op}: expected ${name}, such as loadModel gives, got ${describe(model)}${hint}`);
}

/**
 * Checks the values of options whose names were checked; those of sampling are checked where they are used.
 * @throws TypeError or RangeError that names the option
 */
export function checkRequest(op: string, model: Model, options: GenerationOptions): GenerationRequest {
  const { maxNewTokens = 256, temperature = 0, stop = model.endTokenIds } = options;
  const { seed, draftModel, promptLookup, signal, prefillChunkSize } = options;
  checkInteger(op, 'maxNewTokens', maxNewTokens, 0);
  if (seed !== undefined) checkSeed(op, seed);
  if (promptLookup !== undefined) checkInteger(op, 'promptLookup', promptLookup, 1);
  if (prefillChunkSize !== undefined) checkInteger(op, 'prefillChunkSize', prefillChunkSize, 1);
  if (draftModel !== undefined) {
    checkModel(op, draftModel, 'draftModel to be a model');
    if (promptLookup !== undefined) {
      throw new TypeError(`${op}: expected draftModel or promptLookup, got both`);
    }
    const [own, other] = [model.config.vocabSize, draftModel.config.vocabSize];
    if (own !== other) {
      throw new RangeError(
        `${op}: expected a draftModel of the model's vocabulary, V=${own}, got V=${other}`,
      );
    }
  }
  if (signal !== undefined && typeof signal?.throwIfAborted !== 'function') {
    throw new TypeError(`${op}: expected signal to be an AbortSignal, got ${describe(signal)}`);
  }
  // Checks the items, and that there is a tokenizer for strings.
  new StopCondition(op, stop, () => model.tokenizer);
  return { ...options, op, model, maxNewTokens, temperature, sampling: options, stop };
}

/** The token ids of a `stop` list. */
export function endTokenIds(stop: GenerationRequest['stop']): number[] {
  return stop.filter((item) => typeof item === 'number');
}

/** The processors of a request for one prompt. */
export function processorsFor(
  { op, model, sampling, stop, maxNewTokens }: GenerationRequest,
  promptLength: number,
): readonly LogitsProcessor[] {
  const { vocabSize } = model.config;
  const context = { promptLength, endTokenIds: endTokenIds(stop), vocabSize, maxNewTokens };
  return logitsProcessors(op, sampling, context);
}

/** Tokens of the draft model's cache for one answer; 0 when it proposes nothing. */
export function draftCacheLength(
  { draftModel, maxNewTokens }: GenerationRequest,
  promptLength: number,
): number {
  if (!draftModel || maxNewTokens === 0) return 0;
  const context = draftModel.config.maxPositionEmbeddings;
  return context > promptLength ? Math.min(promptLength + maxNewTokens, context) : 0;
}

/**
 * A copy of a prompt.
 * @param name how errors call it, such as `a prompt`
 * @throws TypeError unless it is a list; RangeError when it is empty, has an id outside of the vocabulary, or
 *   is longer than the context
 */
export function checkPrompt(
  { op, model }: GenerationRequest,
  prompt: ArrayLike<number>,
  name: string,
  start = 0,
): number[] {
  if (typeof prompt !== 'object' || typeof prompt?.length !== 'number') {
    throw new TypeError(
      `${op}: expected ${name} of token ids, got ${describe(prompt)}; model.tokenizer.encode(text) gives them`,
    );
  }
  const context = model.config.maxPositionEmbeddings;
  if (start + prompt.length > context) {
    throw new RangeError(
      `${op}: expected ${name} within the model's context of ${context} tokens, got ${prompt.length}${start > 0 ? ` after ${start}` : ''}`,
    );
  }
  const own = Array.from(prompt);
  if (own.length === 0) throw new RangeError(`${op}: expected ${name} of at least one token, got none`);
  checkTokenIds(op, own, model.config.vocabSize);
  return own;
}
