import { describe, expect, it } from 'vitest';
import { bytesSource } from '../../src/format/byte-source.ts';
import { FormatError } from '../../src/format/format-error.ts';
import { readGgufHeader } from '../../src/format/gguf.ts';
import {
  kvElementsPerToken,
  type ModelShape,
  modelShapeFromConfig,
  modelShapeFromGguf,
} from '../../src/format/model-shape.ts';
import { buildGguf, type GgufSpec, type Pair, stringPair, u32Pair } from './build-files.ts';

const KIB = 1024;
const kvBytes16 = (shape: ModelShape) => 2 * kvElementsPerToken(shape);
const kinds = (shape: ModelShape) => shape.layers.map((layer) => layer.kind[0]).join('');
const fromConfig = (config: object) => modelShapeFromConfig(config, 'config.json');

const LLAMA3 = {
  model_type: 'llama',
  hidden_size: 4096,
  intermediate_size: 14336,
  max_position_embeddings: 131072,
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  tie_word_embeddings: false,
  vocab_size: 128256,
};

describe('modelShapeFromConfig', () => {
  it('reads Llama 3.1 8B', () => {
    const shape = fromConfig(LLAMA3);
    expect(shape).toMatchObject({
      modelType: 'llama',
      numLayers: 32,
      numHeads: 32,
      numKeyValueHeads: 8,
      headDim: 128,
      valueHeadDim: 128,
      hiddenSize: 4096,
      intermediateSize: 14336,
      vocabSize: 128256,
      maxPositionEmbeddings: 131072,
      tiedEmbeddings: false,
    });
    expect(shape.layers[31]).toEqual({
      kind: 'full',
      numKeyValueHeads: 8,
      keyHeadDim: 128,
      valueHeadDim: 128,
    });
    expect(kvBytes16(shape)).toBe(128 * KIB);
    expect(Object.isFrozen(shape) && Object.isFrozen(shape.layers) && Object.isFrozen(shape.layers[0])).toBe(
      true,
    );
  });

  // Cache bytes per token at 16 bits, as published or computed from the released configs.
  it.each<[string, number, string, object]>([
    [
      'Llama 1 7B: no K in the file means K = N',
      512 * KIB,
      'f'.repeat(32),
      { ...LLAMA3, num_key_value_heads: null, vocab_size: 32000 },
    ],
    [
      'GPT-2',
      36 * KIB,
      'f'.repeat(12),
      { model_type: 'gpt2', n_embd: 768, n_head: 12, n_layer: 12, n_positions: 1024, n_inner: null },
    ],
    [
      'StarCoder: multi-query',
      20 * KIB,
      'f'.repeat(40),
      {
        model_type: 'gpt_bigcode',
        n_embd: 6144,
        n_head: 48,
        n_layer: 40,
        n_positions: 8192,
        multi_query: true,
      },
    ],
    [
      'Falcon 7B: 71 query heads, one K/V head, whatever num_kv_heads says',
      8 * KIB,
      'f'.repeat(32),
      {
        ...{ model_type: 'falcon', hidden_size: 4544, num_attention_heads: 71, num_hidden_layers: 32 },
        ...{ multi_query: true, new_decoder_architecture: false, num_kv_heads: 71 },
      },
    ],
    [
      'Falcon 40B: grouped',
      120 * KIB,
      'f'.repeat(60),
      {
        ...{ model_type: 'falcon', hidden_size: 8192, num_attention_heads: 128, num_hidden_layers: 60 },
        ...{ multi_query: true, new_decoder_architecture: true, num_kv_heads: 8 },
      },
    ],
    [
      'Falcon 40B as first released',
      120 * KIB,
      'f'.repeat(60),
      {
        model_type: 'RefinedWeb',
        hidden_size: 8192,
        n_head: 128,
        n_layer: 60,
        n_head_kv: 8,
        multi_query: true,
      },
    ],
    [
      'Mistral 7B v0.1: slides everywhere',
      128 * KIB,
      's'.repeat(32),
      { ...LLAMA3, model_type: 'mistral', sliding_window: 4096 },
    ],
    [
      'Mistral 7B v0.3: nowhere',
      128 * KIB,
      'f'.repeat(32),
      { ...LLAMA3, model_type: 'mistral', sliding_window: null },
    ],
    [
      'Qwen2 7B: a window that is switched off',
      56 * KIB,
      'f'.repeat(28),
      {
        ...{ model_type: 'qwen2', hidden_size: 3584, num_attention_heads: 28, num_hidden_layers: 28 },
        ...{
          num_key_value_heads: 4,
          sliding_window: 131072,
          use_sliding_window: false,
          max_window_layers: 28,
        },
      },
    ],
    [
      'Qwen2 with its window on, from layer 3 up',
      8 * 2 * 4 * 128 * 2,
      'fffsssss',
      {
        ...{ model_type: 'qwen2', hidden_size: 3584, num_attention_heads: 28, num_hidden_layers: 8 },
        ...{ num_key_value_heads: 4, sliding_window: 4096, use_sliding_window: true, max_window_layers: 3 },
      },
    ],
    [
      'Qwen3 0.6B: head dim 128 where hidden / N is 64',
      112 * KIB,
      'f'.repeat(28),
      {
        ...{ model_type: 'qwen3', hidden_size: 1024, num_attention_heads: 16, num_hidden_layers: 28 },
        ...{ num_key_value_heads: 8, head_dim: 128, sliding_window: null, use_sliding_window: false },
      },
    ],
    [
      'Gemma 2 2B: every other layer slides, beginning with the first',
      104 * KIB,
      'sf'.repeat(13),
      {
        ...{ model_type: 'gemma2', hidden_size: 2304, num_attention_heads: 8, num_hidden_layers: 26 },
        ...{ num_key_value_heads: 4, head_dim: 256 },
      },
    ],
    [
      'Gemma 3 4B: multimodal, and most sizes left to class defaults',
      136 * KIB,
      `${'sssssf'.repeat(5)}ssss`,
      {
        model_type: 'gemma3',
        text_config: {
          ...{ hidden_size: 2560, intermediate_size: 10240, model_type: 'gemma3_text' },
          ...{ num_hidden_layers: 34, sliding_window: 1024 },
        },
        vision_config: { hidden_size: 1152, num_hidden_layers: 27, num_attention_heads: 16 },
      },
    ],
    [
      'gpt-oss 20B: layer_types',
      48 * KIB,
      'sf'.repeat(12),
      {
        ...{ model_type: 'gpt_oss', hidden_size: 2880, num_attention_heads: 64, num_hidden_layers: 24 },
        ...{ num_key_value_heads: 8, head_dim: 64, sliding_window: 128 },
        layer_types: Array.from({ length: 24 }, (_, i) => (i % 2 ? 'full_attention' : 'sliding_attention')),
      },
    ],
    [
      'MiniMax-Text-01: linear attention but every 8th layer',
      40 * KIB,
      'lllllllf'.repeat(10),
      {
        ...{
          model_type: 'minimax_text_01',
          hidden_size: 6144,
          num_attention_heads: 64,
          num_hidden_layers: 80,
        },
        ...{ num_key_value_heads: 8, head_dim: 128 },
        attn_type_list: Array.from({ length: 80 }, (_, i) => (i % 8 === 7 ? 1 : 0)),
      },
    ],
    [
      'T5 v1.1 XXL: the decoder',
      384 * KIB,
      'f'.repeat(24),
      {
        model_type: 't5',
        d_model: 4096,
        d_kv: 64,
        d_ff: 10240,
        num_heads: 64,
        num_layers: 24,
        num_decoder_layers: 24,
      },
    ],
    [
      'ChatGLM 3',
      28 * KIB,
      'f'.repeat(28),
      {
        ...{
          model_type: 'chatglm',
          hidden_size: 4096,
          num_attention_heads: 32,
          num_layers: 28,
          kv_channels: 128,
        },
        ...{
          multi_query_attention: true,
          multi_query_group_num: 2,
          padded_vocab_size: 65024,
          seq_length: 8192,
        },
      },
    ],
    [
      'DBRX: K in attn_config',
      160 * KIB,
      'f'.repeat(40),
      { model_type: 'dbrx', d_model: 6144, n_heads: 48, n_layers: 40, attn_config: { kv_n_heads: 8 } },
    ],
  ])('%s', (_, bytes, pattern, config) => {
    const shape = fromConfig(config);
    expect(kinds(shape)).toBe(pattern);
    expect(kvBytes16(shape)).toBe(bytes);
  });

  it('reads MLA: what is cached is the latent row, whatever num_key_value_heads says', () => {
    const shape = fromConfig({
      ...{ model_type: 'deepseek_v3', hidden_size: 7168, num_attention_heads: 128, num_hidden_layers: 61 },
      ...{ num_key_value_heads: 128, kv_lora_rank: 512, q_lora_rank: 1536, head_dim: 64 },
      ...{ qk_nope_head_dim: 128, qk_rope_head_dim: 64, v_head_dim: 128 },
    });
    expect(kvBytes16(shape)).toBe(70_272);
    expect(shape).toMatchObject({ headDim: 192, valueHeadDim: 128, numKeyValueHeads: 128 });
    expect(shape.layers[0]).toEqual({
      ...{ kind: 'latent', numKeyValueHeads: 128, keyHeadDim: 192, valueHeadDim: 128 },
      latent: { rank: 512, ropeDim: 64, queryRank: 1536 },
    });
  });

  it('reads windows, shared layers and embeddings tied by default', () => {
    const gemma = fromConfig({ ...LLAMA3, model_type: 'gemma2', tie_word_embeddings: undefined });
    expect(gemma.layers[0].window).toBe(4096);
    expect(gemma.layers[1].window).toBeUndefined();
    expect(gemma.tiedEmbeddings).toBe(true);
    expect(fromConfig({ ...LLAMA3, tie_word_embeddings: undefined }).tiedEmbeddings).toBeUndefined();
    const shared = fromConfig({ ...LLAMA3, num_hidden_layers: 5, num_kv_shared_layers: 2 });
    expect(shared.layers.map((layer) => layer.kind)).toEqual(['full', 'full', 'full', 'shared', 'shared']);
    expect(kvElementsPerToken(shared)).toBe(3 * 2 * 8 * 128);
    const exaone = { ...LLAMA3, model_type: 'exaone4', num_hidden_layers: 6, sliding_window: 4096 };
    expect(kinds(fromConfig({ ...exaone, sliding_window_pattern: 'LLLG' }))).toBe('sssfsf');
    const hybrid = {
      ...LLAMA3,
      model_type: 'nemotron_h',
      num_hidden_layers: 5,
      hybrid_override_pattern: 'M-M*-',
    };
    expect(kinds(fromConfig(hybrid))).toBe('lllfl');
  });

  it.each<[string, unknown, string]>([
    [
      'K that does not divide N',
      { ...LLAMA3, num_key_value_heads: 5 },
      'num_key_value_heads: expected a divisor of the query heads (num_attention_heads N=32), got K=5',
    ],
    [
      'no heads',
      { ...LLAMA3, num_attention_heads: undefined },
      'num_decoder_attention_heads: expected an integer >= 1, got no such key',
    ],
    ['no layers', { ...LLAMA3, num_hidden_layers: undefined }, 'got no such key'],
    ['null layers', { ...LLAMA3, num_hidden_layers: null }, 'got null'],
    [
      'heads that are no number',
      { ...LLAMA3, num_attention_heads: '32' },
      'num_attention_heads: expected an integer >= 1, got "32"',
    ],
    ['zero K', { ...LLAMA3, num_key_value_heads: 0 }, 'num_key_value_heads: expected an integer >= 1, got 0'],
    [
      'a head dim that is not whole',
      { ...LLAMA3, hidden_size: 4100 },
      'num_attention_heads: expected a divisor of hidden_size 4100 without head_dim, got 32',
    ],
    [
      'too few layer types',
      { ...LLAMA3, layer_types: ['full_attention'] },
      'layer_types: expected 32 names, one per layer, got 1',
    ],
    [
      'a layer type not known',
      { ...LLAMA3, num_hidden_layers: 1, layer_types: ['toString'] },
      'got "toString" in layer 0',
    ],
    [
      'MLA without its rope dim',
      { ...LLAMA3, kv_lora_rank: 512 },
      'qk_rope_head_dim: expected an integer >= 1, got no such key',
    ],
    ['a million layers', { ...LLAMA3, num_hidden_layers: 1e9 }, 'at most 65536 layers, got 1000000000'],
    ['a family with another kind of cache', { ...LLAMA3, model_type: 'deepseek_v4' }, 'got deepseek_v4'],
    ['an array', [], 'config.json: expected a JSON object'],
    ['null', null, 'got null'],
  ])('refuses %s', (_, config, text) => {
    const run = () => modelShapeFromConfig(config, 'config.json');
    expect(run).toThrow(FormatError);
    expect(run).toThrow(text);
  });
});

