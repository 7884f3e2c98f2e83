/**
 * The table of families: one row per `model_type`, and per GGUF architecture where its name differs. Families
 * whose files state everything need no row. Families with the same facts share one. `name*` is every name
 * that begins so and is in no other row.
 *
 * Source: the configuration_*.py and modeling_*.py files of transformers 5.23.0; for nemotron-nas the
 * block_config.py of its repository; for GGUF and llama.cpp `load_arch_hparams` in llama.cpp's
 * src/models/*.cpp, as in llama-cpp-python 0.3.36.
 */
import { byLayer, type FamilyFacts, firstOf, lastOf } from './family-facts.ts';
import type { KeyReader } from './key-reader.ts';

const multiQuery = (keys: KeyReader) => keys.flag('multi_query') ?? true;
/** Full in the last layer of the model and of each period. */
const endsFull = (i: number, n: number, every: number) =>
  i === n - 1 || (i + 1) % every === 0 ? 'full' : 'sliding';

const gpt2: FamilyFacts = {
  tied: true,
  fourfold: true,
  ungated: true,
  learnedPositions: true,
  slides: 'never',
  tokenizerClass: 'GPT2Tokenizer',
  gguf: { fusedQueryKeyValue: true },
};
const falcon: FamilyFacts = {
  tied: true,
  fourfold: true,
  ungated: true,
  slides: 'never',
  // K = 1, unless `new_decoder_architecture` is true or `multi_query` false.
  keyValueHeads: (keys, stated, numHeads) =>
    multiQuery(keys) && keys.flag('new_decoder_architecture') !== true ? 1 : (stated ?? numHeads),
  gguf: { fusedQueryKeyValue: true },
};
const mimo2: FamilyFacts = {
  // `sliding_window_size` counts the tokens before the query.
  windowFromKeys(keys) {
    const before = keys.int('sliding_window_size');
    return before && before + 1;
  },
  kindsFromKeys: (keys, numLayers) =>
    keys.perLayer(numLayers, 'hybrid_layer_pattern')?.map((flag) => (flag === 0 ? 'full' : 'sliding')),
};
const gemma4: FamilyFacts = { sharedExperts: 'mlp', fullHeadDim: 512, gguf: { tokensInMergeOrder: true } };

