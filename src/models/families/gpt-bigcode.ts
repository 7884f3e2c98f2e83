/**
 * GPTBigCode (StarCoder 1, SantaCoder): GPT-2 with K = 1 and matrices `[Out, In]`. It is also the only
 * Hugging Face class for a GPT-2 that was converted to K = 1. Without `multi_query` it has K = N, and the
 * file has q, k, v of one head after the other; GGUF (`starcoder`) does not have this form.
 *
 * Source: transformers models/gpt_bigcode; llama.cpp convert_hf_to_gguf.py (StarCoderModel),
 * src/models/starcoder.cpp.
 */
import type { ConvertedForm, DecoderDescription, Family, FamilySource } from './family.ts';
import { withLayerNames } from './gated-decoder.ts';
import { gpt2, noClass } from './gpt2.ts';

export const gptBigCode: Family = {
  modelTypes: ['gpt_bigcode'],
  ggufArchitectures: ['starcoder'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { config, names } = gpt2.fromConfig(source);
    const fusedOrder = source.keys.flag('multi_query') === false ? 'groups' : 'parts';
    return { config, names: { ...withLayerNames(names, () => ({ fusedOrder })), transposed: false } };
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
