/**
 * GPTBigCode (StarCoder 1, SantaCoder) with `multi_query`: GPT-2 with one key/value head and its matrices stored by output. It is
 * also the one Hugging Face class for a GPT-2 whose heads were pooled to one. Without `multi_query` the file has q, k, v
 * of each head next to each other, which is not read.
 *
 * Source: transformers models/gpt_bigcode.
 */
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import { gpt2 } from './gpt2.ts';

export const gptBigCode: Family = {
  modelTypes: ['gpt_bigcode'],
  ggufArchitectures: [],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys } = source;
    if (keys.flag('multi_query') === false) {
      throw keys.fail('multi_query', 'expected one key/value head (true), got false');
    }
    const { config, names } = gpt2.fromConfig(source);
    return { config, names: { ...names, transposed: false } };
  },

  fromGguf: gpt2.fromGguf,
};
