/**
 * GGUF metadata by key, as llama.cpp reads it: for some keys the value 0 is the same as no key, since
 * llama.cpp initialises its variables with 0.
 *
 * Source: llama.cpp src/llama-model.cpp (load_hparams), src/models/*.cpp, src/llama-graph.cpp
 * (build_moe_ffn).
 */
import type { GgufHeader } from './gguf.ts';
import { KeyReader } from './key-reader.ts';

/**
 * Keys where 0 means none (experts, latents) or the default (the original length is then the context length).
 */
const NONE_AT_ZERO = new RegExp(
  [
    '\\.expert_(count|used_count|shared_count|feed_forward_length|group_count|group_used_count)$',
    '\\.expert_(gating_func|weights_scale)$',
    '\\.attention\\.(q_lora_rank|kv_lora_rank|key_length_mla|value_length_mla|indexer\\.key_length)$',
    '\\.rope\\.scaling\\.original_context_length$',
  ].join('|'),
);

export function ggufKeys({ file, metadata }: Pick<GgufHeader, 'file' | 'metadata'>): KeyReader {
  return new KeyReader(file, (key) => {
    const value = metadata.get(key);
    return value === 0 && NONE_AT_ZERO.test(key) ? undefined : value;
  });
}
