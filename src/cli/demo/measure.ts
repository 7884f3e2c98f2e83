/** Measurements of `gqa demo`: a model's loss on a text, a sample, and its decode speed. */

import type { KeyValueCache } from '../../cache/cache.ts';
import { generate } from '../../models/generation/generate.ts';
import { loadModel } from '../../models/load-model.ts';
import type { Model } from '../../models/model.ts';
import { eventLoopTurn } from '../../tensor/event-loop.ts';
import type { Tokenizer } from '../../text/tokenizer.ts';
import { evaluateTokens } from '../../train/evaluate-text.ts';

export const PROMPT = 'The whale ';
const SAMPLE = { maxNewTokens: 220, temperature: 0.6, topK: 20, seed: 7 };
/**
 * Rounds of the decode benchmark; each times all models in turn. The fastest counts, since other load only
 * slows.
 */
const ROUNDS = 9;
/** Tokens decoded per sequence and round. */
const ROUND_TOKENS = 8;

/** Opens a model with f32 weights for `use`. */
export async function withModel<T>(path: string, use: (model: Model) => Promise<T>): Promise<T> {
  const model = await loadModel(path, { dtype: 'f32' });
  try {
    return await use(model);
  } finally {
    model.dispose();
  }
}

/** Loss on a text in windows of the model's context, as in `gqa eval`. */
export async function lossOf(model: Model, text: string, signal: AbortSignal): Promise<number> {
  await eventLoopTurn();
  signal.throwIfAborted();
  const tokens = tokenizerOf(model).encode(text, { addSpecialTokens: false });
  return evaluateTokens(model, tokens, { context: model.config.maxPositionEmbeddings }).loss;
}

/** A continuation of a fixed prompt, the same each time. */
export async function sampleOf(model: Model, signal: AbortSignal): Promise<string> {
  const tokenizer = tokenizerOf(model);
  const tokens: number[] = [];
  const prompt = tokenizer.encode(PROMPT, { addSpecialTokens: false });
  for await (const token of generate(model, prompt, { ...SAMPLE, signal })) tokens.push(token);
  return tokenizer.decode(tokens);
}

export interface DecodeOptions {
  /** Sequences per batch. */
  readonly batchSize: number;
  /** Tokens cached per sequence at the end. */
  readonly contextLength: number;
  /** The cached tokens. */
  readonly text: string;
  readonly signal: AbortSignal;
}

/**
 * Tokens per second of each model, all sequences together, with f32 weights and caches that are almost full.
 */
export async function decodeSpeeds(paths: readonly string[], options: DecodeOptions): Promise<number[]> {
  const { batchSize, contextLength, text, signal } = options;
  const models: Model[] = [];
  const caches: KeyValueCache[] = [];
  try {
    const start = contextLength - ROUND_TOKENS;
    let rows: number[][] = [];
    for (const path of paths) {
      const model = await loadModel(path, { dtype: 'f32' });
      models.push(model);
      const cache = model.initCache({ batchSize, maxLength: contextLength });
      caches.push(cache);
      const tokens = tokenizerOf(model).encode(text.slice(0, batchSize * contextLength), {
        addSpecialTokens: false,
      });
      rows = Array.from({ length: batchSize }, (_, row) =>
        tokens.slice(row * contextLength).slice(0, contextLength),
      );
      model
        .forward(
          rows.map((row) => row.slice(0, start)),
          { cache, logits: 'last' },
        )
        .dispose();
      await eventLoopTurn();
      signal.throwIfAborted();
    }
    const rates = paths.map(() => 0);
    for (let round = 0; round < ROUNDS; round++) {
      for (const [i, model] of models.entries()) {
        rates[i] = Math.max(rates[i], decodeRound(model, caches[i], rows, start));
        await eventLoopTurn();
        signal.throwIfAborted();
      }
    }
    return rates;
  } finally {
    for (const cache of caches) cache.dispose();
    for (const model of models) model.dispose();
  }
}

/** Decodes the last tokens of each row one by one, as generation does. @returns tokens per second */
function decodeRound(
  model: Model,
  cache: KeyValueCache,
  rows: readonly (readonly number[])[],
  start: number,
): number {
  rows.forEach((_, row) => {
    cache.truncate(row, start);
  });
  const begin = performance.now();
  for (let at = start; at < start + ROUND_TOKENS; at++) {
    const logits = model.forward(
      rows.map((row) => [row[at]]),
      { cache, logits: 'last' },
    );
    logits.dataSync();
    logits.dispose();
  }
  return (rows.length * ROUND_TOKENS) / ((performance.now() - begin) / 1000);
}

function tokenizerOf(model: Model): Tokenizer {
  const { tokenizer } = model;
  if (tokenizer === undefined) throw new Error('demo: expected a model with a tokenizer');
  return tokenizer;
}
