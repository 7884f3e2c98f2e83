/**
 * The planner's arithmetic against figures computed by hand or elsewhere, the rules of runtimes, and refused
 * input.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  compareHeads,
  FormatError,
  type LayerShape,
  listPresets,
  type ModelShape,
  maxBatch,
  maxContext,
  planKvCache,
  preset,
} from '../../src/plan/index.ts';
import { KV_DTYPES } from '../../src/plan/kv-dtype.ts';
import { nearPresets } from '../../src/plan/presets.ts';
import { PRESET_KV_PER_TOKEN } from './preset-bytes.ts';

/** A model of equal full layers. */
function model(layers: readonly LayerShape[], numHeads = 12): ModelShape {
  return {
    modelType: 'llama',
    numLayers: layers.length,
    numHeads,
    numKeyValueHeads: Math.max(...layers.map((layer) => layer.numKeyValueHeads)),
    headDim: 7,
    valueHeadDim: 7,
    hiddenSize: 5,
    intermediateSize: undefined,
    gatedMlp: true,
    vocabSize: undefined,
    maxPositionEmbeddings: 1000,
    tiedEmbeddings: undefined,
    layers,
  };
}
const full = (K: number, H: number, Hv = H): LayerShape => ({
  kind: 'full',
  numKeyValueHeads: K,
  keyHeadDim: H,
  valueHeadDim: Hv,
});
const sliding = (K: number, H: number, window: number): LayerShape => ({
  ...full(K, H),
  kind: 'sliding',
  window,
});

describe('seed figures', () => {
  test('Llama-2-70B with 64 and with 8 key/value heads', () => {
    const options = { contextLength: 4096, kvDtype: 'f16' } as const;
    const mha = planKvCache('llama-2-70b', { ...options, numKeyValueHeads: 64 });
    const gqa = planKvCache('llama-2-70b', options);
    expect(mha.bytesPerToken).toBe(2_621_440);
    expect(gqa.bytesPerToken).toBe(327_680);
    expect(mha.totalBytes).toBe(10 * 2 ** 30);
    expect(gqa.totalBytes).toBe(1.25 * 2 ** 30);
  });

  test('one layer of 64 heads at 4,096, and 32 of them', () => {
    const layer = (K: number) => planKvCache(model([full(K, 128)], 64), { contextLength: 4096 });
    expect(layer(64).totalBytes).toBe(134_217_728);
    expect(layer(1).totalBytes).toBe(2_097_152);
    const deep = model(new Array(32).fill(full(64, 128)), 64);
    expect(planKvCache(deep, { contextLength: 4096 }).totalBytes).toBe(4 * 2 ** 30);
    expect(planKvCache(deep, { contextLength: 4096, numKeyValueHeads: 1 }).totalBytes).toBe(64 * 2 ** 20);
    expect(planKvCache(deep, { contextLength: 4096, batchSize: 16 }).totalBytes).toBe(64 * 2 ** 30);
  });

  test('MLA keeps 576 values per token and layer', () => {
    const plan = planKvCache('deepseek-v3', { contextLength: 1, kvDtype: 'bf16' });
    expect(plan.bytesPerToken).toBe(61 * 576 * 2);
    expect(planKvCache('deepseek-v3', { contextLength: 1, numKeyValueHeads: 128 }).bytesPerToken).toBe(
      4_997_120,
    );
  });
});

