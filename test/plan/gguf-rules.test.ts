/**
 * What a GGUF header says about the cache, by the rules of llama.cpp's src/models/*.cpp and
 * llama-kv-cache*.cpp as in llama-cpp-python 0.3.36. The arithmetic stands beside each number.
 */
import { describe, expect, test } from 'vitest';
import { bytesSource } from '../../src/format/byte-source.ts';
import { readGgufHeader } from '../../src/format/gguf.ts';
import { kvElementsPerToken, type ModelShape, modelShapeFromGguf } from '../../src/format/model-shape.ts';
import { type PlanOptions, planKvCache } from '../../src/plan/index.ts';
import { buildGguf, type Pair, stringPair, u32Pair } from '../format/build-files.ts';

type Value = number | readonly number[] | readonly boolean[];

function pair(key: string, value: Value): Pair {
  if (typeof value === 'number') return u32Pair(key, value);
  const isFlags = typeof value[0] === 'boolean';
  return [
    key,
    9,
    (w) => {
      w.u32(isFlags ? 7 : 4).u64(value.length);
      for (const one of value) {
        if (isFlags) w.u8(one ? 1 : 0);
        else w.u32(Number(one));
      }
    },
  ];
}

async function load(arch: string, keys: Readonly<Record<string, Value>>): Promise<ModelShape> {
  const all = { context_length: 32_768, ...keys };
  const pairs = Object.entries(all).map(([key, value]) => pair(`${arch}.${key}`, value));
  const bytes = buildGguf({ pairs: [stringPair('general.architecture', arch), ...pairs] });
  return modelShapeFromGguf(await readGgufHeader(bytesSource('m.gguf', bytes)));
}

const kinds = (shape: ModelShape) => shape.layers.map((layer) => layer.kind[0]).join('');
const mib = (shape: ModelShape, options: PlanOptions) => planKvCache(shape, options).totalBytes / 2 ** 20;
const plain = {
  block_count: 8,
  embedding_length: 64,
  'attention.head_count': 8,
  'attention.head_count_kv': 2,
};

describe('DeepSeek', () => {
  const lite = {
    block_count: 27,
    embedding_length: 2048,
    'attention.head_count': 16,
    'attention.kv_lora_rank': 512,
    'rope.dimension_count': 64,
  };
  const older = {
    ...lite,
    'attention.head_count_kv': 16,
    'attention.key_length': 192,
    'attention.value_length': 128,
  };
  const newer = {
    ...lite,
    'attention.head_count_kv': 1,
    'attention.key_length': 576,
    'attention.value_length': 512,
    'attention.key_length_mla': 192,
    'attention.value_length_mla': 128,
  };

  test('Coder-V2-Lite without key_length_mla: llama.cpp caches the expanded heads', async () => {
    const shape = await load('deepseek2', older);
    // 27 layers x 16 heads x (192 + 128) values x 2 bytes x 16,384 tokens = 4,320 MiB; the rows alone 486.
    expect(mib(shape, { contextLength: 16_384, runtime: 'llama.cpp' })).toBe(4320);
    for (const runtime of ['exact', 'vllm', 'transformers'] as const)
      expect(mib(shape, { contextLength: 16_384, runtime }), runtime).toBe(486);
    expect(shape.warnings).toBeUndefined();
  });

  test('with it: rows', async () => {
    const shape = await load('deepseek2', newer);
    expect(mib(shape, { contextLength: 16_384, runtime: 'llama.cpp' })).toBe(486);
    expect(shape.layers[0]).toMatchObject({ kind: 'latent', numKeyValueHeads: 16, keyHeadDim: 192 });
  });

  test('V3.2 and GLM: a key of the indexer beside each row', async () => {
    const indexer = {
      'attention.indexer.head_count': 64,
      'attention.indexer.key_length': 128,
      'attention.indexer.top_k': 2048,
      nextn_predict_layers: 1,
    };
    const shape = await load('deepseek32', { ...newer, ...indexer });
    // One of 27 blocks drafts tokens; 512 + 64 + 128 values each.
    expect(shape.numLayers).toBe(26);
    expect(kvElementsPerToken(shape)).toBe(26 * 704);
    const perToken = (runtime: 'exact' | 'llama.cpp' | 'vllm' | 'transformers') =>
      planKvCache(shape, { contextLength: 256, runtime }).bytesPerToken / 26;
    expect(perToken('llama.cpp')).toBe(1408);
    expect(perToken('transformers')).toBe(1408);
    expect(perToken('exact')).toBe(1408);
    // vLLM: the row in 2 bytes, the indexer's key in fp8 with one f32 scale per 128.
    expect(perToken('vllm')).toBe(1152 + 128 + 4);
    // The what-if of plain heads has no indexer.
    expect(planKvCache(shape, { contextLength: 1, numKeyValueHeads: 16 }).bytesPerToken).toBe(
      26 * 16 * 320 * 2,
    );
    const types = await load('glm-dsa', {
      ...newer,
      ...indexer,
      'attention.indexer.types': [true, ...new Array(25).fill(false)],
    });
    expect(kvElementsPerToken(types)).toBe(26 * 576 + 128);
    const glm52 = await load('glm-dsa', { ...newer, ...indexer, context_length: 1 << 20 });
    // Layers 0 and 1, then every fourth from 2 on: 2 + 6 of 26.
    expect(kvElementsPerToken(glm52)).toBe(26 * 576 + 8 * 128);
  });

  test('V4 has another cache and is refused', async () => {
    await expect(load('deepseek4', newer)).rejects.toThrow(
      'general.architecture: expected one whose cache is supported, got deepseek4',
    );
  });
});

