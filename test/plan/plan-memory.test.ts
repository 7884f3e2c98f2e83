/** Weights by kind, memory in all, what fits, and tokens per second. */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openCheckpoint } from '../../src/checkpoint/index.ts';
import { countWeights } from '../../src/plan/count-weights.ts';
import {
  fitMemory,
  listDevices,
  listPresets,
  planKvCache,
  planMemory,
  planSpeed,
  preset,
  readModelShape,
  readModelWeights,
} from '../../src/plan/index.ts';
import { withFolder } from '../checkpoint/temporary-folder.ts';
import { GOLDEN } from '../models/golden.ts';
import { tinyCheckpoints } from './tiny-checkpoints.ts';

const sum = (groups: readonly { readonly bytes: number; readonly parameters: number }[]) =>
  groups.reduce((total, { bytes, parameters }) => [total[0] + bytes, total[1] + parameters], [0, 0]);

const asGroup = (parameters: number) => ({ bytes: 0, parameters });

/** Parameters as the models' cards and files state them. */
test.each([
  ['gpt2', 124_439_808],
  ['falcon-7b', 6_921_720_704],
  ['starcoder2-3b', 3_030_371_328],
  ['llama-3-8b', 8_030_261_248],
  ['llama-3.2-1b', 1_235_814_400],
  ['mixtral-8x7b', 46_702_792_704],
  ['qwen3-30b-a3b', 30_532_122_624],
  ['gemma-2-2b', 2_614_341_888],
  ['smollm2-135m', 134_515_008],
  ['deepseek-v2-lite', 15_706_484_224],
  ['deepseek-v3', 671_026_419_200],
  ['gpt-oss-20b', 20_914_757_184],
  ['smollm3-3b', 3_075_098_624],
  ['stablelm-3b-4e1t', 2_795_443_200],
  ['ernie-4.5-0.3b', 360_748_032],
])('%s: parameters counted from the shape are within 0.1 %%', (id, expected) => {
  const [, parameters] = sum(countWeights(preset(id).shape, 'bf16'));
  expect(Math.abs(parameters / expected - 1)).toBeLessThan(0.001);
});

/** Parameters by kind of what a shape does not state: the vision tower, and OPT's first two positions. */
const NOT_COUNTED = /^tiny-(\w+\/images|opt\/)/;

test.each(tinyCheckpoints())(
  '%s: its tensors have the kinds and sizes that its shape implies',
  async (name) => {
    const path = join(GOLDEN, name);
    const groups = (await readModelWeights(path)) as NonNullable<
      Awaited<ReturnType<typeof readModelWeights>>
    >;
    await using checkpoint = await openCheckpoint(path);
    const tensors = [...checkpoint.tensors.values()];
    expect(sum(groups)[0]).toBe(tensors.reduce((total, { byteLength }) => total + byteLength, 0));
    const shape = await readModelShape(path);
    const counted = countWeights(shape, 'f32');
    const [stored, expected] = [groups, counted].map((list) =>
      ['embedding', 'attention', 'mlp', 'experts', 'head'].map(
        (kind) => sum(list.filter((one) => one.kind === kind))[1],
      ),
    );
    if (NOT_COUNTED.test(name))
      expect(sum(stored.map(asGroup))[1]).toBeGreaterThan(sum(expected.map(asGroup))[1]);
    else {
      // xIELU has some parameters in the feed-forward layers.
      const allowed = 4 * shape.numLayers;
      for (const [i, count] of stored.entries()) {
        expect(Math.abs(count - expected[i])).toBeLessThanOrEqual(allowed);
      }
    }
  },
);

