/**
 * GLM-4 (0414): Llama with norms before and after attention and MLP, gate and up in one tensor, and a
 * rotation of neighbouring pairs in the first half of each head.
 *
 * Source: transformers models/glm4; llama.cpp conversion/glm.py (Glm4Model), src/models/glm4.cpp.
 */
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import {
  gatedFromConfig,
  gatedFromGguf,
  huggingFaceNames,
  sibling,
  withLayerNames,
} from './gated-decoder.ts';
import { gemmaGgufNames } from './gemma2.ts';

export const glm4: Family = {
  modelTypes: ['glm4'],
  ggufArchitectures: ['glm4'],

  fromConfig(source: FamilySource): DecoderDescription {
    const biased = source.keys.flag('attention_bias') ?? true;
    const config = gatedFromConfig(source, {
      biases: { queryKeyValue: biased, attentionOutput: false, mlp: false },
      maxPositionEmbeddings: 131_072,
      normEps: 1.5625e-7,
      rope: { partial: 0.5, interleaved: true },
    });
    const names = withLayerNames(huggingFaceNames, (_, { attentionNorm, down }) => ({
      attentionNormAfter: sibling(attentionNorm, 'post_self_attn_layernorm'),
      mlpNormAfter: sibling(attentionNorm, 'post_mlp_layernorm'),
      gateUp: sibling(down, 'gate_up_proj'),
    }));
    return { config: { ...config, normPlace: 'both' }, names };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const config = gatedFromGguf(source, { interleaved: true });
    const names = withLayerNames(gemmaGgufNames, (_, { down }) => ({ gateUp: sibling(down, 'ffn_up') }));
    return { config: { ...config, normPlace: 'both' }, names };
  },
};
