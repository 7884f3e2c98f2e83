/**
 * Sizes read from a config.json against the growth of transformers' own cache: every causal model's default
 * config as transformers saves it and as hubs have it, and files with keys that only hubs use
 * (tools/golden/cache_growth.py).
 */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { kvElementsPerToken, type LayerShape, modelShapeFromConfig } from '../../src/format/model-shape.ts';
import { FormatError } from '../../src/plan/index.ts';
import { planKvCache } from '../../src/plan/plan-kv-cache.ts';

interface Row {
  readonly form: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly layers: string;
}

const [versions, ...rows] = JSON.parse(
  readFileSync(new URL('../golden/planner/cache-growth.json', import.meta.url), 'utf8'),
) as [object, ...Row[]];

/** As the golden file writes them: runs of layers that add as much. */
function runs(layers: readonly LayerShape[]): string {
  const found: [count: number, text: string][] = [];
  for (const layer of layers) {
    const values = kvElementsPerToken({ layers: [layer] } as never);
    if (values === 0) continue;
    const text = `${values}${layer.window === undefined ? '' : `w${layer.window}`}`;
    const last = found.at(-1);
    if (last?.[1] === text) last[0]++;
    else found.push([1, text]);
  }
  return found.map(([count, text]) => `${count}x${text}`).join(' ');
}

/**
 * What is refused, and why: a head dim that is no whole number in the class's default, caches of another
 * kind.
 */
const REFUSED: Readonly<Record<string, string>> = {
  glm4_moe: 'num_attention_heads: expected a divisor of hidden_size 4096',
  deepseek_v4: 'model_type: expected a family whose cache is supported',
};

describe('every causal model of transformers', () => {
  test('the file has them all', () => {
    expect(versions).toEqual({ transformers: '5.23.0', torch: '2.15.0' });
    expect(rows.filter(({ form }) => form === 'saved').length).toBeGreaterThan(130);
    expect(rows.filter(({ form }) => form === 'bare').length).toBeGreaterThan(40);
    expect(rows.filter(({ form }) => form === 'hub').length).toBeGreaterThan(14);
  });

  test.each(rows.map((row) => [String(row.config.model_type), row.form, row] as const))(
    '%s, %s',
    (modelType, form, { config, layers }) => {
      const refused = form === 'hub' ? undefined : REFUSED[modelType];
      if (refused !== undefined) {
        expect(() => modelShapeFromConfig(config, 'config.json')).toThrow(refused);
        return;
      }
      // Nemotron-H's class has four layers of its own for a file that lists none; no file is so.
      if (modelType === 'nemotron_h' && form === 'bare') {
        expect(() => modelShapeFromConfig(config, 'config.json')).toThrow(FormatError);
        return;
      }
      const shape = modelShapeFromConfig(config, 'config.json');
      expect(runs(shape.layers)).toBe(layers);
      expect(shape.warnings).toBeUndefined();
    },
  );
});