test('a folder with shards, and one with a config alone', async () => {
  const config = JSON.stringify({
    ...{ model_type: 'llama', hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2, vocab_size: 5 },
    ...{ intermediate_size: 16, max_position_embeddings: 32 },
  });
  const shard = (name: string, bytes: number) => {
    const header = JSON.stringify({ [name]: { dtype: 'F16', shape: [bytes / 2], data_offsets: [0, bytes] } });
    const length = new Uint8Array(8);
    new DataView(length.buffer).setBigUint64(0, BigInt(header.length), true);
    return Buffer.concat([length, Buffer.from(header), new Uint8Array(bytes)]);
  };
  const index = JSON.stringify({
    weight_map: { 'lm_head.weight': 'a.safetensors', 'x.norm.weight': 'b.safetensors' },
  });
  const files = {
    'alone/config.json': config,
    'whole/config.json': config,
    'whole/model.safetensors.index.json': index,
    'whole/a.safetensors': shard('lm_head.weight', 64),
    'whole/b.safetensors': shard('x.norm.weight', 8),
    'bad/config.json': config,
    'bad/model.safetensors.index.json': JSON.stringify({ weight_map: { a: '../a.safetensors' } }),
  };
  await withFolder(files, async (folder) => {
    expect(await readModelWeights(join(folder, 'alone'))).toBe(undefined);
    expect(await readModelWeights(join(folder, 'whole/config.json'))).toEqual([
      { kind: 'head', dtype: 'f16', parameters: 32, bytes: 64 },
      { kind: 'other', dtype: 'f16', parameters: 4, bytes: 8 },
    ]);
    await expect(readModelWeights(join(folder, 'bad'))).rejects.toThrow(
      /expected a weight_map of tensor names/,
    );
  });
});