describe('layers that the file does not list', () => {
  test.each<[string, Readonly<Record<string, Value>>, string]>([
    ['qwen3next', {}, 'lllflllf'],
    ['qwen35', { full_attention_interval: 2 }, 'lflflflf'],
    [
      'qwen35moe',
      { 'attention.recurrent_layers': [true, false, true, true, true, true, true, false] },
      'lflllllf',
    ],
    ['minimax-01', {}, 'lllllllf'],
    ['llama4', {}, 'cccfcccf'],
    ['llama4', { 'attention.sliding_window': 0 }, 'ffffffff'],
    ['afmoe', { 'attention.sliding_window': 50 }, 'sssfsssf'],
    ['cohere2moe', { 'attention.sliding_window': 50 }, 'fsssfsss'],
    ['laguna', { 'attention.sliding_window': 50 }, 'fsssfsss'],
    ['plamo3', { 'attention.sliding_window': 50 }, 'sssssssf'],
    ['smallthinker', { 'attention.sliding_window': 50 }, 'fsssfsss'],
    ['gemma3', { 'attention.sliding_window': 50 }, 'sssssfss'],
    ['gemma3', {}, 'ffffffff'],
    ['nanbeige', { num_loops: 2 }, 'f'.repeat(16)],
    ['glm4moe', { nextn_predict_layers: 3 }, 'fffff'],
    [
      'mimo2',
      {
        'attention.sliding_window': 50,
        'attention.sliding_window_pattern': [false, true, true, true, true, true, true, false],
      },
      'fssssssf',
    ],
  ])('%s %o: %s', async (arch, keys, expected) => {
    const shape = await load(arch, { ...plain, ...keys });
    expect(kinds(shape)).toBe(expected);
    expect(shape.warnings).toBeUndefined();
  });

  test('windows: Llama 4 has chunks of 8,192 whatever the file says, SmallThinker 4,096', async () => {
    const chunks = await load('llama4', { ...plain, 'attention.sliding_window': 100 });
    expect(chunks.layers.map(({ window }) => window ?? 0)).toEqual([
      8192, 8192, 8192, 0, 8192, 8192, 8192, 0,
    ]);
    // 32,768 cells in 2 layers, 8,192 + 512 in 6; K x 2 x H x 2 bytes = 64 a cell.
    expect(planKvCache(chunks, { runtime: 'llama.cpp' }).totalBytes).toBe(
      (2 * 32_768 + 6 * 8704) * 2 * 2 * 8 * 2,
    );
    const small = await load('smallthinker', { ...plain, 'attention.sliding_window': 100 });
    expect(small.layers[1].window).toBe(4096);
  });

  test('a window per layer', async () => {
    const shape = await load('llama', { ...plain, 'attention.sliding_window': [0, 5, 5, 0, 6, 6, 6, 0] });
    expect(shape.layers.map(({ window }) => window ?? 0)).toEqual([0, 5, 5, 0, 6, 6, 6, 0]);
  });

  test('llama.cpp slides where its loader says so, and where it does not', async () => {
    const window = { ...plain, 'attention.sliding_window': 256 };
    const tokens = async (arch: string, keys = window) =>
      planKvCache(await load(arch, keys), { runtime: 'llama.cpp' }).layers[1].tokens;
    for (const arch of ['afmoe', 'laguna', 'cohere2moe', 'olmo2', 'exaone-moe', 'plamo3', 'mellum']) {
      expect(await tokens(arch), arch).toBe(768);
    }
    for (const arch of ['llama', 'phi3', 'exaone4']) expect(await tokens(arch), arch).toBe(32_768);
    expect(await tokens('exaone4', { ...window, block_count: 64 })).toBe(768);
  });
});