describe('files that no class of transformers reads', () => {
  const llama = {
    hidden_size: 64,
    num_hidden_layers: 4,
    num_attention_heads: 8,
    max_position_embeddings: 100,
  };
  const elements = (config: object) => {
    const shape = modelShapeFromConfig({ ...llama, ...config }, 'config.json');
    expect(shape.warnings).toBeUndefined();
    return kvElementsPerToken(shape);
  };

  test('nemotron-nas: query heads per key head, layer by layer', () => {
    const attention = (n_heads_in_group: number | null, more: object = {}) => ({
      attention: { n_heads_in_group, no_op: false, replace_with_linear: false, window_length: null, ...more },
      ffn: { ffn_mult: 2, no_op: false },
    });
    const block_configs = [
      attention(8),
      attention(null, { no_op: true }),
      attention(2),
      attention(null, { replace_with_linear: true }),
    ];
    const config = { model_type: 'nemotron-nas', num_key_value_heads: null, block_configs };
    // K = 8 / 8 and 8 / 2, H = 64 / 8, keys and values.
    expect(elements(config)).toBe((1 + 4) * 8 * 2);
    expect(planKvCache({ ...llama, ...config }, { contextLength: 1 }).layers.map(({ kind }) => kind)).toEqual(
      ['full', 'linear', 'full', 'linear'],
    );
    const wrong = {
      ...llama,
      model_type: 'nemotron-nas',
      block_configs: [...block_configs.slice(0, 3), attention(3)],
    };
    expect(() => modelShapeFromConfig(wrong, 'c')).toThrow(
      'c: block_configs: expected an n_heads_in_group that divides N=8 in layer 3, got 3',
    );
    const windowed = {
      ...llama,
      block_configs: [...block_configs.slice(0, 3), attention(8, { window_length: 9 })],
    };
    expect(modelShapeFromConfig(windowed, 'c').warnings?.[0]).toMatch(/windows of 1 layers in block_configs/);
  });

  test('K per layer: DeciLM and OpenELM, whose N differs too', () => {
    expect(elements({ model_type: 'deci', num_key_value_heads_per_layer: [4, 4, 2, 1] })).toBe(11 * 8 * 2);
    const openelm = {
      ...{
        model_type: 'openelm',
        model_dim: 64,
        num_transformer_layers: 3,
        head_dim: 16,
        max_context_length: 99,
      },
      ...{ num_query_heads: [12, 20, 4], num_kv_heads: [3, 5, 1], num_gqa_groups: 4, vocab_size: 10 },
      share_input_output_layers: true,
    };
    const shape = modelShapeFromConfig(openelm, 'c');
    expect(shape).toMatchObject({
      numHeads: 20,
      numKeyValueHeads: 5,
      maxPositionEmbeddings: 99,
      tiedEmbeddings: true,
    });
    expect(kvElementsPerToken(shape)).toBe(9 * 16 * 2);
    expect(shape.layers.map((layer) => layer.numHeads)).toEqual([12, undefined, 4]);
    // As multi-head attention every layer has its own N.
    expect(planKvCache(shape, { contextLength: 1, numKeyValueHeads: 20, kvDtype: 'f16' }).totalBytes).toBe(
      36 * 16 * 2 * 2,
    );
  });

  test('windows as a list: 0 or null sees everything, a part repeats', () => {
    const windows = (sliding_window: unknown) =>
      modelShapeFromConfig({ ...llama, model_type: 'x', sliding_window }, 'c').layers.map(
        ({ window }) => window,
      );
    expect(windows([null, 7, 0, 9])).toEqual([undefined, 7, undefined, 9]);
    expect(windows([7, null])).toEqual([7, undefined, 7, undefined]);
    expect(() => windows([1, 2, 3])).toThrow(
      'c: sliding_window: expected a window per layer (4, or a part that repeats), got 3',
    );
  });

  test('Nemotron-H: the list of layers says how many there are, attention_head_dim how wide', () => {
    const config = {
      model_type: 'nemotron_h',
      layers_block_type: ['mamba', 'attention', 'mlp'],
      attention_head_dim: 10,
    };
    const { num_hidden_layers: _, ...rest } = llama;
    const shape = modelShapeFromConfig({ ...rest, ...config, num_key_value_heads: 2 }, 'c');
    expect(shape.numLayers).toBe(3);
    expect(kvElementsPerToken(shape)).toBe(2 * 10 * 2);
  });

  test('MPT and DBRX keep K in attn_config', () => {
    const attn_config = { attn_type: 'grouped_query_attention', kv_n_heads: 2, clip_qkv: 8, attn_pdrop: 0 };
    expect(elements({ model_type: 'mpt', attn_config })).toBe(4 * 2 * 8 * 2);
    expect(elements({ model_type: 'mpt', attn_config: { attn_type: 'multiquery_attention' } })).toBe(
      4 * 8 * 2,
    );
  });

  test('an absurd number of heads is refused before anything is done per head', () => {
    const config = { ...llama, hidden_size: 2 ** 32, num_attention_heads: 2 ** 32, head_dim: 1 };
    expect(() => modelShapeFromConfig(config, 'c')).toThrow(
      'c: num_attention_heads: expected at most 65536 query heads, got 4294967296',
    );
  });
});

