/**
 * Qwen 3: Llama with an RMS norm over each head of q and k before the rotation, a head dim that need not be D
 * / N, and no biases by default. Windows are as in Qwen 2.
 *
 * Source: transformers models/qwen3; llama.cpp convert_hf_to_gguf.py (Qwen3Model).
 */
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import { gatedConfigJson } from './gated-config-json.ts';
import { gatedFromConfig, gatedFromGguf, ggufNames, HEAD_NORM, huggingFaceNames } from './gated-decoder.ts';

export const qwen3: Family = {
  modelTypes: ['qwen3'],
  ggufArchitectures: ['qwen3'],

  fromConfig(source: FamilySource): DecoderDescription {
    const attentionBias = source.keys.flag('attention_bias') ?? false;
    const biases = { queryKeyValue: attentionBias, attentionOutput: attentionBias, mlp: false };
    const config = gatedFromConfig(source, {
      biases,
      queryKeyNorm: HEAD_NORM,
      maxPositionEmbeddings: 32_768,
    });
    return { config, names: huggingFaceNames };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    return { config: gatedFromGguf(source, { queryKeyNorm: HEAD_NORM }), names: ggufNames };
  },

  toConfig: (config) => gatedConfigJson(config, 'qwen3', 'Qwen3ForCausalLM'),
};
