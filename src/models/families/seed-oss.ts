/**
 * Seed-OSS: Llama with biases on q, k and v, and a key of its own for that of the output projection.
 *
 * Source: transformers models/seed_oss; llama.cpp conversion/llama.py, src/models/seed-oss.cpp.
 */
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import {
  gatedFromConfig,
  gatedFromGguf,
  ggufNames,
  huggingFaceNames,
  statedBiases,
  withLayerNames,
} from './gated-decoder.ts';

export const seedOss: Family = {
  modelTypes: ['seed_oss'],
  ggufArchitectures: ['seed_oss'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const attentionOutput = keys.flag('attention_out_bias') ?? false;
    const config = gatedFromConfig(source, {
      biases: { ...statedBiases(keys, true), attentionOutput },
      maxPositionEmbeddings: 524_288,
    });
    return { config, names: huggingFaceNames };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const names = withLayerNames(ggufNames, (index) => ({ mlpNorm: `blk.${index}.post_attention_norm` }));
    return { config: gatedFromGguf(source), names };
  },
};
