/**
 * OLMo 1: Llama with layer norms that have no parameters, and q, k and v clamped (`clip_qkv`).
 *
 * Source: transformers models/olmo; llama.cpp conversion/olmo.py (q and k permuted), src/models/olmo.cpp.
 */
import type { KeyReader } from '../../format/key-reader.ts';
import type { DecoderConfig } from '../decoder-config.ts';
import { type DecoderDescription, type Family, type FamilySource, positiveNumber } from './family.ts';
import {
  gatedFromConfig,
  gatedFromGguf,
  ggufNames,
  huggingFaceNames,
  statedBiases,
} from './gated-decoder.ts';

export const olmo: Family = {
  modelTypes: ['olmo'],
  ggufArchitectures: ['olmo'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const biases = statedBiases(keys);
    const config = gatedFromConfig(source, { norm: 'layer', biases, maxPositionEmbeddings: 2048 });
    return { config: plainNorms(config, keys, 'clip_qkv'), names: huggingFaceNames };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const config = gatedFromGguf(source, { norm: 'layer', interleaved: true });
    return { config: plainNorms(config, source.keys, 'olmo.attention.clamp_kqv'), names: ggufNames };
  },
};

function plainNorms(config: DecoderConfig, keys: KeyReader, clipKey: string): DecoderConfig {
  const clipped = keys.has(clipKey) && keys.raw(clipKey) !== 0;
  return {
    ...config,
    normParameters: 'none',
    ...(clipped && { clipQueryKeyValue: positiveNumber(keys, clipKey) }),
  };
}
