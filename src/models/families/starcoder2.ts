/**
 * StarCoder 2: grouped queries and RoPE as in Llama; layer norms, biases and a tanh-GELU MLP without a gate
 * as in GPT-2; a window in every layer. GGUF's converter writes no window and llama.cpp ignores it; one that
 * a file states is used.
 *
 * Source: transformers models/starcoder2; llama.cpp convert_hf_to_gguf.py (StarCoder2Model),
 * src/models/starcoder2.cpp.
 */
import { show } from '../../arguments/kinds.ts';
import type { DecoderConfig } from '../decoder-config.ts';
import {
  activationAt,
  CONFIG_SIZES,
  type DecoderDescription,
  decoderSizes,
  type Family,
  type FamilySource,
  layerAttention,
  positiveNumber,
} from './family.ts';
import { ggufNames, huggingFaceNames, sibling, ungatedFromGguf, withLayerNames } from './gated-decoder.ts';
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
      attention: layerAttention(keys, shape),
      mlp: { gated: false, activation: activationAt(keys, 'hidden_act', 'gelu_pytorch_tanh') },
      biases: { queryKeyValue: biased, attentionOutput: biased, mlp: biased },
    };
    const names = withLayerNames(huggingFaceNames, (_, { down }) => ({
      gateUp: sibling(down, 'c_fc'),
      down: sibling(down, 'c_proj'),
    }));
    return { config, names };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const config = { ...ungatedFromGguf(source), rope: ggufRope(source, 'starcoder2', false) };
    return {
      config,
      names: withLayerNames(ggufNames, (_, { down }) => ({ gateUp: sibling(down, 'ffn_up') })),
    };
  },
};
