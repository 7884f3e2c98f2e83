/**
 * Keys about attention that do not change what a cache holds. A key that looks like one about attention, and
 * is neither read nor listed here, gives the shape a warning: its sizes may be wrong.
 *
 * Source: the configurations of transformers 5.23.0, each compared with the growth of its model's cache
 * (tools/golden/cache_growth.py); llama.cpp's llama-arch.cpp for GGUF.
 */
import { show } from '../arguments/kinds.ts';

const words = (text: string): readonly string[] => text.trim().split(/\s+/);

const LOOKS_LIKE_ATTENTION = new RegExp(
  words(`
    attn attention head kv key_value window cache slid swa layer_type block_type block_conf pattern interval chunk latent
    lora_rank index sparse hybrid cross global local loop ut_steps (^|_)mla (^|_)cla(_|$) recurren memory quer(y|ies) per_layer compress
    every_n reuse share.*layer layer.*share mixer
  `).join('|'),
  'i',
);

/**
 * Names about something else: biases, dropout, norms, rotation, experts, states, other models in the file.
 */
const HARMLESS = new RegExp(
  `(${words('bias dropout _prob pdrop softcap(ping)? theta _eps epsilon dtype fp32').join('|')})$|^(${words(`
    output return moe expert mlp mtp router rope num_expert n_expert vision audio image video encoder mamba ssm linear conv
    short_conv layernorm lm_head quantization n_shared num_shared shared_expert shared_intermediate text tokenizer
  `).join('|')})(_|$)|experts?(_|$)|intermediate_size$|rotary`,
  'i',
);

/** Keys about attention that do not change the cache. */
const KNOWN: ReadonlySet<string> = new Set(
  words(`
    _sliding_window_pattern _attn_implementation _attn_implementation_autoset activation_sparsity_pattern add_cross_attention attention_hidden_size
    attention_in_multiplier attention_multiplier attention_out_multiplier attention_sinks attention_type attention_value_scale
    apply_query_key_layer_scaling attention_projection_layout attn_hidden_act attn_implementation full_attn_mod interleaved_qkv
    mup_attn_multiplier num_ln_in_parallel_attn use_cache_kernel use_logn_attn
    attn_impl attn_output_gate attn_scale attn_temperature_tuning attn_type attn_uses_sequence_id cache_implementation chunk_size
    chunk_size_feed_forward classifier_num_heads clip_qkv cross_attention_hidden_size decoder_sparse_step
    encoder_attention_heads expert_layer_period full_attn_alpha_factor full_attn_beta_factor global_rope_theta
    head_dim hc_sinkhorn_iters hidden_size_per_layer_input index_block_size index_local_blocks index_n_heads index_topk
    index_topk_blocks indexer_budget indexer_compress_ratio indexer_kv_heads indexer_n_heads is_causal key_multiplier kv_channels
    kv_n_heads learnable_sink_init max_window_layers n_layers_per_attn_res_block n_mamba_heads no_rope_layer_interval
    no_rope_layers num_encoder_attention_heads num_gqa_groups num_mamba_heads num_mem_blocks o_lora_rank parallel_attn
    q_lora_rank qk_head_dim query_pre_attn_scalar relative_attention_max_distance relative_attention_num_buckets
    reorder_and_upcast_attn sliding_window scale_attn_by_inverse_layer_idx scale_attn_weights use_attention_gate use_attention_sinks
    use_bidirectional_attention use_cache use_flash_attention use_flash_attention_2 use_flash_attn use_head_wise_attn_gate
    use_qk_norm use_shared_attention_adapter vocab_size_per_layer_input
  `),
);

/** Keys about the kinds of layers. They do not matter where the file lists the kind of each layer. */
const KNOWN_WITH_LIST: ReadonlySet<string> = new Set(
  words(`
    attention_chunk_size attn_layer_indices attn_layer_offset attn_layer_period attn_type_list full_attention_interval
    full_attn_idxs global_attn_every_n_layers hybrid_layer_ids hybrid_layer_pattern hybrid_override_pattern layer_group_size
    linear_attn_config local_layer_ids num_sliding_attention_heads prefix_dense_sliding_window_pattern sliding_window_pattern
  `),
);

/** GGUF keys about attention, without `{arch}.`, that do not change the cache. */
const KNOWN_IN_GGUF: ReadonlySet<string> = new Set(
  words(`
    attention.causal attention.clamp_kqv attention.group_norm_epsilon attention.group_norm_groups attention.head_count
    attention.head_count_kv attention.indexer.block_size attention.indexer.head_count attention.indexer.kpool_select_tail
    attention.indexer.local_blocks attention.indexer.top_k attention.key_length attention.key_length_mla
    attention.key_length_swa attention.layer_norm_epsilon attention.layer_norm_rms_epsilon attention.layernorm_type
    attention.max_alibi_bias attention.output_group_count attention.output_lora_rank attention.output_scale
    attention.q_lora_rank attention.relative_buckets_count attention.rope_pattern attention.scale attention.temperature_length
    attention.temperature_scale attention.value_length attention.value_length_mla attention.value_length_swa
    attention.value_scale embedding_length_per_layer_input interleave_moe_layer_step kda.head_dim moe_every_n_layers
    rescale_every_n_layers shortconv.l_cache wkv.head_size
  `),
);

/**
 * @param entries of the language model's config
 * @param asked the keys that were read
 * @param own keys that do not change the cache of this family
 * @returns a warning that lists unknown keys about attention; none without such keys
 */
export function unknownAttentionKeys(
  entries: readonly (readonly [string, unknown])[],
  asked: ReadonlySet<string>,
  own: readonly string[] = [],
): readonly string[] {
  const listed = entries.some(([key, value]) => /^layer(s_block|)_types?$/.test(key) && Array.isArray(value));
  const unknown = entries.filter(
    ([key, value]) =>
      value !== null &&
      !(value === false && key.startsWith('use_')) &&
      LOOKS_LIKE_ATTENTION.test(key) &&
      !HARMLESS.test(key) &&
      !KNOWN.has(key) &&
      !(listed && KNOWN_WITH_LIST.has(key)) &&
      !asked.has(key) &&
      !own.includes(key),
  );
  return warning(unknown);
}

/**
 * As `unknownAttentionKeys`, for the keys of a GGUF file's architecture.
 * @param metadata of the header
 */
export function unknownGgufKeys(
  metadata: ReadonlyMap<string, unknown>,
  asked: ReadonlySet<string>,
  arch: string,
): readonly string[] {
  const prefix = `${arch}.`;
  const unknown = [...metadata].filter(([key]) => {
    const name = key.slice(prefix.length);
    return (
      key.startsWith(prefix) &&
      LOOKS_LIKE_ATTENTION.test(name) &&
      !HARMLESS.test(name.replaceAll('.', '_')) &&
      !KNOWN_IN_GGUF.has(name) &&
      !asked.has(key)
    );
  });
  return warning(unknown);
}

function warning(unknown: readonly (readonly [string, unknown])[]): readonly string[] {
  if (unknown.length === 0) return [];
  const named = unknown.slice(0, 8).map(([key, value]) => `${key} (${show(value)})`);
  const more = unknown.length > 8 ? ` and ${unknown.length - 8} more` : '';
  return [`the cache may be of another size: unknown keys: ${named.join(', ')}${more}`];
}
