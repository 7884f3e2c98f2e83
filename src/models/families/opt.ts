/**
 * OPT: multi-head attention, learned positions whose first two rows are not used, layer norms, an MLP without
 * a gate. Hugging Face has no class for it with fewer key/value heads; llama.cpp does not have it.
 *
 * The sizes of 350M, with a projection of the embeddings and norms behind attention and MLP, are refused.
 *
 * Source: transformers models/opt.
 */
import { show } from '../../arguments/kinds.ts';
import type { DecoderConfig, DecoderNames } from '../decoder-config.ts';
import {
  activationAt,
  type DecoderDescription,
  decoderSizes,
  type Family,
  type FamilySource,
  layerAttention,
  onlyHeads,
} from './family.ts';

export const opt: Family = {
  modelTypes: ['opt'],
  ggufArchitectures: [],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys, shape } = source;
    for (const [key, only, fallback] of [
      ['do_layer_norm_before', true, true],
      ['_remove_final_layer_norm', false, false],
      ['word_embed_proj_dim', shape.hiddenSize, shape.hiddenSize],
    ] as const) {
      const value = keys.raw(key) ?? fallback;
      if (value !== only) throw keys.fail(key, `expected ${only}, got ${show(value)}`);
    }
    const biased = keys.flag('enable_bias') ?? true;
    const weighted = keys.flag('layer_norm_elementwise_affine') ?? true;
    const config: DecoderConfig = {
      ...decoderSizes(source, ['vocab_size', 'ffn_dim', 'max_position_embeddings'], 2048),
      norm: 'layer',
      ...(!weighted && { normParameters: 'none' as const }),
      normEps: 1e-5,
      positionOffset: 2,
      attention: layerAttention(keys, shape),
      mlp: { gated: false, activation: activationAt(keys, 'activation_function', 'relu') },
      biases: { queryKeyValue: biased, attentionOutput: biased, mlp: biased },
    };
    return { config, names };
  },

  fromGguf({ keys }: FamilySource): DecoderDescription {
    throw keys.fail('general.architecture', 'expected one that llama.cpp has, got opt');
  },

  convertedForm: (before, config, to) => onlyHeads('opt', undefined, before, config, to),
};

const names: DecoderNames = {
  embedding: 'model.decoder.embed_tokens',
  positions: 'model.decoder.embed_positions',
  finalNorm: 'model.decoder.final_layer_norm',
  head: 'lm_head',
  layer: (index) => {
    const layer = `model.decoder.layers.${index}`;
    const attention = `${layer}.self_attn`;
    return {
      attentionNorm: `${layer}.self_attn_layer_norm`,
      queryKeyValue: [`${attention}.q_proj`, `${attention}.k_proj`, `${attention}.v_proj`],
      attentionOutput: `${attention}.out_proj`,
      mlpNorm: `${layer}.final_layer_norm`,
      gateUp: `${layer}.fc1`,
      down: `${layer}.fc2`,
    };
  },
};
