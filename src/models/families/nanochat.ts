/**
 * nanochat: RMS norms without weights, one of them behind the embedding, also of each head of q and k behind
 * the rotation, which turns the other way round; squared ReLU without a gate, a soft cap on the logits.
 * llama.cpp does not have it.
 *
 * Source: transformers models/nanochat.
 */
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import { gatedFromConfig, huggingFaceNames, sibling, statedBiases, withLayerNames } from './gated-decoder.ts';
import { cap } from './gemma2.ts';

export const nanochat: Family = {
  modelTypes: ['nanochat'],
  ggufArchitectures: [],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const config = gatedFromConfig(source, {
      biases: statedBiases(keys),
      gated: false,
      activation: { fallback: 'relu2' },
      queryKeyNorm: { over: 'head', weighted: false, afterRotation: true },
      maxPositionEmbeddings: 2048,
      rope: { reversed: true },
    });
    const names = withLayerNames(huggingFaceNames, (_, { down }) => ({
      gateUp: sibling(down, 'fc1'),
      down: sibling(down, 'fc2'),
    }));
    const logitsSoftCap = cap(keys, 'final_logit_softcapping', 15);
    return { config: { ...config, normParameters: 'none', embeddingNorm: true, logitsSoftCap }, names };
  },

  fromGguf({ keys }: FamilySource): DecoderDescription {
    throw keys.fail('general.architecture', 'expected one that llama.cpp has, got nanochat');
  },
};
