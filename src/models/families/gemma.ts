/**
 * Gemma 1: Llama with norm weights stored minus 1, tanh-GELU gates, embeddings times sqrt(D), and a head dim
 * that is not D / N. GGUF's converter adds the 1.
 *
 * Source: transformers models/gemma; llama.cpp conversion/gemma.py, src/models/gemma.cpp.
 */
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import {
  gatedFromConfig,
  gatedFromGguf,
  ggufNames,
  huggingFaceNames,
  statedBiases,
} from './gated-decoder.ts';

export const gemma: Family = {
  modelTypes: ['gemma'],
  ggufArchitectures: ['gemma'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys } = source;
    if (keys.flag('use_bidirectional_attention')) {
      throw keys.fail('use_bidirectional_attention', 'expected attention to earlier tokens only, got true');
    }
    // The first files say gelu and mean its tanh form.
    const named = keys.raw('hidden_act') === 'gelu' ? keys.with({ hidden_act: 'gelu_pytorch_tanh' }) : keys;
    const config = gatedFromConfig(
      { ...source, keys: named },
      {
        biases: statedBiases(keys),
        activation: { fallback: 'gelu_pytorch_tanh' },
        maxPositionEmbeddings: 8192,
      },
    );
    return {
      config: { ...config, normWeightOffset: 1, embeddingScale: Math.sqrt(config.hiddenSize) },
      names: huggingFaceNames,
    };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const config = gatedFromGguf(source, { activation: 'geluTanh' });
    return { config: { ...config, embeddingScale: Math.sqrt(config.hiddenSize) }, names: ggufNames };
  },
};
