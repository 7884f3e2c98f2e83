/**
 * DeepSeek V2 (V2-Lite too) and V3, and what is stored as one (Kimi K2): multi-head latent attention, dense first layers, then
 * mixtures of experts, RoPE with interleaved pairs stretched by YaRN, whose `mscale_all_dim` makes the scores larger.
 *
 * transformers norms the latents with an epsilon of 1e-6 whatever `rms_norm_eps` says; llama.cpp with the file's.
 *
 * Source: transformers models/deepseek_v2, deepseek_v3; llama.cpp convert_hf_to_gguf.py (DeepseekV2Model), src/models/deepseek2.cpp.
 */
import type { KeyReader } from '../../format/key-reader.ts';
import type { ModelShape } from '../../format/model-shape.ts';
import type { DecoderConfig, DecoderNames, LatentAttentionConfig } from '../decoder-config.ts';
import type { RopeConfig } from '../rope-table.ts';
import { configExpertNames, configExperts, ggufExpertNames, ggufExperts } from './deepseek-experts.ts';
import {
  activationAt,
  type DecoderDescription,
  type Family,
  type FamilySource,
  needSize,
  positiveNumber,
} from './family.ts';
import { ggufNames, huggingFaceNames } from './gated-decoder.ts';
import { configRope, ggufRope, ropeParameters, yarnScale } from './rope-keys.ts';

/** The norms of transformers' latents. */
const LATENT_EPS = 1e-6;

export const deepseek: Family = {
  modelTypes: ['deepseek_v2', 'deepseek_v3'],
  ggufArchitectures: ['deepseek2'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys, shape } = source;
    const activation = activationAt(keys, 'hidden_act', 'silu');
    const third = shape.modelType === 'deepseek_v3';
    const maxPositionEmbeddings = shape.maxPositionEmbeddings ?? (third ? 4096 : 2048);
    const attentionBias = keys.flag('attention_bias') ?? false;
    const latent: LatentAttentionConfig = {
      ...latentSizes(keys, shape, keys.int('q_lora_rank')),
      normEps: LATENT_EPS,
      biases: attentionBias,
    };
    const rope = {
      ...configRope(keys, latent.qkRopeHeadDim, maxPositionEmbeddings),
      interleaved: third ? (keys.flag('rope_interleave') ?? true) : true,
    };
    const allDim = ropeParameters(keys)?.raw('mscale_all_dim');
    const dense = {
      queryKeyValue: false,
      attentionOutput: attentionBias,
      mlp: keys.flag('mlp_bias') ?? false,
    };
    const experts = configExperts(source, third, activation);
    const config: DecoderConfig = {
      ...common(keys, shape, latent, rope, typeof allDim === 'number' ? allDim : 0),
      vocabSize: needSize(keys, 'vocab_size', shape.vocabSize),
      intermediateSize: needSize(keys, 'intermediate_size', shape.intermediateSize),
      maxPositionEmbeddings,
      normEps: positiveNumber(keys, 'rms_norm_eps', 1e-6),
      ...(experts && { experts }),
      extraLayers: keys.int('num_nextn_predict_layers') ?? 0,
      mlp: { gated: true, activation },
      biases: dense,
    };
    return { config, names: configNames(latent.qLoraRank !== undefined) };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const { keys, shape, hasTensor } = source;
    const arch = shape.modelType;
    const epsKey = `${arch}.attention.layer_norm_rms_epsilon`;
    const normEps = positiveNumber(keys, epsKey);
    const latent: LatentAttentionConfig = {
      ...latentSizes(keys, shape, keys.int(`${arch}.attention.q_lora_rank`)),
      normEps,
      biases: false,
    };
    const logMultiplier = keys.raw(`${arch}.rope.scaling.yarn_log_multiplier`);
    const stated = ggufRope(source, arch, true);
    // llama.cpp takes back what YaRN does to cosines and sines: here it makes the scores larger alone.
    const scaling =
      stated.scaling?.type === 'yarn' ? { ...stated.scaling, attentionFactor: 1 } : stated.scaling;
    const rope = { ...stated, ...(scaling && { scaling }), rotaryDim: latent.qkRopeHeadDim };
    const experts = ggufExperts(source);
    const config: DecoderConfig = {
      ...common(keys, shape, latent, rope, typeof logMultiplier === 'number' ? logMultiplier * 10 : 0),
      vocabSize: needSize(keys, `${arch}.vocab_size`, shape.vocabSize),
      intermediateSize: needSize(keys, `${arch}.feed_forward_length`, shape.intermediateSize),
      maxPositionEmbeddings: needSize(keys, `${arch}.context_length`, shape.maxPositionEmbeddings),
      normEps,
      ...(experts && { experts }),
      biases: { queryKeyValue: false, attentionOutput: false, mlp: false },
    };
    const apart = hasTensor('blk.0.attn_k_b.weight');
    return { config, names: ggufLatentNames(latent.qLoraRank !== undefined, apart) };
  },
};

