/**
 * Cohere2 (Command R7B, Command A): layer norms without bias, attention and a gated MLP in parallel below one
 * norm, logits times `logit_scale`. Three layers of four slide and rotate neighbouring pairs; the full ones
 * have no positions.
 *
 * Source: transformers models/cohere2; llama.cpp conversion/command_r.py, src/models/cohere2.cpp.
 */
import type { DecoderConfig, DecoderNames } from '../decoder-config.ts';
import { type DecoderDescription, type Family, type FamilySource, positiveNumber } from './family.ts';
import {
  gatedFromConfig,
  gatedFromGguf,
  ggufNames,
  huggingFaceNames,
  statedBiases,
  withLayerNames,
  withLayers,
} from './gated-decoder.ts';

export const cohere2: Family = {
  modelTypes: ['cohere2'],
  ggufArchitectures: ['cohere2'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const config = gatedFromConfig(source, {
      norm: 'layer',
      biases: statedBiases(keys),
      maxPositionEmbeddings: 8192,
      rope: { interleaved: true },
    });
    return block(config, huggingFaceNames, positiveNumber(keys, 'logit_scale', 0.0625));
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const config = gatedFromGguf(source, { norm: 'layer', interleaved: true });
    return block(config, ggufNames, positiveNumber(source.keys, 'cohere2.logit_scale'));
  },
};

function block(config: DecoderConfig, names: DecoderNames, logitsScale: number): DecoderDescription {
  const own = { normParameters: 'weight', residual: 'parallel', logitsScale } as const;
  return {
    config: withLayers({ ...config, ...own }, (_, { window }) => ({ rotates: window !== undefined })),
    names: withLayerNames(names, () => ({ mlpNorm: undefined })),
  };
}
