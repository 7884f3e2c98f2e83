/**
 * OLMo 2 and 3: Llama with its norms behind attention and MLP in place of before them, and an RMS norm over
 * all heads of q and k together. OLMo 3 adds a window in three layers of four; only its full layers have a
 * RoPE scaling. Their GGUF architecture is `olmo2`.
 *
 * Source: transformers models/olmo2, olmo3; llama.cpp conversion/olmo.py, src/models/olmo2.cpp.
 */
import type { DecoderConfig, QueryKeyNorm } from '../decoder-config.ts';
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import { gatedFromConfig, gatedFromGguf, huggingFaceNames, statedBiases } from './gated-decoder.ts';
import { gemmaGgufNames, gemmaNames } from './gemma2.ts';
import { ropesByKind, withoutRope } from './rope-keys.ts';

export const olmo2: Family = {
  modelTypes: ['olmo2'],
  ggufArchitectures: ['olmo2'],

  fromConfig(source: FamilySource): DecoderDescription {
    return { config: fromConfig(source), names: gemmaNames(huggingFaceNames) };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const read = gatedFromGguf(source, { queryKeyNorm: NORM });
    const slides = read.attention.some(({ window }) => window !== undefined);
    const config: DecoderConfig = {
      ...read,
      normPlace: 'after',
      ...(slides && read.rope && { windowRope: { ...read.rope, scaling: undefined } }),
    };
    return { config, names: gemmaGgufNames };
  },
};

export const olmo3: Family = {
  modelTypes: ['olmo3'],
  ggufArchitectures: [],

  fromConfig(source: FamilySource): DecoderDescription {
    const config = fromConfig({ ...source, keys: withoutRope(source.keys) });
    const ropes = ropesByKind(source.keys, config.headDim, config.maxPositionEmbeddings, {
      full_attention: 500_000,
      sliding_attention: 500_000,
    });
    return { config: { ...config, ...ropes }, names: gemmaNames(huggingFaceNames) };
  },

  fromGguf: olmo2.fromGguf,
};

const NORM: QueryKeyNorm = { over: 'all' };

function fromConfig(source: FamilySource): DecoderConfig {
  const traits = { maxPositionEmbeddings: 2048, normEps: 1e-5, queryKeyNorm: NORM };
  const config = gatedFromConfig(source, { ...traits, biases: statedBiases(source.keys) });
  return { ...config, normPlace: 'after' };
}
