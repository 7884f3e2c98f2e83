/**
 * StarCoder 2: grouped queries and RoPE as Llama has them, with GPT-2's layer norms, biases and plain tanh-GELU MLP, and a
 * window in every layer. GGUF has no key for the window, and llama.cpp no window; a file that states one is read with it.
 *
 * Source: transformers models/starcoder2; llama.cpp convert_hf_to_gguf.py (StarCoder2Model), src/models/starcoder2.cpp.
 */
import { show } from '../../arguments/kinds.ts';
import type { DecoderConfig, DecoderNames } from '../decoder-config.ts';
import {
  activationAt,
  CONFIG_SIZES,
  type DecoderDescription,
  decoderSizes,
  type Family,
  type FamilySource,
  ggufSizes,
  layerAttention,
  positiveNumber,
} from './family.ts';
import { ggufBiases, ggufNames, huggingFaceNames } from './gated-decoder.ts';
import { configRope, ggufRope } from './rope-keys.ts';

export const starcoder2: Family = {
  modelTypes: ['starcoder2'],
  ggufArchitectures: ['starcoder2'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys, shape } = source;
    for (const [key, only] of [
      ['norm_type', 'layer_norm'],
      ['mlp_type', 'default'],
    ]) {
      const value = keys.raw(key) ?? only;
      if (value !== only) throw keys.fail(key, `expected ${only}, got ${show(value)}`);
    }
    const sizes = decoderSizes(source, CONFIG_SIZES, 4096);
    const biased = keys.flag('use_bias') ?? true;
    const config: DecoderConfig = {
      ...sizes,
      norm: 'layer',
      normEps: positiveNumber(keys, 'norm_epsilon', 1e-5),
      rope: configRope(keys, shape.headDim, sizes.maxPositionEmbeddings),
      queryKeyNorm: false,
      attention: layerAttention(keys, shape),
      mlp: { gated: false, activation: activationAt(keys, 'hidden_act', 'gelu_pytorch_tanh') },
      biases: { queryKeyValue: biased, attentionOutput: biased, mlp: biased },
    };
    return { config, names: plainMlp(huggingFaceNames, 'c_fc', 'c_proj') };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const { keys, shape } = source;
    const config: DecoderConfig = {
      ...decoderSizes(source, ggufSizes('starcoder2')),
      norm: 'layer',
      normEps: positiveNumber(keys, 'starcoder2.attention.layer_norm_epsilon'),
      rope: ggufRope(source, 'starcoder2', false),
      queryKeyNorm: false,
      attention: layerAttention(keys, shape),
      mlp: { gated: false, activation: 'geluTanh' },
      biases: ggufBiases(source),
    };
    return { config, names: plainMlp(ggufNames, 'ffn_up', 'ffn_down') };
  },
};

/** `names` with an MLP of two matrices. */
function plainMlp(names: DecoderNames, up: string, down: string): DecoderNames {
  return {
    ...names,
    layer: (index) => {
      const layer = names.layer(index);
      const prefix = layer.down.slice(0, layer.down.lastIndexOf('.') + 1);
      return { ...layer, gateUp: `${prefix}${up}`, down: `${prefix}${down}` };
    },
  };
}
