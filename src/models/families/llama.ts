/**
 * Llama 1 to 3 and what is stored as one (SmolLM2, TinyLlama, Yi, CodeLlama; as GGUF Mistral too).
 *
 * The two file kinds differ in one trap: Hugging Face rotates pairs (i, i + H/2); GGUF stores the rows of q and k permuted
 * so that the same pairs are (2i, 2i + 1). Read with the wrong one a model still writes plausible text.
 *
 * Source: transformers models/llama; llama.cpp convert_hf_to_gguf.py (LlamaModel.permute, generate_extra_tensors).
 */
import type { DecoderDescription, Family, FamilySource } from './family.ts';
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
};