describe('keys that are not known', () => {
  const llama = { model_type: 'x', hidden_size: 64, num_hidden_layers: 4, num_attention_heads: 8 };
  const warnings = (more: object) => planKvCache({ ...llama, ...more }, { contextLength: 5 }).warnings;

  test('are named beside the number, with their values', () => {
    expect(warnings({ kv_compression_ratio: 4, attention_bias: true, attention_dropout: 0.1 })).toEqual([
      'the cache may be of another size: unknown keys: kv_compression_ratio (4)',
    ]);
    expect(warnings({ hybrid_layer_pattern: [0, 1, 1, 0], num_loops: 3, head_size: 5 })).toEqual([
      'the cache may be of another size: unknown keys: hybrid_layer_pattern (an array), num_loops (3), head_size (5)',
    ]);
    expect(warnings({ global_attn_every_n_layers: 2 }).length).toBe(1);
    expect(warnings({ attention_type_of_tomorrow: null })).toEqual([]);
  });

  test('loops over the layers and caches shared across layers are such keys; what is switched off is none', () => {
    expect(warnings({ total_ut_steps: 4, layer_norm_eps: 1e-5 })[0]).toContain('total_ut_steps (4)');
    expect(warnings({ use_cla: true, cla_share_factor: 2 })[0]).toContain('cla_share_factor (2)');
    expect(warnings({ use_cache_quantization: false })).toEqual([]);
  });

  // Keys of released files, beside those that only name sizes; their families are read right.
  test.each([
    ['qwen', { kv_channels: 8, use_cache_quantization: false, use_cache_kernel: false, use_logn_attn: true }],
    [
      'chatglm',
      {
        kv_channels: 8,
        apply_query_key_layer_scaling: true,
        attention_softmax_in_fp32: true,
        interleaved_qkv: false,
      },
    ],
    [
      'minimax_text_01',
      {
        attn_type_list: [0, 0, 0, 1],
        layernorm_full_attention_alpha: 3.5,
        layernorm_linear_attention_beta: 1,
      },
    ],
    [
      'phi3small',
      { blocksparse_block_size: 64, blocksparse_num_local_blocks: 16, dense_attention_every_n_layers: 2 },
    ],
    [
      'cohere2',
      { order_of_interleaved_layers: 'local_attn_first', cache_implementation: 'hybrid', layer_switch: 4 },
    ],
    [
      'mimo_v2_flash',
      { attention_chunk_size: 128, attention_projection_layout: 'split', add_swa_attention_sink_bias: true },
    ],
    [
      'falcon',
      { multi_query: true, new_decoder_architecture: true, num_kv_heads: 2, num_ln_in_parallel_attn: 2 },
    ],
    [
      'smollm3',
      {
        no_rope_layer_interval: 4,
        no_rope_layers: [1, 1, 1, 0],
        max_window_layers: 28,
        use_sliding_window: false,
      },
    ],
    [
      'nemotron_h',
      { hybrid_override_pattern: 'M-*-', attn_hidden_act: 'silu', mamba_head_dim: 64, attention_head_dim: 8 },
    ],
    [
      'deepseek_v3',
      {
        kv_lora_rank: 8,
        q_lora_rank: 9,
        qk_nope_head_dim: 4,
        qk_rope_head_dim: 4,
        v_head_dim: 4,
        topk_group: 4,
      },
    ],
  ])('%s has none', (model_type, more) => {
    const unsure = warnings({ model_type, ...more }).filter((text) => !text.includes('linear layers'));
    expect(unsure).toEqual([]);
  });

  test('a list of the layers answers for keys that say which slide', () => {
    const layer_types = ['full_attention', 'full_attention', 'full_attention', 'full_attention'];
    expect(warnings({ global_attn_every_n_layers: 2, layer_types })).toEqual([]);
  });

  test('an indexer beside plain heads without a list of its layers', () => {
    expect(warnings({ index_head_dim: 9 })).toEqual([
      'which layers have an indexer is not known for x: its keys are not counted',
    ]);
    const layer_types = ['full_attention', 'indexed_attention', 'full_attention', 'indexed_attention'];
    const plan = planKvCache({ ...llama, index_head_dim: 9, layer_types }, { contextLength: 5 });
    expect(plan.warnings).toEqual([]);
    expect(plan.bytesPerToken).toBe((4 * 2 * 64 + 2 * 9) * 2);
  });

  test('windows without a rule for which layers slide', () => {
    expect(warnings({ sliding_window: 9 })).toEqual([
      'which layers slide is not known for x: every layer is assumed to slide over 9 tokens',
    ]);
  });

  test('what fewer heads give is told the same doubt', () => {
    expect(
      planKvCache({ ...llama, cache_stride: 2 }, { contextLength: 5, numKeyValueHeads: 1 }).warnings.length,
    ).toBe(1);
  });
});
