/**
 * Llama 1 to 3 and models stored as Llama (SmolLM2, TinyLlama, Yi, CodeLlama; in GGUF also Mistral and
 * Mixtral).
 *
 * The rotated pairs differ between files: Hugging Face has (i, i + H/2); GGUF permutes the rows of q and k,
 * so that the same pairs are (2i, 2i + 1). Confusing them is easy to miss, since the model still writes
 * plausible text.
 *
 * Source: transformers models/llama; llama.cpp convert_hf_to_gguf.py (LlamaModel.permute,
 * generate_extra_tensors).
 */
import { ggufExpertKeys, withExperts, withGgufExpertNames } from './expert-keys.ts';
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import { gatedConfigJson } from './gated-config-json.ts';
import {
  gatedFromConfig,
  gatedFromGguf,
  ggufNames,
  huggingFaceNames,
  statedBiases,
} from './gated-decoder.ts';

export const llama: Family = {
  modelTypes: ['llama'],
  ggufArchitectures: ['llama'],
  ggufForm: 'llama',

  fromConfig(source: FamilySource): DecoderDescription {
    const config = gatedFromConfig(source, {
      biases: statedBiases(source.keys),
      maxPositionEmbeddings: 2048,
    });
    return { config, names: huggingFaceNames };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const config = gatedFromGguf(source, { interleaved: true, experts: true });
    const experts = ggufExpertKeys('llama');
    if (!keys.has(experts.numExperts)) return { config, names: ggufNames };
    const routing = { scores: 'softmaxOfChosen', normalize: false } as const;
    return {
      config: withExperts(config, keys, experts, routing),
      names: withGgufExpertNames(ggufNames),
    };
  },

  toConfig: (config) => gatedConfigJson(config, 'llama', 'LlamaForCausalLM'),
};
