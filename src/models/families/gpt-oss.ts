/**
 * gpt-oss: a mixture of experts in every layer, a window in every second layer, a sink per query head, biases
 * everywhere, YaRN.
 *
 * transformers stores all experts of a projection as one tensor `[E, In, Out]`, in which gate and up
 * alternate; it is used in place. GGUF has tensors `[E, Out, In]`, separate for gate and up. MXFP4
 * blocks are read from GGUF; safetensors have them in another layout, which is refused.
 *
 * YaRN's ramp is not rounded to whole pairs (`truncate: false` in the config). GGUF has no key for this;
 * llama.cpp rounds.
 *
 * Source: transformers models/gpt_oss; llama.cpp convert_hf_to_gguf.py (GptOssModel), gguf-py constants.py.
 */
import type { KeyReader } from '../../format/key-reader.ts';
import type { DecoderConfig, DecoderNames } from '../decoder-config.ts';
import { type DecoderDescription, type Family, type FamilySource, positiveNumber } from './family.ts';
import {
  gatedFromConfig,
  gatedFromGguf,
  ggufNames,
  huggingFaceNames,
  withLayerNames,
} from './gated-decoder.ts';

export const gptOss: Family = {
  modelTypes: ['gpt_oss'],
  ggufArchitectures: ['gpt-oss'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys, hasTensor } = source;
    if (hasTensor('model.layers.0.mlp.experts.gate_up_proj_blocks')) {
      throw keys.fail(
        'quantization_config',
        'expected experts in bf16, f16 or f32, got MXFP4 blocks, which are read from GGUF only: use a GGUF file of the model, or load it in transformers with Mxfp4Config(dequantize=True) and save it',
      );
    }
    const biased = keys.flag('attention_bias') ?? true;
    const biases = { queryKeyValue: biased, attentionOutput: biased, mlp: false };
    const config = gatedFromConfig(source, {
      biases,
      maxPositionEmbeddings: 131_072,
      normEps: 1e-5,
      rope: ROPE,
    });
    const alpha = positiveNumber(keys, 'swiglu_alpha', ALPHA);
    const limit = positiveNumber(keys, 'swiglu_limit', LIMIT);
    const numExperts = keys.needInt('num_local_experts', 'num_experts');
    const chosen = ['num_experts_per_tok', 'experts_per_token'];
    return { config: withExperts(keys, config, numExperts, chosen, alpha, limit), names: configNames };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const config = gatedFromGguf(source, { experts: true, yarnTruncates: false });
    const intermediateSize = keys.int('gpt-oss.expert_feed_forward_length') ?? config.intermediateSize;
    const numExperts = keys.needInt('gpt-oss.expert_count');
    const chosen = ['gpt-oss.expert_used_count'];
    const sized = { ...config, intermediateSize };
    return { config: withExperts(keys, sized, numExperts, chosen, ALPHA, LIMIT), names: gptOssGgufNames };
  },
};

/** transformers' defaults, also for GGUF, which has no keys for them. */
const [ALPHA, LIMIT] = [1.702, 7];

/** transformers' defaults. */
const ROPE = {
  theta: 150_000,
  parameters: {
    rope_type: 'yarn',
    factor: 32,
    beta_fast: 32,
    beta_slow: 1,
    truncate: false,
    original_max_position_embeddings: 4096,
  },
};

/** @param chosen keys of the number of experts per token. @throws FormatError when there are fewer experts */
function withExperts(
  keys: KeyReader,
  config: DecoderConfig,
  numExperts: number,
  chosen: readonly string[],
  alpha: number,
  limit: number,
): DecoderConfig {
  const expertsPerToken = keys.needInt(...chosen);
  if (expertsPerToken > numExperts) {
    const key = keys.find(chosen) ?? chosen[0];
    throw keys.fail(key, `expected at most ${numExperts}, the number of experts, got ${expertsPerToken}`);
  }
  return {
    ...config,
    attentionSinks: true,
    experts: {
      numExperts,
      expertsPerToken,
      intermediateSize: config.intermediateSize,
      layers: config.attention.map(() => true),
      routing: { scores: 'softmaxOfChosen', choiceBias: false, normalize: false, scale: 1 },
      activation: { type: 'clamped', alpha, limit },
      routerBias: true,
      biases: true,
    },
  };
}

const configNames: DecoderNames = withLayerNames(huggingFaceNames, (index) => {
  const mlp = `model.layers.${index}.mlp`;
  const tensor = (name: string) => ({
    weight: `${mlp}.experts.${name}`,
    bias: `${mlp}.experts.${name}_bias`,
  });
  return {
    sinks: `model.layers.${index}.self_attn.sinks`,
    experts: {
      router: `${mlp}.router`,
      stacked: true,
      transposed: true,
      joint: 'alternating',
      expert: () => ({ gateUp: tensor('gate_up_proj'), down: tensor('down_proj') }),
    },
  };
});

const gptOssGgufNames: DecoderNames = withLayerNames(ggufNames, (index) => {
  const prefix = `blk.${index}`;
  const tensor = (name: string) => ({ weight: `${prefix}.${name}.weight`, bias: `${prefix}.${name}.bias` });
  return {
    mlpNorm: `${prefix}.post_attention_norm`,
    sinks: `${prefix}.attn_sinks.weight`,
    experts: {
      router: `${prefix}.ffn_gate_inp`,
      stacked: true,
      expert: () => ({
        gateUp: [tensor('ffn_gate_exps'), tensor('ffn_up_exps')],
        down: tensor('ffn_down_exps'),
      }),
    },
  };
});