describe('modelShapeFromGguf', () => {
  const load = async (arch: string, pairs: readonly Pair[], tensors: GgufSpec['tensors'] = []) => {
    const all = [stringPair('general.architecture', arch), ...pairs];
    const bytes = buildGguf({ pairs: all, tensors, dataBytes: 4096 });
    return modelShapeFromGguf(await readGgufHeader(bytesSource('x.gguf', bytes)));
  };
  const sizes = (arch: string, layers: number, hidden: number, N: number, K?: number) => [
    u32Pair(`${arch}.block_count`, layers),
    u32Pair(`${arch}.embedding_length`, hidden),
    u32Pair(`${arch}.attention.head_count`, N),
    ...(K === undefined ? [] : [u32Pair(`${arch}.attention.head_count_kv`, K)]),
  ];

  it('reads llama, with vocabulary and tying from the tensors', async () => {
    const embedding = { name: 'token_embd.weight', dims: [8, 11], type: 0, offset: 0 };
    const tied = await load('llama', sizes('llama', 3, 576, 9, 3), [embedding]);
    expect(tied).toMatchObject({ numKeyValueHeads: 3, headDim: 64, vocabSize: 11, tiedEmbeddings: true });
    const head = { name: 'output.weight', dims: [8, 11], type: 0, offset: 352 };
    expect((await load('llama', sizes('llama', 3, 576, 9, 3), [embedding, head])).tiedEmbeddings).toBe(false);
    const bare = await load('llama', sizes('llama', 3, 576, 9));
    expect(bare).toMatchObject({ numKeyValueHeads: 9, tiedEmbeddings: undefined, vocabSize: undefined });
  });

  it('reads the layer patterns that are not in the file', async () => {
    const gemma2 = await load('gemma2', [
      ...sizes('gemma2', 4, 2304, 8, 4),
      u32Pair('gemma2.attention.key_length', 256),
    ]);
    expect(kinds(gemma2)).toBe('sfsf');
    expect(gemma2.layers[0].window).toBe(4096);
    const window = (arch: string, size: number) => u32Pair(`${arch}.attention.sliding_window`, size);
    expect(kinds(await load('gemma3', [...sizes('gemma3', 7, 640, 4, 1), window('gemma3', 512)]))).toBe(
      'sssssfs',
    );
    expect(kinds(await load('gpt-oss', [...sizes('gpt-oss', 4, 2880, 64, 8), window('gpt-oss', 128)]))).toBe(
      'sfsf',
    );
    const phi3 = await load('phi3', [...sizes('phi3', 2, 3072, 32, 32), window('phi3', 2047)]);
    expect(kinds(phi3)).toBe('ss');
    const flags: Pair = [
      'llama.attention.sliding_window_pattern',
      9,
      (w) => w.u32(7).u64(3).u8(1).u8(0).u8(1),
    ];
    expect(kinds(await load('llama', [...sizes('llama', 3, 576, 9, 3), window('llama', 16), flags]))).toBe(
      'sfs',
    );
  });

  it('reads K per layer, with 0 where there is no attention', async () => {
    const perLayer: Pair = [
      'jamba.attention.head_count_kv',
      9,
      (w) => w.u32(5).u64(4).u32(0).u32(8).u32(0).u32(2),
    ];
    const shape = await load('jamba', [...sizes('jamba', 4, 4096, 32), perLayer]);
    expect(kinds(shape)).toBe('lflf');
    expect(shape.numKeyValueHeads).toBe(8);
    expect(kvElementsPerToken(shape)).toBe((8 + 2) * 2 * 128);
  });

  it('reads MLA from newer and older files', async () => {
    const key = (name: string, value: number) => u32Pair(`deepseek2.${name}`, value);
    const common = [key('attention.kv_lora_rank', 512), key('rope.dimension_count', 64)];
    const newer = [
      ...[key('attention.key_length', 576), key('attention.value_length', 512)],
      ...[key('attention.key_length_mla', 192), key('attention.value_length_mla', 128)],
    ];
    const older = [key('attention.key_length', 192), key('attention.value_length', 128)];
    const a = await load('deepseek2', [...sizes('deepseek2', 27, 2048, 16, 1), ...common, ...newer]);
    const b = await load('deepseek2', [...sizes('deepseek2', 27, 2048, 16, 16), ...common, ...older]);
    expect(a.layers[0].latent).toEqual({ rank: 512, ropeDim: 64 });
    expect(b.layers[0].latent).toEqual({ rank: 512, ropeDim: 64, expandedInLlamaCpp: true });
    const plain = (shape: ModelShape) => shape.layers.map(({ latent, ...rest }) => [rest, latent?.rank]);
    expect(plain(a)).toEqual(plain(b));
    expect(kvElementsPerToken(a)).toBe(27 * 576);
    expect(kvElementsPerToken(b)).toBe(27 * 576);
  });

  it.each<[string, readonly Pair[], string]>([
    [
      'K that does not divide N',
      sizes('llama', 2, 576, 9, 4),
      'llama.attention.head_count_kv: expected a divisor of the query heads (llama.attention.head_count N=9), got K=4',
    ],
    [
      'no heads',
      sizes('llama', 2, 576, 9).slice(0, 2),
      'llama.attention.head_count: expected query heads, got no such key',
    ],
    ['a head dim that is not whole', sizes('llama', 2, 577, 9, 3), 'embedding_length 577'],
    [
      'no layers',
      sizes('llama', 2, 576, 9).slice(1),
      'one of llama.decoder_block_count, llama.block_count: expected',
    ],
  ])('refuses %s', async (_, pairs, text) => {
    await expect(load('llama', pairs)).rejects.toThrow(text);
    await expect(load('llama', pairs)).rejects.toBeInstanceOf(FormatError);
  });

  it('refuses a file without an architecture', async () => {
    const header = await readGgufHeader(bytesSource('x.gguf', buildGguf({})));
    expect(() => modelShapeFromGguf(header)).toThrow('general.architecture: expected a string');
  });
});
