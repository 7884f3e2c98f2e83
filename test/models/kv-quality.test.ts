/**
 * The cost of an 8-bit cache for SmolLM2: perplexity of a text, token by token through the cache, against an
 * f32 cache.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import type { CacheStorage } from '../../src/cache/index.ts';
import { loadModel, type Model } from '../../src/models/index.ts';
import { SMOLLM2 } from './golden.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Plain English that is in the repository and does not change: part of Moby-Dick. */
const TEXT = readFileSync(join(root, 'demo/moby-dick.txt'), 'utf8').slice(0, 8192);
const TOKENS = 1024;
const CHUNK = 64;

/**
 * exp of the mean of -ln p(token t + 1 | tokens up to t); what a chunk's queries read of earlier chunks comes
 * from the cache.
 */
function perplexity(model: Model, tokens: readonly number[], dtype: CacheStorage): number {
  const cache = model.initCache({ batchSize: 1, maxLength: tokens.length, dtype });
  const V = model.config.vocabSize;
  let sum = 0;
  for (let at = 0; at < tokens.length - 1; at += CHUNK) {
    const chunk = tokens.slice(at, Math.min(at + CHUNK, tokens.length - 1));
    const out = model.forward([chunk], { cache });
    const logits = out.dataSync() as Float32Array;
    out.dispose();
    for (let t = 0; t < chunk.length; t++) {
      const row = logits.subarray(t * V, (t + 1) * V);
      let most = -Infinity;
      for (const x of row) most = Math.max(most, x);
      let total = 0;
      for (const x of row) total += Math.exp(x - most);
      sum += most + Math.log(total) - row[tokens[at + t + 1]];
    }
  }
  cache.dispose();
  return Math.exp(sum / (tokens.length - 1));
}

test.skipIf(SMOLLM2 === undefined)('perplexity over an 8-bit cache is within 0.5 % of f32', async () => {
  const model = await loadModel(SMOLLM2 as string);
  const tokens = (model.tokenizer?.encode(TEXT) ?? []).slice(0, TOKENS);
  const base = perplexity(model, tokens, 'f32');
  const shown = [`f32 ${base.toFixed(4)}`];
  for (const dtype of ['bf16', 'f16', 'q8_0'] as const) {
    const value = perplexity(model, tokens, dtype);
    shown.push(`${dtype} ${value.toFixed(4)} (${(100 * (value / base - 1)).toFixed(3)} %)`);
    expect(Math.abs(value / base - 1), dtype).toBeLessThan(0.005);
  }
  console.log(`perplexity of ${tokens.length} tokens: ${shown.join(', ')}`);
  model.dispose();
});
