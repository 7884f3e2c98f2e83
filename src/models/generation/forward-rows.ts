/** Forward passes of generation: a prompt in chunks, and one pass over the next tokens of several rows. */
import type { KeyValueCache } from '../../cache/cache.ts';
import { JoinedCache } from '../../cache/joined-cache.ts';
import { FEW_ROWS } from '../../ops/linear.ts';
import { eventLoopTurn } from '../../tensor/event-loop.ts';
import type { Model } from '../model.ts';
import { splitIntoPasses } from '../token-batch.ts';

/** How a prompt is fed. */
export interface PrefillOptions {
  /** Tokens per forward pass; by default enough to keep the kernels busy. */
  readonly prefillChunkSize?: number;
  readonly signal?: AbortSignal;
}

/** Tokens for one row, at least one, and its cache. */
export interface Feed {
  readonly cache: KeyValueCache;
  readonly tokens: readonly number[];
}

/**
 * Feeds a prompt. Its chunks are passes of one row, so that its bits do not depend on other prompts.
 * @param onChunk called after each chunk with the number of tokens fed
 * @throws the signal's reason between chunks
 * @returns logits `[V]` after the last token
 */
export async function prefill(
  model: Model,
  { cache, tokens }: Feed,
  { prefillChunkSize = 256, signal }: PrefillOptions,
  onChunk?: (done: number) => void,
): Promise<Float32Array> {
  let logits: Float32Array = new Float32Array();
  for (let fed = 0; fed < tokens.length; ) {
    if (fed > 0) {
      await eventLoopTurn();
      signal?.throwIfAborted();
    }
    const chunk = tokens.slice(fed, fed + prefillChunkSize);
    [[logits]] = await forwardRows(model, [{ cache, tokens: chunk }], 'last');
    fed += chunk.length;
    onChunk?.(fed);
  }
  return logits;
}

/**
 * Feeds several rows, in passes in which no row depends on the others (at most `FEW_ROWS` tokens, or one row).
 * @returns per row the logits `[V]` after each of its tokens, or (`last`) after the last one only
 */
export async function forwardRows(
  model: Model,
  feeds: readonly Feed[],
  wanted: 'all' | 'last' = 'all',
): Promise<Float32Array[][]> {
  const all: Float32Array[][] = [];
  for (const rows of splitIntoPasses(feeds, ({ tokens }) => tokens.length, FEW_ROWS)) {
    all.push(...(await forwardPass(model, rows, wanted)));
  }
  return all;
}

async function forwardPass(
  model: Model,
  feeds: readonly Feed[],
  wanted: 'all' | 'last',
): Promise<Float32Array[][]> {
  const caches = feeds.map(({ cache }) => cache);
  const cache = caches.length === 1 ? caches[0] : new JoinedCache(caches);
  const logits = model.forward(
    feeds.map(({ tokens }) => tokens),
    { cache, logits: wanted },
  );
  try {
    const values = (await logits.data()) as Float32Array;
    const [, T, V] = logits.shape;
    const at = (row: number, t: number) => values.subarray((row * T + t) * V, (row * T + t + 1) * V);
    return feeds.map(({ tokens }, row) =>
      Array.from({ length: wanted === 'last' ? 1 : tokens.length }, (_, t) => at(row, t)),
    );
  } finally {
    logits.dispose();
  }
}
