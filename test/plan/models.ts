/**
 * Model files for the planner's tests: a GGUF with a large vocabulary and much data, a config.json,
 * safetensors.
 */
import { buildGguf, buildSafetensors, stringPair, stringsPair, u32Pair } from '../format/build-files.ts';

/** K=4 of N=12, H=24, 5 layers; its header is some 300 KB, its file 4 MB. */
export function largeGguf(): Uint8Array {
  return buildGguf({
    pairs: [
      stringPair('general.architecture', 'llama'),
      u32Pair('llama.block_count', 5),
      u32Pair('llama.embedding_length', 288),
      u32Pair('llama.attention.head_count', 12),
      u32Pair('llama.attention.head_count_kv', 4),
      u32Pair('llama.context_length', 512),
      stringsPair(
        'tokenizer.ggml.tokens',
        Array.from({ length: 20_000 }, (_, i) => `token${i}`),
      ),
    ],
    tensors: [{ name: 'token_embd.weight', dims: [288, 3000], type: 0, offset: 0 }],
    dataBytes: 288 * 3000 * 4,
  });
}

export const config: string = JSON.stringify({
  model_type: 'llama',
  hidden_size: 288,
  num_hidden_layers: 5,
  num_attention_heads: 12,
  num_key_value_heads: 4,
  intermediate_size: 768,
  vocab_size: 3000,
  max_position_embeddings: 512,
});

export function someSafetensors(): Uint8Array {
  const header = { 'model.norm.weight': { dtype: 'F32', shape: [288], data_offsets: [0, 1152] } };
  return buildSafetensors(header, new Uint8Array(1152));
}
