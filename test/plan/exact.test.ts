/** `exact` equals the bytes that our caches allocate: every family, every storage type, static and paged. */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { CacheStorage } from '../../src/cache/index.ts';
import { loadModel } from '../../src/models/index.ts';
import { planKvCache, readModelShape } from '../../src/plan/index.ts';
import { BACKENDS, GOLDEN, SMOLLM2 } from '../models/golden.ts';
import { tinyCheckpoints } from './tiny-checkpoints.ts';

/** Every tiny model of every family, as folder and as GGUF file. */
const CHECKPOINTS = tinyCheckpoints();
const STORAGES: readonly CacheStorage[] = ['f32', 'f16', 'bf16', 'q8_0', { key: 'q8_0', value: 'bf16' }];

describe.each(BACKENDS)('%s', (backend) => {
  test.each(CHECKPOINTS)('%s', async (name) => {
    const path = join(GOLDEN, name);
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
