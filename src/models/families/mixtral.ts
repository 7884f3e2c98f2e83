/**
 * Mixtral: Mistral with a mixture of experts in every layer, whose weights are the softmax over the chosen
 * ones. Its GGUF architecture is `llama`.
 *
 * Source: transformers models/mixtral; llama.cpp conversion/llama.py.
 */
import { withExpertNames, withExperts } from './expert-keys.ts';
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import { gatedFromConfig, huggingFaceNames } from './gated-decoder.ts';
import { llama } from './llama.ts';

export const mixtral: Family = {
  modelTypes: ['mixtral'],
  ggufArchitectures: [],

  fromConfig(source: FamilySource): DecoderDescription {
    const traits = { maxPositionEmbeddings: 131_072, normEps: 1e-5, rope: { theta: 1e6 } };
    const keys = { numExperts: 'num_local_experts', expertsPerToken: 'num_experts_per_tok' };
    const routing = { scores: 'softmaxOfChosen', normalize: false } as const;
    const config = withExperts(gatedFromConfig(source, traits), source.keys, keys, routing);
    const mlp = (layer: number) => `model.layers.${layer}.block_sparse_moe`;
    return { config, names: withExpertNames(huggingFaceNames, mlp, ['w1', 'w3', 'w2']) };
  },

  fromGguf: llama.fromGguf,
};
