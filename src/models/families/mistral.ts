/**
 * Mistral: Llama with a sliding window in every layer (v0.1) or none (later), and a head dim that need not be
 * D / N. Its GGUF architecture is `llama`, whose converter does not write the window; one that a file states
 * is used.
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
    const config = gatedFromConfig(source, { maxPositionEmbeddings: 131_072 });
    return { config, names: huggingFaceNames };
  },

  fromGguf: llama.fromGguf,
};
