/**
 * Ministral 3: Mistral with YaRN, whose queries grow with the logarithm of their position
 * (`llama_4_scaling_beta`).
 *
 * Source: transformers models/ministral3; llama.cpp conversion/mistral3.py, src/models/mistral3.cpp.
 */
import type { DecoderConfig } from '../decoder-config.ts';
import { type DecoderDescription, type Family, type FamilySource, positiveNumber } from './family.ts';
import { gatedFromConfig, gatedFromGguf, ggufNames, huggingFaceNames, withLayers } from './gated-decoder.ts';
import { ropeParameters } from './rope-keys.ts';

export const ministral3: Family = {
  modelTypes: ['ministral3'],
  ggufArchitectures: ['mistral3'],

  fromConfig(source: FamilySource): DecoderDescription {
    const rope = { theta: 1e6, parameters: ROPE };
    const config = gatedFromConfig(source, { maxPositionEmbeddings: 262_144, normEps: 1e-5, rope });
    const keys = ropeParameters(source.keys) ?? source.keys.with(ROPE);
    if (!keys.has('llama_4_scaling_beta')) return { config, names: huggingFaceNames };
    const beta = positiveNumber(keys, 'llama_4_scaling_beta');
    const interval = positiveNumber(keys, 'original_max_position_embeddings');
    return { config: growing(config, beta, interval), names: huggingFaceNames };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const config = gatedFromGguf(source, { interleaved: true });
    const key = 'mistral3.attention.temperature_scale';
    if (!keys.has(key)) return { config, names: ggufNames };
    const interval = positiveNumber(keys, 'mistral3.rope.scaling.original_context_length');
    return { config: growing(config, positiveNumber(keys, key), interval), names: ggufNames };
  },
};

/** transformers' defaults. */
const ROPE = {
  rope_type: 'yarn',
  factor: 16,
  original_max_position_embeddings: 16_384,
  beta_fast: 32,
  beta_slow: 1,
  mscale_all_dim: 1,
  mscale: 1,
  llama_4_scaling_beta: 0.1,
};

function growing(config: DecoderConfig, beta: number, interval: number): DecoderConfig {
  return withLayers({ ...config, queryGrowth: { beta, interval, first: 0 } }, () => ({ grows: true }));
}
