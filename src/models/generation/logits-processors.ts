/**
 * What changes the logits of the next token before it is chosen: the options of sampling as a list of
 * `LogitsProcessor`s, in transformers' order.
 *
 * Source: transformers/generation/logits_process.py and `_get_logits_processor` of its utils.py; the presence
 * and frequency penalties are those of OpenAI's API and vLLM (vllm/model_executor/layers/utils.py).
 */
import { aNumber, describe } from '../../arguments/kinds.ts';
import type { OptionKinds } from '../../arguments/options.ts';
import { filterMinP, filterTopK, filterTopP, filterTypicalP, maximum } from './filters.ts';

/**
 * Changes the logits of the next token in place.
 *
 * @param logits `[V]`; -Infinity means that the token cannot come. NaN is refused after each processor.
 * @param tokens the prompt and the tokens made so far. What a given `cache` held before the prompt is not
 * among them.
 * @example
 * // No two equal tokens in a row.
 * const noEcho: LogitsProcessor = (logits, tokens) => {
 *   logits[tokens[tokens.length - 1]] = -Infinity;
 * };
 * generate(model, [1], { logitsProcessors: [noEcho] });
 */
export type LogitsProcessor = (logits: Float32Array, tokens: readonly number[]) => void;

/**
 * How the next token is chosen from the logits. The options apply in the order of transformers: `logitBias`,
 * `repetitionPenalty`, `presencePenalty` and `frequencyPenalty`, `noRepeatNgramSize`, `minNewTokens`,
 * `logitsProcessors`; then, where a token is drawn, `temperature`, `topK`, `topP`, `minP`, `typicalP`, each on
 * what the one before it left. "History" is the prompt and the tokens made so far, without what a given cache
 * held before.
 */
export interface SamplingOptions {
  /**
   * 0 (the default) takes the likeliest token; otherwise logits are divided by it and a token is drawn.
   * Required beside topK, topP, minP and typicalP.
   */
  readonly temperature?: number;
  /** Draw from the k likeliest tokens only, and those as likely as the last of them. */
  readonly topK?: number;
  /** Draw from the likeliest tokens that together have this probability, in (0, 1]. 1 = all. */
  readonly topP?: number;
  /** Draw from tokens at least this fraction as likely as the likeliest, in [0, 1]. 0 = all. */
  readonly minP?: number;
  /**
   * Draw from the tokens whose -log(probability) is closest to the entropy and that together have this
   * probability, in (0, 1] (Meister et al. 2022, locally typical sampling). 1 = all.
   */
  readonly typicalP?: number;
  /**
   * Above 0. Positive logits of tokens of the history are divided by it, negative ones multiplied; 1 = off
   * (Keskar et al. 2019, CTRL).
   */
  readonly repetitionPenalty?: number;
  /**
   * From -2 to 2, as OpenAI's. Subtracted once from the logit of each token made so far; the prompt does not
   * count.
   */
  readonly presencePenalty?: number;
  /**
   * From -2 to 2, as OpenAI's. Subtracted from a logit for each time that its token was made so far; the
   * prompt does not count.
   */
  readonly frequencyPenalty?: number;
  /** No n tokens in a row come twice in the history. 1 = no token comes twice, 0 (the default) = off. */
  readonly noRepeatNgramSize?: number;
  /** Numbers to add to the logits, by token id; -Infinity excludes a token. */
  readonly logitBias?: Readonly<Record<number, number>>;
  /**
   * Fewest tokens to make: before them no end token (an id of `stop`) can come. Stop strings still end the
   * text. Default 0, at most `maxNewTokens`.
   */
  readonly minNewTokens?: number;
  /** The caller's own, in this order. An error that one throws ends the generation; so does a NaN. */
  readonly logitsProcessors?: readonly LogitsProcessor[];
}

/** The kinds of `SamplingOptions`, for the options that extend it. */
export const SAMPLING_KINDS: OptionKinds<SamplingOptions> = {
  temperature: aNumber,
  topK: aNumber,
  topP: aNumber,
  minP: aNumber,
  typicalP: aNumber,
  repetitionPenalty: aNumber,
  presencePenalty: aNumber,
  frequencyPenalty: aNumber,
  noRepeatNgramSize: aNumber,
  logitBias: numbersById,
  minNewTokens: aNumber,
  logitsProcessors: listOfFunctions,
};

