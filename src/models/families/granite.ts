/**
 * Granite 3: Llama with four multipliers: of the embeddings, of what attention and MLP add, of the scores (in
 * place of 1 / sqrt(H)), and one that divides the logits.
 *
 * Source: transformers models/granite; llama.cpp conversion/granite.py (q and k permuted),
 * src/models/granite.cpp.
 */
import type { DecoderConfig } from '../decoder-config.ts';
import { type DecoderDescription, type Family, type FamilySource, positiveNumber } from './family.ts';
import {
  gatedFromConfig,
  gatedFromGguf,
  ggufNames,
  huggingFaceNames,
  statedBiases,
  withLayers,
} from './gated-decoder.ts';

export const granite: Family = {
  modelTypes: ['granite'],
  ggufArchitectures: ['granite'],

  fromConfig(source: FamilySource): DecoderDescription {
    const config = gatedFromConfig(source, {
      biases: statedBiases(source.keys),
      maxPositionEmbeddings: 2048,
    });
    const of = (name: string) => positiveNumber(source.keys, name, 1);
    const scales = [of('embedding_multiplier'), of('residual_multiplier'), of('logits_scaling')] as const;
    return {
      config: multiplied(config, of('attention_multiplier'), ...scales),
      names: huggingFaceNames,
    };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const config = gatedFromGguf(source, { interleaved: true });
    const of = (name: string, fallback = 1) => positiveNumber(source.keys, `granite.${name}`, fallback);
    const scores = of('attention.scale', 1 / Math.sqrt(config.headDim));
    const scales = [of('embedding_scale'), of('residual_scale'), of('logit_scale')] as const;
    return { config: multiplied(config, scores, ...scales), names: ggufNames };
  },
};

function multiplied(
  config: DecoderConfig,
  scale: number,
  embeddingScale: number,
  residualScale: number,
  logitsDivisor: number,
): DecoderConfig {
  const scaled = { ...config, embeddingScale, residualScale, logitsScale: 1 / logitsDivisor };
  return withLayers(scaled, () => ({ scale }));
}