describe('presets', () => {
  const known = PRESET_KV_PER_TOKEN.trim()
    .split('\n')
    .map((line) => line.split(' ') as [string, string, 'KiB' | 'MiB']);

  test('every preset stands in the table, and the other way round', () => {
    expect(listPresets().map(({ id }) => id)).toEqual(known.map(([id]) => id));
    expect(known.length).toBe(120);
  });

  test.each(known)('%s: %s %s per token', (id, size, unit) => {
    const bytes = planKvCache(id, { contextLength: 1 }).bytesPerToken;
    const shown = bytes / (unit === 'KiB' ? 1024 : 1024 ** 2);
    expect(shown.toFixed(size.split('.')[1].length)).toBe(size);
  });

  test('the formula by hand, for every verified preset', () => {
    const verified = listPresets().filter((one) => one.verified);
    expect(verified.length).toBe(116);
    for (const { id, shape } of verified) {
      const S = 5003;
      let values = 0;
      for (const layer of shape.layers) {
        const tokens = Math.min(S, layer.window ?? S);
        if (layer.kind === 'shared') continue;
        if (layer.latent) values += S * (layer.latent.rank + layer.latent.ropeDim);
        else values += tokens * layer.numKeyValueHeads * (layer.keyHeadDim + layer.valueHeadDim);
      }
      const plan = planKvCache(id, { contextLength: S, batchSize: 3, kvDtype: 'f32' });
      expect(plan.totalBytes, id).toBe(values * 4 * 3);
      expect(
        plan.layers.reduce((sum, layer) => sum + layer.bytes, 0),
        id,
      ).toBe(plan.bytesPerSequence);
    }
  });

  test('windows, linear layers and their patterns', () => {
    const kinds = (id: string) =>
      preset(id)
        .shape.layers.map(({ kind }) => kind[0])
        .join('');
    expect(kinds('gemma-3-1b')).toBe('sssssfsssssfsssssfsssssfss');
    expect(kinds('gpt-oss-20b')).toBe('sf'.repeat(12));
    expect(kinds('minimax-text-01')).toBe('lllllllf'.repeat(10));
    expect(kinds('exaone-4.0-32b')).toBe('sssf'.repeat(16));
    const plan = planKvCache('gemma-3-1b', { contextLength: 32_768 });
    expect(plan.bytesPerSequence).toBe((22 * 512 + 4 * 32_768) * 1024);
    expect(planKvCache('minimax-text-01', { contextLength: 10 }).warnings.join()).toContain(
      '70 linear layers',
    );
  });

  test('Gemma 4: two head dims, and last layers without a cache', () => {
    const layers = (id: string) =>
      preset(id).shape.layers.map(({ kind, numKeyValueHeads: K, keyHeadDim: H }) => `${kind} ${K}x${H}`);
    const [slides, full] = ['sliding 1x256', 'full 1x512'];
    const own = Array.from({ length: 15 }, (_, i) => (i % 5 === 4 ? full : slides));
    expect(layers('gemma-4-e2b').slice(0, 15)).toEqual(own);
    expect(layers('gemma-4-e2b').filter((layer) => layer.startsWith('shared'))).toHaveLength(20);
    expect(layers('gemma-4-26b-a4b')).toEqual(
      Array.from({ length: 30 }, (_, i) => (i % 6 === 5 ? 'full 2x512' : 'sliding 8x256')),
    );
    expect(preset('gemma-4-26b-a4b').shape.experts).toMatchObject({
      numExperts: 128,
      expertsPerToken: 8,
      intermediateSize: 704,
      sharedIntermediateSize: 2112,
      numLayers: 30,
    });
  });

  test('unknown ids name near ones', () => {
    expect(() => planKvCache('lama-3-8b')).toThrow(/got "lama-3-8b"; near: llama-3-8b/);
    expect(nearPresets('Qwen/Qwen3-8B')).toContain('qwen3-8b');
    expect(nearPresets('xxxxxxxxxxxxxxxx')).toEqual([]);
    expect(preset('LLaMA-3-8b').id).toBe('llama-3-8b');
  });
});

describe('storage', () => {
  test('q8_0 is 34 bytes per 32 values, heads padded to whole blocks', () => {
    const bytes = (H: number) =>
      planKvCache(model([full(3, H)]), { contextLength: 1, kvDtype: 'q8_0' }).totalBytes;
    expect(bytes(32)).toBe(3 * 2 * 34);
    expect(bytes(64)).toBe(3 * 2 * 68);
    expect(bytes(65)).toBe(3 * 2 * 102);
  });

  test('K and V apart', () => {
    const kvDtype = { key: 'q8_0', value: 'f16' } as const;
    expect(planKvCache(model([full(3, 64, 96)]), { contextLength: 10, kvDtype }).totalBytes).toBe(
      10 * 3 * (68 + 192),
    );
  });

  test('a config object is read as one', () => {
    const config = { model_type: 'llama', hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4 };
    expect(planKvCache(config, { contextLength: 10 }).totalBytes).toBe(10 * 2 * 2 * 64 * 2);
    expect(() => planKvCache({ hidden_size: 4, num_hidden_layers: 1 })).toThrow(FormatError);
  });
});