/** Of one generation. */
export interface SamplingContext {
  /** Tokens of the prompt. */
  readonly promptLength: number;
  /** Tokens at which the generation ends. */
  readonly endTokenIds: readonly number[];
  readonly vocabSize: number;
  readonly maxNewTokens: number;
}

/**
 * The processors that the options ask for, in order; none for options that change nothing. They keep nothing
 * from one token to the next, so rows of one batch with equally long prompts can share them.
 *
 * @param op the function that errors name
 * @param options of the kinds of `SAMPLING_KINDS`
 * @throws RangeError naming an option out of range; TypeError for options of a draw without a temperature.
 */
export function logitsProcessors(
  op: string,
  options: SamplingOptions,
  context: SamplingContext,
): readonly LogitsProcessor[] {
  checkRanges(op, options, context);
  checkDraws(op, options);
  const { vocabSize, promptLength } = context;
  const { temperature = 0, topK, topP = 1, minP = 0, typicalP = 1 } = options;
  const { repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0 } = options;
  const { noRepeatNgramSize = 0, minNewTokens = 0 } = options;
  const processors: LogitsProcessor[] = [];
  const bias = biasEntries(op, options.logitBias ?? {}, vocabSize);
  if (bias.length > 0) {
    processors.push((logits) => {
      for (const [id, value] of bias) logits[id] += value;
    });
  }
  if (repetitionPenalty !== 1) processors.push(penalizeRepetition(repetitionPenalty, vocabSize));
  if (presencePenalty !== 0 || frequencyPenalty !== 0) {
    processors.push(penalizeMade(presencePenalty, frequencyPenalty, promptLength, vocabSize));
  }
  if (noRepeatNgramSize > 0) {
    processors.push((logits, tokens) => maskRepeatedNgrams(logits, tokens, noRepeatNgramSize));
  }
  if (minNewTokens > 0) {
    const ids = context.endTokenIds.filter((id) => id >= 0 && id < vocabSize);
    processors.push((logits, tokens) => {
      if (tokens.length - promptLength >= minNewTokens) return;
      for (const id of ids) logits[id] = Number.NEGATIVE_INFINITY;
    });
  }
  options.logitsProcessors?.forEach((process, index) => {
    processors.push(checked(op, `logitsProcessors[${index}]`, process));
  });
  if (temperature === 0) return processors;
  if (temperature !== 1) processors.push((logits) => divide(logits, temperature));
  if (topK !== undefined) processors.push((logits) => filterTopK(logits, topK));
  if (topP < 1) processors.push((logits) => filterTopP(logits, topP));
  if (minP > 0) processors.push((logits) => filterMinP(logits, minP));
  if (typicalP < 1) processors.push((logits) => filterTypicalP(logits, typicalP));
  return processors;
}