/** What both file kinds say alike. @param allDim YaRN's `mscale_all_dim`, 0 without */
function common(
  keys: KeyReader,
  shape: ModelShape,
  latent: LatentAttentionConfig,
  rope: RopeConfig,
  allDim: number,
) {
  const { modelType, hiddenSize, numLayers, numHeads, headDim } = shape;
  const factor = rope.scaling?.type === 'yarn' ? rope.scaling.factor : 1;
  const scale = (1 / Math.sqrt(headDim)) * yarnScale(factor, allDim) ** 2;
  const wrong = shape.layers.findIndex(({ kind }) => kind !== 'latent');
  if (wrong >= 0) {
    throw keys.fail(
      `layer ${wrong}`,
      `expected latent attention in every layer, got ${shape.layers[wrong].kind}`,
    );
  }
  return {
    modelType,
    hiddenSize,
    numLayers,
    numHeads,
    numKeyValueHeads: numHeads,
    headDim,
    norm: 'rms',
    rope,
    queryKeyNorm: false,
    latent,
    attention: Array.from({ length: numLayers }, () => ({ scale })),
    tiedEmbeddings: shape.tiedEmbeddings ?? false,
    mlp: { gated: true, activation: 'silu' },
  } as const;
}

/** The sizes of the first layer: they are the same in all. */
function latentSizes(keys: KeyReader, shape: ModelShape, qLoraRank: number | undefined) {
  const { keyHeadDim, valueHeadDim, latent } = shape.layers[0];
  if (!latent) throw keys.fail('kv_lora_rank', 'expected a positive integer, got no such key');
  return {
    ...(qLoraRank !== undefined && { qLoraRank }),
    kvLoraRank: latent.rank,
    qkNopeHeadDim: keyHeadDim - latent.ropeDim,
    qkRopeHeadDim: latent.ropeDim,
    vHeadDim: valueHeadDim,
  };
}

function configNames(queryLatent: boolean): DecoderNames {
  return {
    ...huggingFaceNames,
    layer: (index) => {
      const attention = `model.layers.${index}.self_attn`;
      return {
        ...huggingFaceNames.layer(index),
        experts: configExpertNames(index),
        latent: {
          query: queryLatent
            ? [`${attention}.q_a_proj`, `${attention}.q_a_layernorm`, `${attention}.q_b_proj`]
            : `${attention}.q_proj`,
          down: `${attention}.kv_a_proj_with_mqa`,
          norm: `${attention}.kv_a_layernorm`,
          up: `${attention}.kv_b_proj`,
        },
      };
    },
  };
}

/** @param apart whether the expansion of keys and of values are two tensors, as newer files have them */
function ggufLatentNames(queryLatent: boolean, apart: boolean): DecoderNames {
  return {
    ...ggufNames,
    layer: (index) => {
      const prefix = `blk.${index}`;
      return {
        ...ggufNames.layer(index),
        experts: ggufExpertNames(index),
        latent: {
          query: queryLatent
            ? [`${prefix}.attn_q_a`, `${prefix}.attn_q_a_norm`, `${prefix}.attn_q_b`]
            : `${prefix}.attn_q`,
          down: `${prefix}.attn_kv_a_mqa`,
          norm: `${prefix}.attn_kv_a_norm`,
          up: apart ? [`${prefix}.attn_k_b`, `${prefix}.attn_v_b`] : `${prefix}.attn_kv_b`,
        },
      };
    },
  };
}
