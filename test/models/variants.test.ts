/**
 * Tiny checkpoints with other config keys (activations, dynamic and YaRN scaling) or other stored weights (an
 * untied head beside a tied table, the table under the head's name, names without a prefix), against
 * transformers.
 */
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest';
import { open } from '../../src/backend/registry.ts';
import {
  loadTensor,
  openCheckpoint,
  type TensorBytes,
  writeSafetensors,
} from '../../src/checkpoint/index.ts';
import { loadModel, type Model } from '../../src/models/index.ts';
import { copyTiny, removeCheckpoints } from './checkpoints.ts';
import { BACKENDS, expectClose, GOLDEN, Golden } from './golden.ts';
import { caseNamed, cases, places, variant } from './variants.ts';

const TOLERANCE = 2e-5;

afterAll(removeCheckpoints);
const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
afterEach(() => warn.mockClear());

describe.each(BACKENDS)('%s', (backend) => {
  test.each(cases.map((one) => [one.name, one] as const))('%s', async (name, one) => {
    const golden = await Golden.open('checkpoint-variants');
    const tokens = golden.ids(`${name}/tokens`);
    const model = await loadModel(await variant(one), { backend });
    try {
      const V = model.config.vocabSize;
      const logits = model.forward([tokens]);
      const flat = logits.dataSync() as Float32Array;
      logits.dispose();
      const picked = places.flatMap((at) => [...flat.slice(at * V, (at + 1) * V)]);
      expectClose(picked, golden.floats(`${name}/logits`), TOLERANCE, name);
      expect(warn).toHaveBeenCalledTimes(one.stored === 'rolled' ? 1 : 0);
      if (one.cachedDifference !== undefined)
        decodesAsWholePasses(model, tokens, golden.floats(`${name}/last`));
    } finally {
      model.dispose();
    }
  });
});

/**
 * Fed one by one, in pieces over the original length of 12, and beside a shorter row, every token has its
 * whole pass's logits.
 */
function decodesAsWholePasses(model: Model, tokens: readonly number[], last: Float32Array): void {
  const V = model.config.vocabSize;
  const want = (length: number) => last.slice((length - 1) * V, length * V);
  for (const chunk of [1, 5, 20]) {
    const cache = model.initCache({ batchSize: 2, maxLength: tokens.length });
    for (let at = 0; at < tokens.length; at += chunk) {
      const end = Math.min(tokens.length, at + chunk);
      const short = Math.max(1, Math.floor((end - at) / 2));
      const begun = cache.lengths[1];
      const rows = [tokens.slice(at, end), tokens.slice(begun, begun + short)];
      const logits = model.forward(rows, { cache, logits: 'last' });
      const flat = logits.dataSync() as Float32Array;
      logits.dispose();
      expectClose(flat.slice(0, V), want(end), TOLERANCE, `${end} tokens`);
      expectClose(flat.slice(V), want(begun + short), TOLERANCE, `${begun + short} tokens beside`);
    }
    expect(cache.lengths[0]).toBe(tokens.length);
    cache.dispose();
  }
}

test('a context stretched by dynamic scaling or YaRN is as long as its factor makes it', async () => {
  const contexts = await Promise.all(
    ['llama dynamic', 'llama yarn', 'qwen2 yarn'].map(async (name) => {
      const model = await loadModel(await variant(caseNamed(name)));
      model.dispose();
      return model.config.maxPositionEmbeddings;
    }),
  );
  expect(contexts).toEqual([12 * 2.5, 256, 64]);
});

test('a table stored under two names warns of nothing, one that differs says how to say so', async () => {
  (await loadModel(await variant(caseNamed('llama both')))).dispose();
  expect(warn).not.toHaveBeenCalled();
  (await loadModel(await variant(caseNamed('llama rolled')))).dispose();
  expect(String(warn.mock.calls[0][0])).toMatch(
    /lm_head\.weight differs from model\.embed_tokens\.weight, so they are not tied; set tie_word_embeddings to false/,
  );
});

test('a model saved without its head is refused where the head is its own', async () => {
  const folder = copyTiny('mha');
  await using checkpoint = await openCheckpoint(folder);
  const backend = open('reference');
  const tensors = Object.fromEntries(
    [...checkpoint.tensors.keys()]
      .filter((name) => name !== 'lm_head.weight')
      .map((name) => [name.replace(/^model\./, ''), loadTensor(checkpoint, name, { backend })]),
  );
  await writeSafetensors(join(folder, 'model.safetensors'), tensors);
  await expect(loadModel(folder)).rejects.toThrow(
    /expected lm_head.weight, since the embeddings are not tied, got none of that name: a base model is saved without its head/,
  );
});

describe.each(BACKENDS)('f64 weights on %s', (backend) => {
  /** The folder's weights as f64, each a little more than its f32 number. */
  async function wider(name: string): Promise<string> {
    const folder = copyTiny(name);
    await using checkpoint = await openCheckpoint(folder);
    const tensors: Record<string, TensorBytes> = {};
    for (const [key, { shape, dtype }] of checkpoint.tensors) {
      const values = loadTensor(checkpoint, key, { backend: open('reference') });
      const data = Float64Array.from(values.dataSync(), (value) => Number(value) * (1 + 2 ** -30));
      tensors[key] =
        dtype === 'f32'
          ? { dtype: 'f64', shape, data }
          : { dtype, shape, data: await checkpoint.readBytes(key) };
    }
    await writeSafetensors(join(folder, 'model.safetensors'), tensors);
    return folder;
  }

  test.each(['tiny-llama/mqa', 'tiny-gpt2/prefix', 'tiny-falcon/40b', 'tiny-deepseek/v3'])(
    '%s: the f32 nearest to each, so the same logits',
    async (name) => {
      const folder = await wider(name);
      for (const dtype of [undefined, 'bf16'] as const) {
        const [narrow, wide] = await Promise.all(
          [join(GOLDEN, name), folder].map((path) => loadModel(path, { backend, dtype })),
        );
        const [want, got] = [narrow, wide].map((model) => model.forward([[3, 1, 4, 1, 5]]).dataSync());
        expect(got).toEqual(want);
        narrow.dispose();
        wide.dispose();
      }
    },
  );

  test('a tensor of them is asked for as another type', async () => {
    const path = join(copyTiny('mha'), 'f64.safetensors');
    await writeSafetensors(path, {
      w: { dtype: 'f64', shape: [2], data: Float64Array.of(1 + 2 ** -11 + 2 ** -40, 0.1) },
    });
    await using checkpoint = await openCheckpoint(path);
    const load = (dtype?: 'f16' | 'f32') => loadTensor(checkpoint, 'w', { backend: open(backend), dtype });
    expect(Array.from(load('f32').dataSync())).toEqual([1 + 2 ** -11, Math.fround(0.1)]);
    expect(load('f16').dataSync()[1]).toBe(0.0999755859375); // NumPy
    if (backend === 'reference') expect(load().dtype).toBe('f64');
    else expect(() => load()).toThrow('ask for it as f32, f16 or bf16');
  });
});
