/**
 * Gemma 2: Llama with norms before and after attention and MLP, norm weights stored minus 1, tanh-GELU gates,
 * embeddings times sqrt(D), a configured query scale, soft caps on scores and logits, and a window in every
 * other layer.
 *
 * GGUF's converter adds the 1 to the norms. It writes no query scale: llama.cpp uses 1 / sqrt(H), and 1 /
 * sqrt(D / N) for 27B, which it recognises by its 46 layers.
 *
 * Source: transformers models/gemma2; llama.cpp convert_hf_to_gguf.py (Gemma2Model), src/models/gemma2.cpp.
 */
import type { KeyReader } from '../../format/key-reader.ts';
import type { DecoderConfig, DecoderNames, QueryKeyNorm } from '../decoder-config.ts';
import { type DecoderDescription, type Family, type FamilySource, positiveNumber } from './family.ts';
import {
  gatedFromConfig,
  gatedFromGguf,
  ggufNames,
  huggingFaceNames,
  sibling,
  withLayerNames,
} from './gated-decoder.ts';

export const gemma2: Family = {
  modelTypes: ['gemma2'],
  ggufArchitectures: ['gemma2'],

  fromConfig(source: FamilySource): DecoderDescription {
    const config = gemmaFromConfig(source, { maxPositionEmbeddings: 8192 });
    return { config: withSoftCaps(source.keys, config, ''), names: gemmaNames(huggingFaceNames) };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    return { config: withSoftCaps(source.keys, gemmaFromGguf(source, 46), 'gemma2.'), names: gemmaGgufNames };
  },
};

function withSoftCaps(keys: KeyReader, config: DecoderConfig, prefix: string): DecoderConfig {
  const softCap = cap(keys, `${prefix}attn_logit_softcapping`, 50);
  const attention = config.attention.map((layer) => ({ ...layer, softCap }));
  return { ...config, attention, logitsSoftCap: cap(keys, `${prefix}final_logit_softcapping`, 30) };
}

/** What Gemma 2 and 3 have in common, from their config.json. @throws FormatError as `gatedFromConfig`. */
export function gemmaFromConfig(
  source: FamilySource,
  traits: { readonly maxPositionEmbeddings: number; readonly queryKeyNorm?: QueryKeyNorm },
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

/** The same from GGUF. @param layersOf27B of 27B, whose query scale is 1 / sqrt(D / N) */
export function gemmaFromGguf(
  source: FamilySource,
  layersOf27B: number,
  traits: { readonly queryKeyNorm?: QueryKeyNorm } = {},
): DecoderConfig {
  const config = gatedFromGguf(source, { ...traits, activation: 'geluTanh' });
  const { numLayers, hiddenSize, numHeads, headDim } = config;
  const width = numLayers === layersOf27B ? Math.trunc(hiddenSize / numHeads) : headDim;
  return gemma(config, 1 / Math.sqrt(width));
}

function gemma(config: DecoderConfig, scale: number): DecoderConfig {
  return {
    ...config,
    normPlace: 'both',
    embeddingScale: Math.sqrt(config.hiddenSize),
    attention: config.attention.map((layer) => ({ ...layer, scale })),
  };
}

/** The soft cap at `key`; null means none. @throws FormatError for another value than a positive number */
export function cap(keys: KeyReader, key: string, fallback?: number): number | undefined {
  if (keys.isNull(key) || (fallback === undefined && !keys.has(key))) return undefined;
  return positiveNumber(keys, key, fallback);
}

/** `names` with the four norms of a layer. */
export function gemmaNames(names: DecoderNames): DecoderNames {
  return withLayerNames(names, (_, { attentionNorm }) => ({
    attentionNormAfter: sibling(attentionNorm, 'post_attention_layernorm'),
    mlpNorm: sibling(attentionNorm, 'pre_feedforward_layernorm'),
    mlpNormAfter: sibling(attentionNorm, 'post_feedforward_layernorm'),
  }));
}

export const gemmaGgufNames: DecoderNames = withLayerNames(ggufNames, (index) => ({
  attentionNormAfter: `blk.${index}.post_attention_norm`,
  mlpNormAfter: `blk.${index}.post_ffw_norm`,
}));
