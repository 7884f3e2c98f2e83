/**
 * Mistral: Llama's shape with a sliding window in every layer (v0.1) or none (later), and a head dim of its own.
 * Its GGUF form is `llama`, whose converter drops the window; a file that states one is read with it.
 *
 * Source: transformers models/mistral.
 */
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import { gatedFromConfig, huggingFaceNames } from './gated-decoder.ts';
import { llama } from './llama.ts';

export const mistral: Family = {
  modelTypes: ['mistral'],
  ggufArchitectures: [],
  ggufForm: 'llama',

  fromConfig(source: FamilySource): DecoderDescription {
    const biases = { queryKeyValue: false, attentionOutput: false, mlp: false };
    const config = gatedFromConfig(source, { biases, maxPositionEmbeddings: 131_072 });
    return { config, names: huggingFaceNames };
  },

  fromGguf: llama.fromGguf,
};