function penalizeRepetition(penalty: number, vocabSize: number): LogitsProcessor {
  const seen = new Uint8Array(vocabSize);
  return (logits, tokens) => {
    for (const id of tokens) {
      if (seen[id] !== 0) continue;
      seen[id] = 1;
      logits[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
    }
    for (const id of tokens) seen[id] = 0;
  };
}

function penalizeMade(
  presence: number,
  frequency: number,
  promptLength: number,
  vocabSize: number,
): LogitsProcessor {
  const counts = new Uint32Array(vocabSize);
  return (logits, tokens) => {
    for (let i = promptLength; i < tokens.length; i++) counts[tokens[i]]++;
    for (let i = promptLength; i < tokens.length; i++) {
      const id = tokens[i];
      if (counts[id] > 0) logits[id] -= counts[id] * frequency + presence;
      counts[id] = 0;
    }
  };
}

/** Masks each token that would end an n-gram which is in the history already. */
function maskRepeatedNgrams(logits: Float32Array, tokens: readonly number[], size: number): void {
  const open = tokens.length - (size - 1);
  for (let start = 0; start < open; start++) {
    let same = 0;
    while (same < size - 1 && tokens[start + same] === tokens[open + same]) same++;
    if (same === size - 1) logits[tokens[start + same]] = Number.NEGATIVE_INFINITY;
  }
}

function divide(logits: Float32Array, temperature: number): void {
  // Quotients beyond f32 would all be infinite. Without the maximum the probabilities are the same.
  const max = temperature < 1e-30 ? maximum(logits) : 0;
  const shift = Number.isFinite(max) ? max : 0;
  for (let id = 0; id < logits.length; id++) logits[id] = (logits[id] - shift) / temperature;
}

/** A processor of the caller, and the checks of what it did. */
function checked(op: string, name: string, process: LogitsProcessor): LogitsProcessor {
  return (logits, tokens) => {
    // A copy: what the caller does to it must not change the history.
    const returned: unknown = process(logits, [...tokens]);
    // A function that is async or gives new logits would be without effect.
    if (typeof returned === 'object' && returned !== null && returned !== logits) {
      throw new TypeError(
        `${op}: expected ${name} to change the logits in place, got a function that returns ${describe(returned)}`,
      );
    }
    for (let id = 0; id < logits.length; id++) {
      if (Number.isNaN(logits[id])) {
        throw new RangeError(`${op}: expected numbers after ${name}, got NaN as the logit of token ${id}`);
      }
    }
  };
}

function checkRanges(op: string, options: SamplingOptions, { maxNewTokens }: SamplingContext): void {
  const rule = (name: keyof SamplingOptions, expected: string, holds: (value: number) => boolean): void => {
    const value = options[name] as number | undefined;
    if (value === undefined || holds(value)) return;
    throw new RangeError(`${op}: expected ${name} ${expected}, got ${value}`);
  };
  const isWhole = Number.isSafeInteger;
  rule('temperature', '>= 0', (value) => value >= 0 && Number.isFinite(value));
  rule('topK', 'to be a positive integer', (value) => isWhole(value) && value >= 1);
  rule('topP', 'in (0, 1]', (value) => value > 0 && value <= 1);
  rule('minP', 'in [0, 1]', (value) => value >= 0 && value <= 1);
  rule('typicalP', 'in (0, 1]', (value) => value > 0 && value <= 1);
  rule('repetitionPenalty', '> 0', (value) => value > 0 && Number.isFinite(value));
  rule('presencePenalty', 'in [-2, 2]', (value) => value >= -2 && value <= 2);
  rule('frequencyPenalty', 'in [-2, 2]', (value) => value >= -2 && value <= 2);
  rule('noRepeatNgramSize', 'to be a non-negative integer', (value) => isWhole(value) && value >= 0);
  rule('minNewTokens', 'to be a non-negative integer', (value) => isWhole(value) && value >= 0);
  rule('minNewTokens', `up to maxNewTokens, which is ${maxNewTokens}`, (value) => value <= maxNewTokens);
}

/** @throws TypeError for options of a draw without a temperature: they would have no effect. */
function checkDraws(op: string, options: SamplingOptions): void {
  if (options.temperature !== undefined) return;
  const name = (['topK', 'topP', 'minP', 'typicalP'] as const).find((key) => options[key] !== undefined);
  if (name === undefined) return;
  throw new TypeError(
    `${op}: expected a temperature beside ${name}, got none; temperature: 1 draws as the model says, 0 takes the likeliest token`,
  );
}

function biasEntries(
  op: string,
  bias: Readonly<Record<number, number>>,
  vocabSize: number,
): readonly (readonly [id: number, value: number])[] {
  return Object.entries(bias).map(([key, value]) => {
    const id = Number(key);
    if (!Number.isInteger(id) || id < 0 || id >= vocabSize || String(id) !== key) {
      throw new RangeError(`${op}: expected token ids below ${vocabSize} in logitBias, got ${key}`);
    }
    if (Number.isNaN(value) || value === Number.POSITIVE_INFINITY) {
      throw new RangeError(`${op}: expected logitBias of token ${id} below Infinity, got ${value}`);
    }
    return [id, value] as const;
  });
}

/** @throws TypeError unless `value` is a plain object of numbers: a Map would be read as empty. */
function numbersById(op: string, name: string, value: Readonly<Record<number, number>>): void {
  const kind = `${op}: expected ${name} to be an object of numbers by token id, got`;
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) {
    throw new TypeError(`${kind} ${describe(value)}`);
  }
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== null && prototype.constructor !== Object) {
    throw new TypeError(`${kind} ${describe(value)}`);
  }
  for (const [id, bias] of Object.entries(value)) {
    if (typeof bias !== 'number') throw new TypeError(`${kind} ${describe(bias)} for ${id}`);
  }
}

function listOfFunctions(op: string, name: string, value: readonly LogitsProcessor[]): void {
  const kind = `${op}: expected ${name} to be an array of functions, got`;
  if (!Array.isArray(value)) throw new TypeError(`${kind} ${describe(value)}`);
  for (const item of value) {
    if (typeof item !== 'function') throw new TypeError(`${kind} ${describe(item)} in it`);
  }
}
