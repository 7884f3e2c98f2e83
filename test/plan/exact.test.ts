/** `exact` equals the bytes that our caches allocate: every family, every storage type, static and paged. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { CacheStorage } from '../../src/cache/index.ts';
import { loadModel } from '../../src/models/index.ts';
import { planKvCache, readModelShape } from '../../src/plan/index.ts';
import { BACKENDS, GOLDEN, SMOLLM2 } from '../models/golden.ts';

const CHECKPOINTS = [
  ...['tiny-llama/mha', 'tiny-llama/gqa-tied', 'tiny-llama/mqa', 'tiny-llama/head-dim'],
  ...['tiny-mistral/window', 'tiny-mistral/window.gguf', 'tiny-mistral/plain', 'tiny-qwen2/plain'],
  ...['tiny-qwen2/window', 'tiny-qwen3/plain', 'tiny-qwen3/window', 'tiny-phi3/plain', 'tiny-phi3/window'],
  ...['tiny-phi3/longrope', 'tiny-gpt2/prefix', 'tiny-gpt2/prefix.gguf', 'tiny-phi3/partial.gguf'],
  ...['tiny-gemma2/plain', 'tiny-gemma2/plain.gguf', 'tiny-gemma3/plain', 'tiny-gemma3/plain.gguf'],
  ...['tiny-gemma3/options', 'tiny-gemma3/images', 'tiny-starcoder2/plain', 'tiny-starcoder2/plain.gguf'],
  ...['tiny-starcoder2/window', 'tiny-falcon/7b', 'tiny-falcon/7b.gguf', 'tiny-falcon/40b'],
  ...['tiny-falcon/40b.gguf', 'tiny-falcon/11b', 'tiny-falcon/11b.gguf', 'tiny-falcon/sequential'],
  ...['tiny-gpt_bigcode/one', 'tiny-gpt_bigcode/one.gguf', 'tiny-gpt_bigcode/many'],
  ...['tiny-gpt_oss/plain', 'tiny-gpt_oss/plain.gguf', 'tiny-gpt_oss/options'],
  ...['tiny-deepseek/v2-dense', 'tiny-deepseek/v2-lite', 'tiny-deepseek/v3'],
  ...['tiny-smollm3/plain', 'tiny-smollm3/options', 'tiny-smollm3/plain.gguf', 'tiny-mixtral/plain'],
  ...['tiny-mixtral/window', 'tiny-mixtral/plain.gguf', 'tiny-qwen3_moe/plain', 'tiny-qwen3_moe/options'],
  ...['tiny-qwen3_moe/plain.gguf', 'tiny-olmo2/plain', 'tiny-olmo2/grouped', 'tiny-olmo2/plain.gguf'],
  ...['tiny-olmo/plain', 'tiny-olmo/clip', 'tiny-olmo/clip.gguf', 'tiny-olmo3/plain'],
  ...['tiny-olmo3/yarn', 'tiny-olmo3/plain.gguf', 'tiny-olmo3/yarn.gguf', 'tiny-granite/plain'],
  ...['tiny-granite/options', 'tiny-granite/options.gguf', 'tiny-gpt_neox/plain', 'tiny-gpt_neox/sequential'],
  ...['tiny-gpt_neox/plain.gguf', 'tiny-opt/plain', 'tiny-opt/options', 'tiny-phi/plain'],
  ...['tiny-phi/grouped', 'tiny-phi/plain.gguf', 'tiny-stablelm/plain', 'tiny-stablelm/parallel'],
  ...['tiny-stablelm/parallel.gguf', 'tiny-gemma/plain', 'tiny-gemma/many', 'tiny-gemma/plain.gguf'],
  ...['tiny-glm4/plain', 'tiny-glm4/options', 'tiny-glm4/plain.gguf', 'tiny-cohere2/plain'],
  ...['tiny-cohere2/options', 'tiny-cohere2/plain.gguf', 'tiny-ernie4_5/plain', 'tiny-ernie4_5/biases'],
  ...['tiny-ernie4_5/plain.gguf', 'tiny-exaone4/plain', 'tiny-exaone4/full', 'tiny-exaone4/plain.gguf'],
  ...[
    'tiny-exaone4/full.gguf',
    'tiny-ministral3/plain',
    'tiny-ministral3/plain.gguf',
    'tiny-hunyuan_v1_dense/plain',
  ],
  ...[
    'tiny-hunyuan_v1_dense/alpha',
    'tiny-hunyuan_v1_dense/plain.gguf',
    'tiny-seed_oss/plain',
    'tiny-seed_oss/biases',
  ],
  ...['tiny-seed_oss/plain.gguf', 'tiny-nanochat/plain', 'tiny-nanochat/grouped', 'tiny-arcee/plain'],
  ...['tiny-arcee/biases', 'tiny-arcee/plain.gguf', 'tiny-apertus/plain', 'tiny-apertus/biases'],
  ...['tiny-apertus/plain.gguf'],
];
const STORAGES: readonly CacheStorage[] = ['f32', 'f16', 'bf16', 'q8_0', { key: 'q8_0', value: 'bf16' }];

describe.each(BACKENDS)('%s', (backend) => {
  test.each(CHECKPOINTS)('%s', async (name) => {
    const path = join(GOLDEN, name);
    expect(existsSync(path)).toBe(true);
    const shape = await readModelShape(path);
    const model = await loadModel(path, { backend });
    for (const kvDtype of STORAGES) {
      // Latent rows are keys and values at once.
      if (model.config.latent && typeof kvDtype !== 'string') continue;
      for (const [batchSize, contextLength] of [
        [1, 1],
        [3, 5],
        [2, 29],
      ]) {
        const options = { contextLength, batchSize, kvDtype, runtime: 'exact' } as const;
        const cache = model.initCache({ batchSize, maxLength: contextLength, dtype: kvDtype });
        expect(cache.bytes).toBe(planKvCache(shape, options).totalBytes);
        cache.dispose();
        const paged = model.initCache({
          kind: 'paged',
          batchSize,
          maxLength: contextLength,
          dtype: kvDtype,
          blockSize: 4,
        });
        expect(paged.bytes).toBe(planKvCache(shape, { ...options, blockSize: 4 }).totalBytes);
        paged.dispose();
      }
    }
    model.dispose();
  });
});

test.skipIf(SMOLLM2 === undefined)('SmolLM2', async () => {
  const path = SMOLLM2 as string;
  const model = await loadModel(path);
  for (const kvDtype of STORAGES) {
    const cache = model.initCache({ batchSize: 2, maxLength: 777, dtype: kvDtype });
    expect(cache.bytes).toBe(
      planKvCache(await readModelShape(path), { contextLength: 777, batchSize: 2, kvDtype }).totalBytes,
    );
    expect(cache.bytes).toBe(
      planKvCache('smollm2-135m', { contextLength: 777, batchSize: 2, kvDtype }).totalBytes,
    );
    cache.dispose();
  }
  model.dispose();
});
