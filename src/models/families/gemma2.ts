/**
 * Gemma 2: Llama's shape with norms before and after attention and MLP, norm weights less 1, tanh-GELU gates, embeddings times
 * sqrt(D), a query scale of its own, caps on scores and logits, and a window in every other layer.
 *
 * GGUF's converter adds the 1 to the norms. It writes no query scale: llama.cpp takes 1 / sqrt(H), but for 27B, which it knows
 * by its 46 layers, 1 / sqrt(D / N).
 *
 * Source: transformers models/gemma2; llama.cpp convert_hf_to_gguf.py (Gemma2Model), src/models/gemma2.cpp.
 */
import type { KeyReader } from '../../format/key-reader.ts';
import type { DecoderConfig, DecoderNames, LayerAttention } from '../decoder-config.ts';
import { type DecoderDescription, type Family, type FamilySource, positiveNumber } from './family.ts';
import { gatedFromConfig, gatedFromGguf, ggufNames, huggingFaceNames } from './gated-decoder.ts';

export const gemma2: Family = {
  modelTypes: ['gemma2'],
  ggufArchitectures: ['gemma2'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const config = gemmaFromConfig(source, { maxPositionEmbeddings: 8192 });
    return {
      config: {
        ...config,
        attention: withSoftCap(config.attention, cap(keys, 'attn_logit_softcapping', 50)),
        ...logitsCap(cap(keys, 'final_logit_softcapping', 30)),
      },
      names: gemmaNames(huggingFaceNames),
    };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const config = gemmaFromGguf(source, 46);
    return {
      config: {
        ...config,
        attention: withSoftCap(config.attention, cap(keys, 'gemma2.attn_logit_softcapping', 50)),
        ...logitsCap(cap(keys, 'gemma2.final_logit_softcapping', 30)),
      },
      names: gemmaGgufNames,
    };
  },
};

/** What Gemma 2 and 3 have in common, from their config.json. @throws FormatError as `gatedFromConfig`. */
export function gemmaFromConfig(
  source: FamilySource,
  traits: { readonly maxPositionEmbeddings: number; readonly queryKeyNorm?: boolean },
): DecoderConfig {
  const { keys } = source;
  if (keys.flag('use_bidirectional_attention')) {
    throw keys.fail('use_bidirectional_attention', 'expected attention to earlier tokens only, got true');
  }
  const biased = keys.flag('attention_bias') ?? false;
  const config = gatedFromConfig(source, {
    ...traits,
    biases: { queryKeyValue: biased, attentionOutput: biased, mlp: false },
    activation: { key: 'hidden_activation', fallback: 'gelu_pytorch_tanh' },
  });
  const scale = 1 / Math.sqrt(positiveNumber(keys, 'query_pre_attn_scalar', 256));
  return { ...gemma(config, scale), normWeightOffset: 1 };
}

/** The same from GGUF. @param largest layers of the one size whose query scale is not that of its head dim */
export function gemmaFromGguf(
  source: FamilySource,
  largest: number,
  traits: { readonly queryKeyNorm?: boolean } = {},
): DecoderConfig {
  const config = gatedFromGguf(source, { ...traits, activation: 'geluTanh' });
  const { numLayers, hiddenSize, numHeads, headDim } = config;
  const width = numLayers === largest ? Math.trunc(hiddenSize / numHeads) : headDim;
  return gemma(config, 1 / Math.sqrt(width));
}

function gemma(config: DecoderConfig, scale: number): DecoderConfig {
  return {
    ...config,
    normAfter: true,
    embeddingScale: Math.sqrt(config.hiddenSize),
    attention: config.attention.map((layer) => ({ ...layer, scale })),
  };
}

/** A soft cap at `key`; null means none. @throws FormatError for anything but a positive number. */
export function cap(keys: KeyReader, key: string, fallback?: number): number | undefined {
  if (keys.isNull(key) || (fallback === undefined && !keys.has(key))) return undefined;
  return positiveNumber(keys, key, fallback);
}

export function logitsCap(logitsSoftCap: number | undefined): Pick<DecoderConfig, 'logitsSoftCap'> {
  return logitsSoftCap === undefined ? {} : { logitsSoftCap };
}

function withSoftCap(
  layers: readonly LayerAttention[],
  softCap: number | undefined,
): readonly LayerAttention[] {
  return softCap === undefined ? layers : layers.map((layer) => ({ ...layer, softCap }));
}

/** `names` with the four norms of a layer. */
export function gemmaNames(names: DecoderNames): DecoderNames {
  return {
    ...names,
    layer: (index) => {
      const layer = names.layer(index);
      const prefix = layer.attentionNorm.slice(0, layer.attentionNorm.lastIndexOf('.') + 1);
      return {
        ...layer,
        attentionNormAfter: `${prefix}post_attention_layernorm`,
        mlpNorm: `${prefix}pre_feedforward_layernorm`,
        mlpNormAfter: `${prefix}post_feedforward_layernorm`,
      };
    },
  };
}

export const gemmaGgufNames: DecoderNames = {
  ...ggufNames,
  layer: (index) => ({
    ...ggufNames.layer(index),
    attentionNormAfter: `blk.${index}.post_attention_norm`,
    mlpNormAfter: `blk.${index}.post_ffw_norm`,
  }),
};
