/**
 * Llama 1 to 3 and models stored as Llama (SmolLM2, TinyLlama, Yi, CodeLlama; in GGUF also Mistral).
 *
 * The rotated pairs differ between files: Hugging Face has (i, i + H/2); GGUF permutes the rows of q and k,
 * so that the same pairs are (2i, 2i + 1). Confusing them is easy to miss, since the model still writes
 * plausible text.
 *
 * Source: transformers models/llama; llama.cpp convert_hf_to_gguf.py (LlamaModel.permute,
 * generate_extra_tensors).
 */
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import { gatedConfigJson } from './gated-config-json.ts';
import { gatedFromConfig, gatedFromGguf, ggufNames, huggingFaceNames } from './gated-decoder.ts';

export const llama: Family = {
  modelTypes: ['llama'],
  ggufArchitectures: ['llama'],
  ggufForm: 'llama',

  fromConfig(source: FamilySource): DecoderDescription {
    const attentionBias = source.keys.flag('attention_bias') ?? false;
    const biases = {
      queryKeyValue: attentionBias,
      attentionOutput: attentionBias,
      mlp: source.keys.flag('mlp_bias') ?? false,
    };
    const config = gatedFromConfig(source, { biases, maxPositionEmbeddings: 2048 });
    return { config, names: huggingFaceNames };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    return { config: gatedFromGguf(source, { interleaved: true }), names: ggufNames };
  },

  toConfig: (config) => gatedConfigJson(config, 'llama', 'LlamaForCausalLM'),
};