const ROWS: Readonly<Record<string, FamilyFacts>> = {
  afmoe: {
    layers: lastOf(4, { window: 1024, key: 'global_attn_every_n_layers' }),
    slidesInLlamaCpp: true,
    gguf: { layers: lastOf(4) },
  },
  bailing_hybrid: { layers: lastOf(6, { key: 'layer_group_size' }, 'linear') },
  beam: { layers: lastOf(6, { layer: endsFull }) },
  bloom: { tied: true, fourfold: true, ungated: true, gguf: { fusedQueryKeyValue: true } },
  chatglm: {
    keyValueHeads: (keys, stated, numHeads) =>
      keys.flag('multi_query_attention') === true ? (stated ?? numHeads) : numHeads,
  },
  cohere: { tied: true },
  cohere2: {
    tied: true,
    layers: lastOf(4, { window: 4096 }),
    slidesInLlamaCpp: true,
    gguf: { layers: lastOf(4) },
  },
  // The first, dense layers have another pattern.
  cohere2_moe: {
    kindsFromKeys(keys, numLayers) {
      const dense = keys.count('first_k_dense_replace') ?? 0;
      const front = keys.int('prefix_dense_sliding_window_pattern') ?? 1;
      const rest = keys.int('sliding_window_pattern') ?? 4;
      const full = (i: number) => (i < dense ? (i + 1) % front : (i - dense + 1) % rest) === 0;
      return byLayer(numLayers, (i) => (full(i) ? 'full' : 'sliding'));
    },
    slidesInLlamaCpp: true,
  },
  cohere2moe: { slidesInLlamaCpp: true, gguf: { layers: firstOf(4) } },
  cwm: { layers: firstOf(4, { window: 8192 }) },
  'deepseek4 dflash': { gguf: { otherCache: true } },
  'deepseek_v2 deepseek_v3': { slides: 'never' },
  'deepseek_v4 falcon_mamba mamba mamba2 recurrent_gemma rwkv* xlstm': { otherCache: true },
  'diffusion_gemma*': { fullHeadDim: 512 },
  doge: { slides: 'all', otherKeys: ['keep_window_size'] },
  dots1: { slides: 'late' },
  dots3_note_text: {
    layers: lastOf(4, {
      window: 512,
      switched: true,
      layer: (i) => (i < 2 || i % 4 === 1 ? 'full' : 'sliding'),
    }),
    slidingHeads: {
      num_attention_heads: 64,
      num_key_value_heads: 64,
      kv_lora_rank: 1024,
      qk_nope_head_dim: 192,
    },
    slidesInLlamaCpp: true,
  },
  'dots3note granite-swa lfm2 maple mimo2 muse_glimmer spark2-5 step35 step3p5': { slidesInLlamaCpp: true },
  'exaone-moe': { slidesInLlamaCpp: true, gguf: { layers: lastOf(4, { window: 128 }) } },
  exaone4: { layers: lastOf(4, { window: 4096 }), slidesInLlamaCpp: 64, gguf: { layers: lastOf(4) } },
  'exaone_moe olmo3': { layers: lastOf(4, { window: 4096 }), slidesInLlamaCpp: true },
  falcon: { ...falcon, defaults: { max_position_embeddings: 2048 }, cachesAllHeads: true },
  flint: {
    layers: lastOf(4, {
      window: 513,
      layer: (i, n) => (i < 2 || i % 4 === 1 || i === n - 1 ? 'full' : 'sliding'),
    }),
  },
  gemma: { tied: true, gguf: { tokensInMergeOrder: true } },
  'gemma*': { gguf: { tokensInMergeOrder: true } },
  gemma2: {
    tied: true,
    layers: lastOf(2, { window: 4096, fixedPeriod: true, needsWindow: true }),
    slidesInLlamaCpp: true,
    gguf: { layers: lastOf(2, { window: 4096 }), tokensInMergeOrder: true },
  },
  gemma3: { tied: true, slidesInLlamaCpp: true, gguf: { layers: lastOf(6), tokensInMergeOrder: true } },
  gemma3_text: {
    tied: true,
    nestedDefaults: {
      vocab_size: 262_208,
      hidden_size: 2304,
      intermediate_size: 9216,
      num_hidden_layers: 26,
      num_attention_heads: 8,
      num_key_value_heads: 4,
      head_dim: 256,
      max_position_embeddings: 131_072,
    },
    layers: lastOf(6, { window: 4096, needsWindow: true }),
    slidesInLlamaCpp: true,
  },
  // llama.cpp assumes 20 layers with a cache of their own in every model of the family.
  gemma3n: { slidesInLlamaCpp: true, gguf: { layers: lastOf(5), ownCaches: 20, tokensInMergeOrder: true } },
  gemma3n_text: { tied: true, layers: lastOf(5, { window: 512 }), slidesInLlamaCpp: true },
  gemma4: { ...gemma4, slidesInLlamaCpp: true },
  'gemma4*': gemma4,
  gemma4_text: { ...gemma4, layers: lastOf(6, { window: 512, layer: endsFull }), slidesInLlamaCpp: true },
  gemma4_unified_text: {
    ...gemma4,
    layers: lastOf(6, { window: 1024, layer: endsFull }),
    slidesInLlamaCpp: true,
  },
  // GLM 5.2, recognised by its context, has an indexer in every fourth layer; the three after it use its
  // choice.
  'glm-dsa': {
    gguf: {
      indexer: (keys) =>
        (keys.int('glm-dsa.context_length') ?? 0) >= 1 << 20 ? (i) => i < 2 || (i - 2) % 4 === 0 : undefined,
    },
  },
  'gpt-oss': { slidesInLlamaCpp: true, gguf: { layers: lastOf(2) } },
  gpt2,
  gpt_bigcode: { ...gpt2, keyValueHeads: (keys, _, numHeads) => (multiQuery(keys) ? 1 : numHeads) },
  gpt_neo: {
    tied: true,
    fourfold: true,
    ungated: true,
    learnedPositions: true,
    otherKeys: ['attention_types', 'attention_layers', 'window_size'],
    tokenizerClass: 'GPT2Tokenizer',
  },
  gpt_oss: {
    layers: lastOf(2, { window: 128, fixedPeriod: true, needsWindow: true }),
    slidesInLlamaCpp: true,
  },
  gptj: { fourfold: true, ungated: true },
  mpt: { fourfold: true, ungated: true, gguf: { fusedQueryKeyValue: true } },
  'apertus arcee nanochat nemotron phi phi2': { ungated: true },
  'gpt_neox gptneox': { ungated: true, gguf: { fusedQueryKeyValue: true } },
  granite_swa: { layers: firstOf(4, { window: 128 }), slidesInLlamaCpp: true },
  granitemoe_swa: { layers: firstOf(4, { window: 128 }) },
  // One of its layers is counted in `nextn_predict_layers` although it is part of a forward pass.
  graniteswitch: { gguf: { draftsInPass: true } },
  // Layer 0, and every fourth from layer 1 on.
  hy_v4: { indexerPeriod: 4 },
  'inkling_text inkling2_text': { layers: lastOf(6) },
  'internlm2 ministral ministral3 mixtral phi4_multimodal phimoe zaya': { slides: 'all' },
  kimi_linear: { layers: firstOf(4, { layer: (i) => (i > 0 && i % 4 === 0 ? 'full' : 'linear') }) },
  kolibri1: { layers: lastOf(5, { window: 513 }) },
  laguna: {
    layers: lastOf(1, { layer: () => 'full' }),
    slidesInLlamaCpp: true,
    gguf: { layers: firstOf(4) },
  },
  lfm3: {
    layers: lastOf(4, {
      window: 256,
      layer: (i) => (i % 4 === 2 ? 'full' : i % 4 === 0 && i > 0 ? 'sliding' : 'linear'),
    }),
  },
  llama: {
    nestedDefaults: {
      vocab_size: 32_000,
      hidden_size: 4096,
      intermediate_size: 11_008,
      num_hidden_layers: 32,
      num_attention_heads: 32,
    },
    slides: 'never',
  },
  // Layers with rotary positions attend within a chunk; GGUF has no key for its length.
  llama4: {
    sharedExperts: 1,
    slidesInLlamaCpp: true,
    gguf: { layers: lastOf(4, { fixedWindow: 8192, window: 8192 }, 'chunked') },
  },
  llama4_text: {
    sharedExperts: 1,
    windowFromKeys: (keys) => keys.int('attention_chunk_size') ?? 8192,
    kindsFromKeys(keys, numLayers) {
      const interval = keys.int('no_rope_layer_interval') ?? 4;
      const listed = keys.list('no_rope_layers') ?? [];
      const rotates = (i: number) => (listed.length > 0 ? listed[i] === 1 : (i + 1) % interval !== 0);
      return byLayer(numLayers, (i) => (rotates(i) ? 'chunked' : 'full'));
    },
    slidesInLlamaCpp: true,
  },
  mellum: { layers: lastOf(1, { layer: () => 'full' }), slidesInLlamaCpp: true, gguf: { layers: lastOf(4) } },
  mimo_v2: { ...mimo2, slidesInLlamaCpp: true },
  'mimo_v2*': mimo2,
  mimo_v2_flash: {
    ...mimo2,
    layers: lastOf(6, { layer: (i, _, every) => (i === 0 || (i + 1) % every === 0 ? 'full' : 'sliding') }),
    slidingKeyValueFactor: 2,
    otherKeys: ['attention_chunk_size'],
    slidesInLlamaCpp: true,
  },
  minimax: { layers: firstOf(2, {}, 'linear') },
  'minimax-01': { gguf: { attentionPeriod: 8 } },
  'minimax-m3': {
    gguf: {
      indexer(keys) {
        const dense = keys.count('minimax-m3.leading_dense_block_count') ?? 0;
        return (i) => i >= dense;
      },
    },
  },
  minimax_m3_vl_text: { indexerListed: true },
  mistral: { slides: 'unlisted' },
  'modernbert-decoder': { layers: firstOf(3, { key: 'global_attn_every_n_layers' }) },
  'muse-glimmer olmo2': { slidesInLlamaCpp: true, gguf: { layers: lastOf(4) } },
  muse_glimmer_text: {
    layers: lastOf(4, { layer: (i, n, every) => ((n - 1 - i) % every === 0 ? 'full' : 'sliding') }),
    slidesInLlamaCpp: true,
  },
  nemotron_h: { countedByList: true },
  olmo_hybrid: { layers: lastOf(4, {}, 'linear') },
  opt: { tied: true, ungated: true, learnedPositions: true, tokenizerClass: 'GPT2Tokenizer' },
  phi3: { slides: 'always', gguf: { addedTokensTakeSpaces: true, fusedQueryKeyValue: true } },
  phi3small: {
    otherKeys: [
      ...['blocksparse_block_size', 'blocksparse_homo_head_pattern', 'blocksparse_num_local_blocks'],
      ...['blocksparse_triton_kernel_block_size', 'blocksparse_vert_stride'],
      'dense_attention_every_n_layers',
    ],
  },
  plamo3: { slidesInLlamaCpp: true, gguf: { layers: lastOf(8) } },
  'qwen2 qwen2_moe qwen3': { slides: 'switched', tokenizerClass: 'Qwen2Tokenizer' },
  qwen3_moe: {
    slides: 'switched',
    kindsFromKeys: (_, numLayers) => byLayer(numLayers, () => 'sliding'),
    tokenizerClass: 'Qwen2Tokenizer',
  },
  'qwen2* qwen3*': { slides: 'switched' },
  'qwen3_5_text qwen3_5_moe_text qwen3_next qwen4_exp_text': {
    layers: lastOf(4, { key: 'full_attention_interval' }, 'linear'),
  },
  'qwen35 qwen35moe qwen3next qwen4exp': { gguf: { attentionPeriod: 4 } },
  // Falcon 40B as first released: it states K although `multi_query` is true.
  RefinedWeb: {
    ...falcon,
    keyValueHeads(keys, stated, numHeads) {
      multiQuery(keys);
      return stated ?? numHeads;
    },
  },
  RefinedWebModel: falcon,
  roberta: { tokenizerClass: 'RobertaTokenizer' },
  smallthinker: { slidesInLlamaCpp: true, gguf: { layers: firstOf(4, { fixedWindow: 4096 }) } },
  starcoder: { ungated: true, learnedPositions: true, gguf: { fusedQueryKeyValue: true } },
  starcoder2: { tied: true, ungated: true, slides: 'always', tokenizerClass: 'GPT2Tokenizer' },
  vaultgemma: { layers: lastOf(2) },
  zamba: {
    doubleWidth: true,
    kindsFromKeys(keys, numLayers) {
      const period = keys.int('attn_layer_period') ?? 6;
      const offset = keys.count('attn_layer_offset') ?? 4;
      const full = (i: number) => i === 2 || (i > 2 && (i - 3) % period === offset);
      return byLayer(numLayers, (i) => (full(i) ? 'full' : 'linear'));
    },
  },
  'zamba*': { doubleWidth: true },
  zamba2: {
    doubleWidth: true,
    layers: lastOf(6, {
      layer: (i) => ([6, 12, 18, 24, 30, 36, 42, 47, 51].includes(i) ? 'full' : 'linear'),
    }),
  },
};

const FAMILIES = new Map(
  Object.entries(ROWS).flatMap(([names, row]) => names.split(' ').map((name) => [name, row])),
);

/**
 * The facts of a family.
 * @param name `model_type` of a config.json, or `general.architecture` of a GGUF file
 */
export function familyFacts(name: string): FamilyFacts {
  const starts = [...FAMILIES.keys()].filter((key) => key.endsWith('*') && name.startsWith(key.slice(0, -1)));
  const [longest] = starts.sort((a, b) => b.length - a.length);
  return FAMILIES.get(name) ?? FAMILIES.get(longest) ?? {};
}