describe('runtimes', () => {
  const smol = 'smollm2-135m';

  // What node-llama-cpp 3.22.1 prints as `llama_kv_cache: size` for SmolLM2-135M-Instruct.
  test.each([
    [2048, 1, 'f16', 45.0],
    [2048, 1, 'q8_0', 23.91],
    [1000, 1, 'f16', 22.5],
    [1024, 3, 'f16', 67.5],
    [2048, 1, 'f32', 90.0],
    [2048, 1, { key: 'q8_0', value: 'f16' }, 34.45],
    [700, 2, 'q8_0', 17.93],
  ] as const)(
    'llama.cpp at context %s, %s sequences, %s: %s MiB',
    (contextLength, batchSize, kvDtype, mib) => {
      const plan = planKvCache(smol, { contextLength, batchSize, kvDtype, runtime: 'llama.cpp' });
      expect((plan.totalBytes / 2 ** 20).toFixed(2)).toBe(mib.toFixed(2));
    },
  );

  test('llama.cpp: sliding layers hold the window and a batch, and only where it knows them', () => {
    const options = { contextLength: 32_768, runtime: 'llama.cpp' } as const;
    expect(planKvCache('gemma-3-1b', options).layers[0].tokens).toBe(1024);
    expect(planKvCache('gemma-3-1b', { ...options, batchTokens: 2000 }).layers[0].tokens).toBe(2560);
    expect(planKvCache('mistral-7b-v0.1', options).layers[0].tokens).toBe(32_768);
    expect(() => planKvCache(model([full(3, 48)]), { ...options, kvDtype: 'q8_0' })).toThrow(
      'llama.cpp: expected a head dim in whole q8_0 blocks of 32, got H=48',
    );
  });

  test('vLLM: blocks of 16, ranks past K copy the heads', () => {
    const options = { contextLength: 1001, runtime: 'vllm' } as const;
    expect(planKvCache('llama-3-8b', options).layers[0].tokens).toBe(1008);
    const one = planKvCache('llama-3-8b', options).totalBytes;
    expect(planKvCache('llama-3-8b', { ...options, tensorParallelSize: 8 }).totalBytes).toBe(one);
    expect(planKvCache('llama-3-8b', { ...options, tensorParallelSize: 16 }).totalBytes).toBe(2 * one);
    const mla = planKvCache('deepseek-v3', options).totalBytes;
    expect(planKvCache('deepseek-v3', { ...options, tensorParallelSize: 8 }).totalBytes).toBe(8 * mla);
    expect(() => planKvCache('llama-3-8b', { ...options, kvDtype: 'q8_0' })).toThrow(
      'vllm: expected kvDtype',
    );
    expect(planKvCache('gemma-3-1b', { ...options, contextLength: 32_768 }).layers[0].tokens).toBe(2560 + 16);
  });

  test('transformers: as many tokens as seen, window - 1, Falcon broadcast', () => {
    const options = { contextLength: 2048, runtime: 'transformers' } as const;
    expect(planKvCache('falcon-40b', options).bytesPerToken).toBe(1_966_080);
    expect(planKvCache('falcon-7b', options).bytesPerToken).toBe(8192);
    expect(planKvCache('gemma-3-1b', options).layers[0].tokens).toBe(511);
  });

  test('a paged exact cache holds whole blocks and does not slide', () => {
    const layers = planKvCache('gemma-3-1b', { contextLength: 1001, blockSize: 32 }).layers;
    expect(layers.map(({ tokens }) => tokens)).toEqual(new Array(26).fill(1024));
  });
});

