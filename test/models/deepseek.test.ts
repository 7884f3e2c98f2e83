/**
 * Latent attention in the decoder: its cache in every kind and storage type, and what files may contain.
 * families.test.ts compares the logits.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { CacheDType } from '../../src/cache/index.ts';
import { openCheckpoint } from '../../src/checkpoint/index.ts';
import { convertCheckpoint } from '../../src/convert/index.ts';
import { valueAndGrad } from '../../src/index.ts';
import { loadModel } from '../../src/models/index.ts';
import { loadTrainableModel } from '../../src/models/trainable-model.ts';
import { causalLmLoss } from '../../src/train/index.ts';
import { copyTiny, type Json, removeCheckpoints } from './checkpoints.ts';
import { BACKENDS, expectClose, GOLDEN, Golden } from './golden.ts';

afterAll(removeCheckpoints);

const NAME = 'tiny-deepseek/v3-dense';
const [LATENT, ROPE, LAYERS] = [22, 6, 2];
/** What a storage may do to logits of size 6. */
const TOLERANCES: Readonly<Record<CacheDType, number>> = { f32: 2e-5, f16: 3e-3, bf16: 3e-2, q8_0: 5e-2 };
const BYTES: Readonly<Record<CacheDType, number>> = { f32: 28 * 4, f16: 28 * 2, bf16: 28 * 2, q8_0: 34 };

describe.each(BACKENDS)('%s', (backend) => {
  const kinds = [{}, { kind: 'paged', blockSize: 4 } as const, { kind: 'window', window: 40 } as const];
  const cases = kinds.flatMap((options) => Object.keys(TOLERANCES).map((dtype) => ({ ...options, dtype })));
  test.each(cases)(
    'a cache of $kind $dtype holds latent + rope values, and gives the logits',
    async (options) => {
      const dtype = options.dtype as CacheDType;
      const model = await loadModel(join(GOLDEN, NAME), { backend });
      const golden = await Golden.open(NAME);
      const rows = golden.rows('tokens');
      const cache = model.initCache({ ...options, dtype, batchSize: 2, maxLength: 32 });
      expect(LATENT + ROPE).toBe(28);
      expect(cache.bytes).toBe(2 * 32 * LAYERS * BYTES[dtype]);
      const want = golden.floats('logits');
      const V = model.config.vocabSize;
      for (const [from, to] of [
        [0, 11],
        [11, 12],
        [12, 28],
        [28, 29],
      ]) {
        const pass = model.forward(
          rows.map((row) => row.slice(from, to)),
          { cache },
        );
        const got = pass.dataSync() as Float32Array;
        const width = (to - from) * V;
        rows.forEach((_, row) => {
          const expected = want.slice((row * 29 + from) * V, (row * 29 + to) * V);
          expectClose(got.slice(row * width, (row + 1) * width), expected, TOLERANCES[dtype], `from ${from}`);
        });
        pass.dispose();
      }
      cache.dispose();
      model.dispose();
    },
  );
});

test('keys and values of different storage are refused', async () => {
  const model = await loadModel(join(GOLDEN, NAME), { backend: 'reference' });
  expect(() => model.initCache({ batchSize: 1, maxLength: 3, dtype: { key: 'f32', value: 'f16' } })).toThrow(
    'StaticCache: expected one dtype for latent rows, got f32 and f16',
  );
  model.dispose();
});

test('there is nothing to pool', async () => {
  const to = join(GOLDEN, 'never-written');
  await expect(convertCheckpoint({ from: join(GOLDEN, NAME), to, numKeyValueHeads: 1 })).rejects.toThrow(
    'convert: expected key/value heads to pool, got multi-head latent attention: its N=5 heads already share one latent of 22 values and one rope key of 6 per token',
  );
});

test('it trains, and stores both halves of kv_b_proj as one tensor again', async () => {
  const model = await loadTrainableModel(join(GOLDEN, NAME), { backend: 'reference' });
  const tokens = (await Golden.open(NAME)).rows('tokens');
  const [, gradients] = valueAndGrad((m: typeof model) => causalLmLoss(m, tokens))(model) as unknown as [
    unknown,
    Record<string, { dataSync(): Float32Array }>,
  ];
  const up = 'model.layers.0.self_attn.kv_b_proj.weight';
  for (const part of ['[0:14:25]', '[14:25:25]']) {
    expect(gradients[up + part].dataSync().some((value) => value !== 0)).toBe(true);
  }
  await using checkpoint = await openCheckpoint(join(GOLDEN, NAME));
  const stored = model.storedTensors();
  expect(Object.keys(stored).sort()).toEqual([...checkpoint.tensors.keys()].sort());
  for (const [name, { shape, data }] of Object.entries(stored)) {
    expect(shape).toEqual(checkpoint.tensor(name).shape);
    const bytes = Buffer.concat([...(data as () => Iterable<Uint8Array>)()]);
    expect(bytes.equals(await checkpoint.readBytes(name)), name).toBe(true);
  }
  model.dispose();
});

test('the bias that experts are chosen by is stored, but no parameter', async () => {
  const model = await loadTrainableModel(join(GOLDEN, 'tiny-deepseek/v3'), { backend: 'reference' });
  const biases = (names: Iterable<string>) =>
    [...names].filter((name) => name.endsWith('.e_score_correction_bias'));
  expect(biases(Object.keys(model.storedTensors())).length).toBeGreaterThan(0);
  expect(biases(model.parameters().keys())).toEqual([]);
  model.dispose();
});

const attention = 'model.layers.0.self_attn';
test.each<[string, Json, string]>([
  [
    'another latent',
    { kv_lora_rank: 24 },
    `expected tensor ${attention}.kv_b_proj.weight of shape [125, 24], got [125, 22]`,
  ],
  [
    'other value dims',
    { v_head_dim: 12 },
    `expected tensor ${attention}.kv_b_proj.weight of shape [130, 22], got [125, 22]`,
  ],
  [
    'a latent for queries that have none',
    { q_lora_rank: 13 },
    `expected tensor ${attention}.q_a_proj.weight of shape [13, 35], got none of that name`,
  ],
  [
    'no biases where there are some',
    { attention_bias: false },
    `expected no such bias by the config, got ${attention}.kv_a_proj_with_mqa.bias of shape [28]`,
  ],
  ['another activation', { hidden_act: 'prelu' }, 'linear, got "prelu"'],
])('%s', async (_, changes, message) => {
  await expect(loadModel(copyTiny(NAME, changes), { backend: 'reference' })).rejects.toThrow(message);
});

test.each<[string, (bytes: Buffer) => unknown, string]>([
  [
    'without the experts of a layer',
    (bytes) => bytes.write('x', bytes.indexOf('blk.1.ffn_up_exps')),
    'blk.1.ffn_up_exps.weight',
  ],
  [
    'with another rank',
    (bytes) => {
      const key = 'deepseek2.attention.kv_lora_rank';
      bytes.writeUInt32LE(21, bytes.indexOf(key) + key.length + 4);
    },
    'expected tensor blk.0.attn_k_b.weight of shape [5, 21, 14], got [5, 22, 14]',
  ],
])('a GGUF %s', async (_, change, message) => {
  const bytes = readFileSync(join(GOLDEN, 'tiny-deepseek/v3.gguf'));
  change(bytes);
  const path = join(copyTiny(NAME), 'changed.gguf');
  writeFileSync(path, bytes);
  await expect(loadModel(path, { backend: 'reference' })).rejects.toThrow(message);
});
