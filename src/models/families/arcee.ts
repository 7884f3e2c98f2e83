/**
 * Arcee (AFM): Llama with a squared ReLU without a gate.
 *
 * Source: transformers models/arcee; llama.cpp conversion/arcee.py (q and k permuted), src/models/arcee.cpp.
 */
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import {
  gatedFromConfig,
  gatedFromGguf,
  ggufNames,
  huggingFaceNames,
  statedBiases,
  ungatedNames,
} from './gated-decoder.ts';

export const arcee: Family = {
  modelTypes: ['arcee'],
  ggufArchitectures: ['arcee'],

  fromConfig(source: FamilySource): DecoderDescription {
    const config = gatedFromConfig(source, {
      biases: statedBiases(source.keys),
      gated: false,
      activation: { fallback: 'relu2' },
      maxPositionEmbeddings: 4096,
      normEps: 1e-5,
    });
    return { config, names: ungatedNames(huggingFaceNames) };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const config = gatedFromGguf(source, { interleaved: true });
    return {
      config: { ...config, mlp: { gated: false, activation: 'relu2' } },
      names: ungatedNames(ggufNames),
    };
  },
};