describe('planMemory', () => {
  test('is frozen, adds up, and rests on the given type', () => {
    const options = { contextLength: 8192, kvDtype: 'q8_0', batchSize: 3, weights: 'q4_k' } as const;
    const plan = planMemory('llama-3-8b', options);
    expect(Object.isFrozen(plan) && Object.isFrozen(plan.weights) && Object.isFrozen(plan.activations)).toBe(
      true,
    );
    const { weights: _, ...cache } = options;
    expect(plan.kvCache).toEqual(planKvCache('llama-3-8b', cache));
    expect(plan.totalBytes).toBe(plan.weights.bytes + plan.kvCache.totalBytes + plan.activations.bytes);
    // Q4_K_M of llama.cpp: q6_k for the head, and for values and down projections of 16 of 32 layers.
    const norms = 65 * 4096;
    const longer = 128_256 * 4096 + 16 * (1024 * 4096 + 4096 * 14_336);
    const most = plan.weights.parameters - norms - longer;
    expect(plan.weights.bytes).toBe((144 / 256) * most + (210 / 256) * longer + 4 * norms);
    expect(plan.weights.basis).toMatch(/sizes of the config, llama\.cpp's q4_k mixture/);
  });

  test('ranks share weights and cache, and each has its activations', () => {
    const one = planMemory('llama-3-8b', { contextLength: 1024 });
    const two = planMemory('llama-3-8b', { contextLength: 1024, tensorParallelSize: 2 });
    expect(two.totalBytes - one.totalBytes).toBe(one.activations.bytes);
    expect(two.bytesPerRank).toBe(two.totalBytes / 2);
  });

  test('every preset has a plan', () => {
    for (const { id } of listPresets()) {
      const { totalBytes } = planMemory(id, { contextLength: 64 });
      expect(totalBytes).toBeGreaterThan(0);
    }
  });

  test('errors', () => {
    expect(() => planMemory('gpt2', { weights: 'q9' as 'q8_0' })).toThrow(
      /expected weights to be one of .* got q9/,
    );
    for (const weights of [5, null, {}, Promise.resolve([])]) {
      expect(() => planMemory('gpt2', { weights: weights as [] })).toThrow(
        /^planMemory: expected weights to be a storage type or a list of groups, got /,
      );
    }
    const weights = [{ kind: 'mlp', dtype: 'f32', parameters: 4, bytes: Number.NaN }] as const;
    expect(() => planMemory('gpt2', { weights })).toThrow(/expected weights\[0\]\.bytes to be .* got NaN/);
    expect(() => planMemory('gpt2', { weights: [7] as never })).toThrow(/weights\[0\] to be a group, got 7/);
    const shape = preset('llama-3-8b').shape;
    expect(() => planMemory({ ...shape, vocabSize: undefined })).toThrow(
      /expected vocab_size of a model whose weights are counted, got none/,
    );
    expect(() => planMemory({ ...shape, intermediateSize: undefined })).toThrow(/expected intermediate_size/);
    expect(planMemory({ ...shape, vocabSize: undefined }, { weights: [] }).weights.bytes).toBe(0);
    expect(() => planMemory({ ...shape, vocabSize: 2 ** 40 }, { contextLength: 1 })).toThrow(
      /^planMemory: expected fewer than 2\^53 bytes, got about 1.8\d\de\+16$/,
    );
    const [layer, ...layers] = shape.layers;
    for (const wrong of [null, Number.NaN, -1, 0, '8']) {
      expect(() => planMemory({ ...shape, vocabSize: wrong as number })).toThrow(
        /shape's vocabSize to be a po/,
      );
      const first = { ...layer, keyHeadDim: wrong as number };
      expect(() => planMemory({ ...shape, layers: [first, ...layers] })).toThrow(
        /^planKvCache: expected the shape's layers\[0\].keyHeadDim to be a positive integer, got /,
      );
    }
    const device = { bandwidth: 0 };
    expect(() => planSpeed('gpt2', { device })).toThrow(/expected a bandwidth and FLOP\/s above 0, got 0/);
  });
});

describe('fitMemory', () => {
  const options = { contextLength: 4096, batchSize: 2, weights: 'q8_0' } as const;

  test('the longest context and the largest batch fit, one more does not', () => {
    const memory = 16 * 2 ** 30;
    const { maxContext, maxBatch } = fitMemory('llama-3-8b', memory, options);
    const total = (changes: object) => planMemory('llama-3-8b', { ...options, ...changes }).totalBytes;
    expect(total({ contextLength: maxContext })).toBeLessThanOrEqual(memory);
    expect(total({ contextLength: maxContext + 1 })).toBeGreaterThan(memory);
    expect(total({ batchSize: maxBatch })).toBeLessThanOrEqual(memory);
    expect(total({ batchSize: maxBatch + 1 })).toBeGreaterThan(memory);
  });

  test('nothing fits beside weights that do not', () => {
    expect(fitMemory('llama-3-8b', 2 ** 30, options)).toEqual({ maxContext: 0, maxBatch: 0 });
  });
});

describe('planSpeed', () => {
  const device = { bandwidth: 100e9, flops: 10e12 };

  test('a decoding step reads weights and cache once', () => {
    const options = { contextLength: 4096, weights: 'bf16', device } as const;
    const { decode, prefill } = planSpeed('llama-3-8b', options);
    const { weights, kvCache } = planMemory('llama-3-8b', { contextLength: 4096 });
    const table = 128_256 * 4096 * 2; // of the embedding one row is read
    expect(decode.bytesRead).toBe(weights.bytes - table + kvCache.totalBytes);
    expect(decode.tokensPerSecond).toBeCloseTo(100e9 / decode.bytesRead, 6);
    // About 2 FLOP per weight; attention adds 4 N H (T / 2) per layer.
    const perToken = 2 * (weights.parameters - 2 * 128_256 * 4096) + 32 * 4 * 4096 * 2048;
    expect(prefill?.tokensPerSecond).toBeCloseTo(10e12 / perToken, 3);
  });

  test('a token reads its own experts; many tokens read nearly all', () => {
    const read = (batchSize: number) =>
      planSpeed('mixtral-8x7b', { contextLength: 1, batchSize, device }).decode.bytesRead;
    const whole = planMemory('mixtral-8x7b', { contextLength: 1 }).weights.bytes;
    expect(read(1) / whole).toBeCloseTo(0.27, 2);
    expect(read(64) / whole).toBeGreaterThan(0.98);
  });

  test('ranks, and a device without FLOP/s', () => {
    const options = { contextLength: 16, weights: 'q8_0' } as const;
    const plan = (changes: object, ranks = 1) =>
      planSpeed('llama-3-8b', { ...options, tensorParallelSize: ranks, device: { ...device, ...changes } });
    expect(plan({}, 4).decode.tokensPerSecond / plan({}).decode.tokensPerSecond).toBeCloseTo(4, 2);
    expect(plan({}, 4).decode.basis).toMatch(/links between ranks are not counted/);
    expect(plan({ flops: undefined }).prefill).toBe(undefined);
  });

  test('every listed device gives an estimate', () => {
    for (const device of listDevices()) {
      expect(planSpeed('gpt2', { contextLength: 512, device }).decode.tokensPerSecond).toBeGreaterThan(10);
    }
  });
});
