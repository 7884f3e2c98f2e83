/**
 * EXAONE 4: OLMo 2's norms behind attention and MLP, and an RMS norm of each head of q and k. In models with
 * a window, three layers of four slide and only these rotate.
 *
 * Source: transformers models/exaone4; llama.cpp conversion/exaone.py (Exaone4Model), src/models/exaone4.cpp.
 */
import type { DecoderConfig } from '../decoder-config.ts';
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import { gatedFromConfig, gatedFromGguf, HEAD_NORM, huggingFaceNames, withLayers } from './gated-decoder.ts';
import { gemmaGgufNames, gemmaNames } from './gemma2.ts';

export const exaone4: Family = {
  modelTypes: ['exaone4'],
  ggufArchitectures: ['exaone4'],

  fromConfig(source: FamilySource): DecoderDescription {
    const traits = { maxPositionEmbeddings: 2048, normEps: 1e-5, queryKeyNorm: HEAD_NORM };
    return { config: block(gatedFromConfig(source, traits)), names: gemmaNames(huggingFaceNames) };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    return { config: block(gatedFromGguf(source, { queryKeyNorm: HEAD_NORM })), names: gemmaGgufNames };
  },
};

function block(config: DecoderConfig): DecoderConfig {
  const slides = config.attention.some(({ window }) => window !== undefined);
  const rotates = (window: number | undefined) => !slides || window !== undefined;
  return withLayers({ ...config, normPlace: 'after' }, (_, { window }) => ({ rotates: rotates(window) }));
}
