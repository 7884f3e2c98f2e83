/**
 * SmolLM3: Llama in which every fourth layer has no positions (`no_rope_layers`, `no_rope_layer_interval`).
 * GGUF has no key for these layers: llama.cpp takes every fourth.
 *
 * Source: transformers models/smollm3; llama.cpp conversion/smollm.py, src/models/smollm3.cpp.
 */
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import {
  gatedFromConfig,
  gatedFromGguf,
  ggufNames,
  huggingFaceNames,
  statedBiases,
  withLayers,
} from './gated-decoder.ts';

export const smollm3: Family = {
  modelTypes: ['smollm3'],
  ggufArchitectures: ['smollm3'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const biases = statedBiases(keys);
    const config = gatedFromConfig(source, { biases, maxPositionEmbeddings: 32_768, rope: { theta: 2e6 } });
    const interval = keys.int('no_rope_layer_interval') ?? INTERVAL;
    const listed = keys.list('no_rope_layers');
    const rotates = (index: number) => (listed ? listed[index] === 1 : (index + 1) % interval !== 0);
    return { config: withLayers(config, (index) => ({ rotates: rotates(index) })), names: huggingFaceNames };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const config = gatedFromGguf(source, { interleaved: true });
    return {
      config: withLayers(config, (index) => ({ rotates: (index + 1) % INTERVAL !== 0 })),
      names: ggufNames,
    };
  },
};

const INTERVAL = 4;
