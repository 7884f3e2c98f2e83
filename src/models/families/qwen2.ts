/**
 * Qwen 2 and 2.5: Llama with biases on q, k and v, for which there is no key. With `use_sliding_window` the
 * layers from `max_window_layers` on slide. GGUF files state no window.
 *
 * Source: transformers models/qwen2; llama.cpp convert_hf_to_gguf.py (Qwen2Model: q and k not permuted).
 */
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import { gatedConfigJson } from './gated-config-json.ts';
import { gatedFromConfig, gatedFromGguf, ggufNames, huggingFaceNames } from './gated-decoder.ts';

export const qwen2: Family = {
  modelTypes: ['qwen2'],
  ggufArchitectures: ['qwen2'],

  fromConfig(source: FamilySource): DecoderDescription {
    const biases = { queryKeyValue: true, attentionOutput: false, mlp: false };
    const config = gatedFromConfig(source, { biases, maxPositionEmbeddings: 32_768 });
    return { config, names: huggingFaceNames };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    return { config: gatedFromGguf(source), names: ggufNames };
  },

  toConfig: (config) => gatedConfigJson(config, 'qwen2', 'Qwen2ForCausalLM'),
};
