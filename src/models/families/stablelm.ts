/**
 * StableLM: Llama with layer norms, of whose heads a quarter rotates, with biases on q, k and v in some
 * models. StableLM 2 12B, whose heads of q and k each have a norm, is refused.
 *
 * Source: transformers models/stablelm; llama.cpp conversion/stablelm.py, src/models/stablelm.cpp.
 */
import type { DecoderConfig, DecoderNames } from '../decoder-config.ts';
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import {
  gatedFromConfig,
  gatedFromGguf,
  ggufNames,
  huggingFaceNames,
  withLayerNames,
} from './gated-decoder.ts';

export const stablelm: Family = {
  modelTypes: ['stablelm'],
  ggufArchitectures: ['stablelm'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys } = source;
    if (keys.flag('qk_layernorm')) {
      throw keys.fail('qk_layernorm', 'expected q and k without norms (false), got true');
    }
    const config = gatedFromConfig(source, {
      norm: 'layer',
      biases: { queryKeyValue: keys.flag('use_qkv_bias') ?? false, attentionOutput: false, mlp: false },
      maxPositionEmbeddings: 4096,
      rope: { partial: 0.25 },
    });
    return block(config, huggingFaceNames, keys.flag('use_parallel_residual') ?? false);
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const config = gatedFromGguf(source, { norm: 'layer' });
    return block(config, ggufNames, !source.hasTensor('blk.0.ffn_norm.weight'));
  },
};

/** In parallel, attention and MLP read one norm. */
function block(config: DecoderConfig, names: DecoderNames, parallel: boolean): DecoderDescription {
  if (!parallel) return { config, names };
  return {
    config: { ...config, residual: 'parallel' },
    names: withLayerNames(names, () => ({ mlpNorm: undefined })),
  };
}
