/**
 * Qwen3-MoE: Qwen 3 with mixtures of experts, whose weights are the softmax over all experts, normalised or
 * not. Some layers can be dense (`mlp_only_layers`, `decoder_sparse_step`); in GGUF none is, and the weights
 * are always normalised. With `use_sliding_window` every layer slides.
 *
 * Source: transformers models/qwen3_moe; llama.cpp conversion/qwen.py, src/models/qwen3moe.cpp.
 */
import { ggufExpertKeys, withExpertNames, withExperts, withGgufExpertNames } from './expert-keys.ts';
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import {
  gatedFromConfig,
  gatedFromGguf,
  ggufNames,
  HEAD_NORM,
  huggingFaceNames,
  statedBiases,
} from './gated-decoder.ts';

export const qwen3Moe: Family = {
  modelTypes: ['qwen3_moe'],
  ggufArchitectures: ['qwen3moe'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const biases = statedBiases(keys);
    const config = gatedFromConfig(source, {
      biases,
      queryKeyNorm: HEAD_NORM,
      maxPositionEmbeddings: 32_768,
    });
    const dense = keys.list('mlp_only_layers') ?? [];
    const step = keys.int('decoder_sparse_step') ?? 1;
    const mixed = (layer: number) => !dense.includes(layer) && (layer + 1) % step === 0;
    const names = {
      numExperts: keys.find(['num_experts', 'num_local_experts']) ?? 'num_experts',
      expertsPerToken: 'num_experts_per_tok',
      intermediateSize: 'moe_intermediate_size',
    };
    const routing = { scores: 'softmax', normalize: keys.flag('norm_topk_prob') ?? false } as const;
    const mlp = (layer: number) => `model.layers.${layer}.mlp`;
    return {
      config: withExperts(config, keys, names, routing, mixed),
      names: withExpertNames(huggingFaceNames, mlp, ['gate_proj', 'up_proj', 'down_proj']),
    };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const config = gatedFromGguf(source, { queryKeyNorm: HEAD_NORM, experts: true });
    const routing = { scores: 'softmax', normalize: true } as const;
    return {
      config: withExperts(config, keys, ggufExpertKeys('qwen3moe'), routing),
      names: withGgufExpertNames(ggufNames),
    };
  },
};
