/**
 * Ernie 4.5, the dense models: Llama with a rotation of neighbouring pairs, and biases where `use_bias` says
 * so.
 *
 * Source: transformers models/ernie4_5; llama.cpp conversion/ernie.py, src/models/ernie4-5.cpp.
 */
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import { gatedFromConfig, gatedFromGguf, ggufNames, huggingFaceNames } from './gated-decoder.ts';

export const ernie45: Family = {
  modelTypes: ['ernie4_5'],
  ggufArchitectures: ['ernie4_5'],

  fromConfig(source: FamilySource): DecoderDescription {
    const biased = source.keys.flag('use_bias') ?? false;
    const config = gatedFromConfig(source, {
      biases: { queryKeyValue: biased, attentionOutput: biased, mlp: biased },
      maxPositionEmbeddings: 131_072,
      normEps: 1e-5,
      rope: { theta: 500_000, interleaved: true },
    });
    return { config, names: huggingFaceNames };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    return { config: gatedFromGguf(source, { interleaved: true }), names: ggufNames };
  },
};
