/**
 * GPTBigCode (StarCoder 1, SantaCoder): GPT-2 with one key/value head and its matrices stored by output. It is also the one
 * Hugging Face class for a GPT-2 whose heads were pooled to one. Without `multi_query` every head has its own key and value,
 * and the file q, k, v of each head next to each other; GGUF (`starcoder`) has no such form.
 *
 * Source: transformers models/gpt_bigcode; llama.cpp convert_hf_to_gguf.py (StarCoderModel), src/models/starcoder.cpp.
 */
import type { DecoderNames } from '../decoder-config.ts';
import type { ConvertedForm, DecoderDescription, Family, FamilySource } from './family.ts';
import { gpt2, noClass } from './gpt2.ts';

export const gptBigCode: Family = {
  modelTypes: ['gpt_bigcode'],
  ggufArchitectures: ['starcoder'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { config, names } = gpt2.fromConfig(source);
    const byHead = source.keys.flag('multi_query') === false;
    return { config, names: byOutput(names, byHead ? 'groups' : 'parts') };
  },

  fromGguf: gpt2.fromGguf,

  convertedForm(before, { numHeads: N, numKeyValueHeads: K }, to): ConvertedForm {
    if (to === K) return { config: before };
    if (to === 1) return { config: { ...before, multi_query: true, num_key_value_heads: 1 } };
    if (to !== N) throw noClass(N, to);
    const { multi_query: _, num_key_value_heads: __, ...rest } = before;
    return {
      config: {
        activation_function: 'gelu_pytorch_tanh',
        ...rest,
        model_type: 'gpt2',
        architectures: ['GPT2LMHeadModel'],
      },
      transpose: true,
    };
  },
};

function byOutput(names: DecoderNames, fusedOrder: 'parts' | 'groups'): DecoderNames {
  return {
    ...names,
    transposed: false,
    layer: (index) => ({ ...names.layer(index), fusedOrder }),
  };
}