describe('heads that differ from layer to layer', () => {
  test('OpenELM: K divides the N of its own layer', async () => {
    const shape = await load('openelm', {
      ...{ block_count: 3, embedding_length: 64, 'attention.key_length': 16, 'attention.value_length': 16 },
      ...{ 'attention.head_count': [12, 20, 4], 'attention.head_count_kv': [3, 5, 1] },
    });
    expect(kvElementsPerToken(shape)).toBe((3 + 5 + 1) * 32);
    expect(shape).toMatchObject({ numHeads: 20, numKeyValueHeads: 5 });
    await expect(
      load('openelm', {
        ...plain,
        'attention.head_count': [8, 8, 8, 8, 8, 8, 8, 6],
        'attention.head_count_kv': 4,
      }),
    ).rejects.toThrow('N=6), got K=4 in layer 7');
  });

  test('Nemotron-H and Deci: layers without key heads keep nothing', async () => {
    const shape = await load('nemotron_h', {
      ...plain,
      'attention.head_count_kv': [0, 0, 2, 0, 0, 2, 0, 0],
      'attention.key_length': 16,
      'attention.value_length': 16,
    });
    expect(kvElementsPerToken(shape)).toBe(2 * 2 * 32);
    const deci = await load('deci', {
      ...plain,
      'attention.head_count': [8, 0, 8, 8, 8, 8, 8, 8],
      'attention.head_count_kv': [1, 0, 4, 0, 2, 2, 2, 2],
    });
    expect(kvElementsPerToken(deci)).toBe((1 + 4 + 8) * 16);
  });

  test('an absurd number of heads', async () => {
    await expect(
      load('llama', {
        ...plain,
        'attention.head_count': 0xffffffff,
        'attention.key_length': 16,
        'attention.value_length': 16,
      }),
    ).rejects.toThrow('llama.attention.head_count: expected at most 65536 query heads, got 4294967295');
  });
});

describe('keys that are not known', () => {
  test('are named', async () => {
    const shape = await load('llama', {
      ...plain,
      'attention.kv_stride': 4,
      'rope.freq_base': 10_000,
      'attention.causal': 1,
    });
    expect(shape.warnings).toEqual([
      'the cache may be of another size: unknown keys: llama.attention.kv_stride (4)',
    ]);
    expect(planKvCache(shape, { contextLength: 5 }).warnings).toEqual(shape.warnings);
  });

  test('an indexer beside plain heads, as MiniMax M3 has it, costs llama.cpp a row of values too', async () => {
    const shape = await load('minimax-m3', {
      ...plain,
      'attention.indexer.key_length': 48,
      leading_dense_block_count: 3,
    });
    expect(kvElementsPerToken(shape)).toBe(8 * 2 * 16 + 5 * 48);
    const perToken = (runtime: 'exact' | 'llama.cpp') =>
      planKvCache(shape, { contextLength: 256, runtime }).bytesPerToken;
    expect(perToken('exact')).toBe(2 * (8 * 32 + 5 * 48));
    expect(perToken('llama.cpp')).toBe(2 * (8 * 32 + 5 * (48 + 8)));
  });
});
