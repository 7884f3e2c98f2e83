/**
 * DeepSeek V2 (also V2-Lite) and V3, and models stored as these (Kimi K2): multi-head latent attention; first
 * dense layers, then mixtures of experts; RoPE on interleaved pairs with YaRN, whose `mscale_all_dim` scales
 * the scores.
 *
 * For the norms of latents transformers uses an epsilon of 1e-6, whatever `rms_norm_eps` is; llama.cpp uses
 * the file's.
 *
 * Source: transformers models/deepseek_v2, deepseek_v3; llama.cpp convert_hf_to_gguf.py (DeepseekV2Model),
 * src/models/deepseek2.cpp.
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
import { ggufNames, huggingFaceNames, withLayerNames } from './gated-decoder.ts';
import { configRope, ggufRope, ropeParameters, yarnScale } from './rope-keys.ts';

export const deepseek: Family = {
  modelTypes: ['deepseek_v2', 'deepseek_v3'],
  ggufArchitectures: ['deepseek2'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys, shape } = source;
    const activation = activationAt(keys, 'hidden_act', 'silu');
    const isV3 = shape.modelType === 'deepseek_v3';
    const maxPositionEmbeddings = shape.maxPositionEmbeddings ?? (isV3 ? 4096 : 2048);
    const attentionBias = keys.flag('attention_bias') ?? false;
    const latent: LatentAttentionConfig = {
      ...latentSizes(keys, shape, keys.int('q_lora_rank')),
      normEps: 1e-6,
      biases: attentionBias,
    };
    const rope = {
      ...configRope(keys, latent.qkRopeHeadDim, maxPositionEmbeddings),
      interleaved: isV3 ? (keys.flag('rope_interleave') ?? true) : true,
    };
    const allDim = ropeParameters(keys)?.raw('mscale_all_dim');
    const biases = {
      queryKeyValue: false,
      attentionOutput: attentionBias,
      mlp: keys.flag('mlp_bias') ?? false,
    };
    const config: DecoderConfig = {
      ...common(keys, shape, latent, rope, typeof allDim === 'number' ? allDim : 0),
      vocabSize: needSize(keys, 'vocab_size', shape.vocabSize),
      intermediateSize: needSize(keys, 'intermediate_size', shape.intermediateSize),
      maxPositionEmbeddings,
      normEps: positiveNumber(keys, 'rms_norm_eps', 1e-6),
      experts: configExperts(source, isV3, activation),
      extraLayers: keys.int('num_nextn_predict_layers') ?? 0,
      mlp: { gated: true, activation },
      biases,
    };
    return { config, names: configNames(latent.qLoraRank !== undefined) };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const { keys, shape, hasTensor } = source;
    const arch = shape.modelType;
    const normEps = positiveNumber(keys, `${arch}.attention.layer_norm_rms_epsilon`);
    const latent: LatentAttentionConfig = {
      ...latentSizes(keys, shape, keys.int(`${arch}.attention.q_lora_rank`)),
      normEps,
      biases: false,
    };
    const logMultiplier = keys.raw(`${arch}.rope.scaling.yarn_log_multiplier`);
    const stated = ggufRope(source, arch, true);
    // As in llama.cpp, YaRN scales the scores here and not cosines and sines.
    const scaling =
      stated.scaling?.type === 'yarn' ? { ...stated.scaling, attentionFactor: 1 } : stated.scaling;
    const rope = { ...stated, scaling, rotaryDim: latent.qkRopeHeadDim };
    const config: DecoderConfig = {
      ...common(keys, shape, latent, rope, typeof logMultiplier === 'number' ? logMultiplier * 10 : 0),
      vocabSize: needSize(keys, `${arch}.vocab_size`, shape.vocabSize),
      intermediateSize: needSize(keys, `${arch}.feed_forward_length`, shape.intermediateSize),
      maxPositionEmbeddings: needSize(keys, `${arch}.context_length`, shape.maxPositionEmbeddings),
      normEps,
      experts: ggufExperts(source),
      biases: { queryKeyValue: false, attentionOutput: false, mlp: false },
    };
    const isSplit = hasTensor('blk.0.attn_k_b.weight');
    return { config, names: ggufLatentNames(latent.qLoraRank !== undefined, isSplit) };
  },
};

/** Fields that are the same for both kinds of file. @param allDim YaRN's `mscale_all_dim`, 0 if absent */
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
    const { kind } = shape.layers[wrong];
    throw keys.fail(`layer ${wrong}`, `expected latent attention in every layer, got ${kind}`);
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
    latent,
    attention: Array.from({ length: numLayers }, () => ({ scale })),
    tiedEmbeddings: shape.tiedEmbeddings ?? false,
    mlp: { gated: true, activation: 'silu' },
  } as const;
}

/** The sizes of the first layer, which all layers have. */
function latentSizes(keys: KeyReader, shape: ModelShape, qLoraRank: number | undefined) {
  const { keyHeadDim, valueHeadDim, latent } = shape.layers[0];
  if (!latent) throw keys.fail('kv_lora_rank', 'expected an integer >= 1, got no such key');
  return {
    qLoraRank,
    kvLoraRank: latent.rank,
    qkNopeHeadDim: keyHeadDim - latent.ropeDim,
    qkRopeHeadDim: latent.ropeDim,
    vHeadDim: valueHeadDim,
  };
}

function configNames(queryLatent: boolean): DecoderNames {
  return withLayerNames(huggingFaceNames, (index) => {
    const attention = `model.layers.${index}.self_attn`;
    return {
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
  });
}

/** @param isSplit whether keys and values have separate up-projections, as in newer files */
function ggufLatentNames(queryLatent: boolean, isSplit: boolean): DecoderNames {
  return withLayerNames(ggufNames, (index) => {
    const prefix = `blk.${index}`;
    return {
      experts: ggufExpertNames(index),
      latent: {
        query: queryLatent
          ? [`${prefix}.attn_q_a`, `${prefix}.attn_q_a_norm`, `${prefix}.attn_q_b`]
          : `${prefix}.attn_q`,
        down: `${prefix}.attn_kv_a_mqa`,
        norm: `${prefix}.attn_kv_a_norm`,
        up: isSplit ? [`${prefix}.attn_k_b`, `${prefix}.attn_v_b`] : `${prefix}.attn_kv_b`,
      },
    };
  });
}
