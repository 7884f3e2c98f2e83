/**
 * GPT-NeoX and Pythia: layer norms, biases, an MLP without a gate, attention and MLP in parallel below two
 * norms (or one after the other), a quarter of each head rotates. The fused projection has q, k and v of one
 * head after the other. It is multi-head; Hugging Face has no class for its block with fewer key/value heads.
 *
 * GGUF's converter reorders the projection to all of q, then k, then v.
 *
 * Source: transformers models/gpt_neox; llama.cpp conversion/gpt.py, src/models/gptneox.cpp.
 */
import type { DecoderConfig, DecoderNames } from '../decoder-config.ts';
import { type DecoderDescription, type Family, type FamilySource, onlyHeads } from './family.ts';
import { fusedNames, gatedFromConfig, ggufNames, ungatedFromGguf } from './gated-decoder.ts';
import { ggufRope } from './rope-keys.ts';

export const gptNeox: Family = {
  modelTypes: ['gpt_neox'],
  ggufArchitectures: ['gptneox'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const biased = keys.flag('attention_bias') ?? true;
    // The older names of two keys.
    const named = keys.with({
      rope_theta: keys.raw('rotary_emb_base'),
      partial_rotary_factor: keys.raw('rotary_pct'),
    });
    const config = gatedFromConfig(
      { ...source, keys: named },
      {
        norm: 'layer',
        gated: false,
        activation: { fallback: 'gelu' },
        biases: { queryKeyValue: biased, attentionOutput: biased, mlp: true },
        maxPositionEmbeddings: 2048,
        rope: { partial: 0.25 },
      },
    );
    const parallel = keys.flag('use_parallel_residual') ?? true;
    return { config: { ...config, residual: parallel ? 'parallel' : 'sequential' }, names: configNames };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const parallel = source.keys.flag('gptneox.use_parallel_residual') ?? true;
    const config: DecoderConfig = {
      ...ungatedFromGguf(source),
      rope: ggufRope(source, 'gptneox', false),
      residual: parallel ? 'parallel' : 'sequential',
      mlp: { gated: false, activation: 'gelu' },
    };
    return { config, names: fusedNames(ggufNames, 'attn_qkv', 'ffn_up') };
  },

  convertedForm: (before, config, to) => onlyHeads('gpt_neox', 'gptneox', before, config, to),
};

const configNames: DecoderNames = {
  embedding: 'gpt_neox.embed_in',
  finalNorm: 'gpt_neox.final_layer_norm',
  head: 'embed_out',
  // The causal mask, in old files.
  isBuffer: (name) => /\.attention\.(masked_)?bias$/.test(name),
  layer: (index) => {
    const layer = `gpt_neox.layers.${index}`;
    return {
      attentionNorm: `${layer}.input_layernorm`,
      queryKeyValue: `${layer}.attention.query_key_value`,
      fusedOrder: 'groups',
      attentionOutput: `${layer}.attention.dense`,
      mlpNorm: `${layer}.post_attention_layernorm`,
      gateUp: `${layer}.mlp.dense_h_to_4h`,
      down: `${layer}.mlp.dense_4h_to_h`,
    };
  },
};