describe('budgets', () => {
  const memory = 24 * 2 ** 30;

  test('maxContext and maxBatch are the last that fit', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...listPresets().map(({ id }) => id)),
        fc.constantFrom('f16' as const, 'q8_0' as const),
        fc.integer({ min: 1, max: 40 }),
        fc.double({ min: 0.001, max: 200, noNaN: true }),
        (id, kvDtype, batchSize, gib) => {
          const bytes = gib * 2 ** 30;
          const at = (contextLength: number) =>
            planKvCache(id, { contextLength, kvDtype, batchSize }).totalBytes;
          fc.pre(bytes >= at(1));
          const most = maxContext(id, bytes, { kvDtype, batchSize });
          if (most === Number.POSITIVE_INFINITY) expect(at(2 ** 32)).toBeLessThanOrEqual(bytes);
          else {
            expect(at(most)).toBeLessThanOrEqual(bytes);
            expect(at(most + 1)).toBeGreaterThan(bytes);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test('Llama-3-8B in 24 GiB', () => {
    expect(maxContext('llama-3-8b', memory)).toBe(memory / 131_072);
    expect(maxBatch('llama-3-8b', memory, { contextLength: 8192 })).toBe(24);
    expect(maxBatch('llama-3-8b', memory - 1, { contextLength: 8192 })).toBe(23);
    expect(maxContext('mistral-7b-v0.1', memory)).toBe(Number.POSITIVE_INFINITY);
  });

  test('less than one token', () => {
    expect(() => maxContext('llama-3-8b', 1000)).toThrow(
      'maxContext: expected memory for one token, 131072 bytes, got 1000',
    );
    expect(() => maxBatch('llama-3-8b', -1)).toThrow('expected memory in bytes, got -1');
  });
});

describe('compareHeads', () => {
  test('from multi-head to latent', () => {
    const rows = compareHeads('llama-3-8b', { contextLength: 8192 });
    expect(rows.map(({ attention, numKeyValueHeads: K, isOwn }) => [attention, K, isOwn])).toEqual([
      ['MHA', 32, false],
      ['GQA', 8, true],
      ['GQA', 4, false],
      ['GQA', 2, false],
      ['MQA', 1, false],
      ['MLA', undefined, false],
    ]);
    expect(rows.map(({ saving }) => Number(saving.toFixed(2)))).toEqual([1, 4, 8, 16, 32, 14.22]);
  });

  test('a model with latent rows owns its MLA line', () => {
    const rows = compareHeads('deepseek-v3', { contextLength: 100 });
    expect(rows.at(-1)?.isOwn).toBe(true);
    expect(rows.at(-1)?.saving.toFixed(1)).toBe('71.1');
    expect(rows.filter(({ isOwn }) => isOwn).length).toBe(1);
  });
});

describe('bad input', () => {
  test.each([
    [{ contextLength: -5 }, 'planKvCache: expected contextLength to be a positive integer, got -5'],
    [{ contextLength: 0 }, 'planKvCache: expected contextLength to be a positive integer, got 0'],
    [{ batchSize: 1.5 }, 'planKvCache: expected batchSize to be a positive integer, got 1.5'],
    [
      { numKeyValueHeads: 5 },
      'planKvCache: expected numKeyValueHeads to divide the query heads N=32, got K=5',
    ],
    [{ kvDtype: 'i32' as 'f16' }, `expected kvDtype to be one of ${KV_DTYPES.join(', ')}, got i32`],
    [
      { runtime: 'onnx' as 'exact' },
      'planKvCache: expected runtime exact, llama.cpp, vllm, transformers, got onnx',
    ],
    [{ tensorParallelSize: 3 }, 'expected tensorParallelSize to divide K=8 or to be a multiple of it, got 3'],
  ])('%o', (options, message) => {
    expect(() => planKvCache('llama-3-8b', options)).toThrow(message);
    expect(() => planKvCache('llama-3-8b', options)).toThrow(RangeError);
  });

  test('a context beyond the model is a warning', () => {
    const { warnings } = planKvCache('llama-3-8b', { contextLength: 10_000 });
    expect(warnings).toEqual(["a context of 10000 tokens is beyond the model's 8192"]);
    expect(planKvCache(model([sliding(3, 7, 11)]), { contextLength: 50 }).layers[0].tokens).toBe(11);
  });
});
