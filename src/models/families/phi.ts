/**
 * Phi-1, 1.5 and 2: layer norms, attention and an MLP without a gate in parallel below one norm, a part of
 * each head rotates, biases everywhere, also on the output head.
 *
 * Source: transformers models/phi; llama.cpp conversion/phi.py, src/models/phi2.cpp.
 */
import type { DecoderConfig } from '../decoder-config.ts';
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import {
  gatedFromConfig,
  ggufNames,
  huggingFaceNames,
  sibling,
  ungatedFromGguf,
  withLayerNames,
} from './gated-decoder.ts';
import { ggufRope } from './rope-keys.ts';

export const phi: Family = {
  modelTypes: ['phi'],
  ggufArchitectures: ['phi2'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys } = source;
    if (keys.flag('qk_layernorm')) {
      throw keys.fail('qk_layernorm', 'expected q and k without norms (false), got true');
    }
    const config = gatedFromConfig(source, {
      norm: 'layer',
      gated: false,
      activation: { fallback: 'gelu_new' },
      biases: { queryKeyValue: true, attentionOutput: true, mlp: true, head: true },
      maxPositionEmbeddings: 2048,
      rope: { partial: 0.5 },
    });
    const names = withLayerNames(huggingFaceNames, (_, { attentionOutput, down }) => ({
      attentionOutput: sibling(attentionOutput, 'dense'),
      mlpNorm: undefined,
      gateUp: sibling(down, 'fc1'),
      down: sibling(down, 'fc2'),
    }));
    return {
      config: { ...config, residual: 'parallel' },
      names: { ...names, finalNorm: 'model.final_layernorm' },
    };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const read = ungatedFromGguf(source);
    const config: DecoderConfig = {
      ...read,
      rope: ggufRope(source, 'phi2', false),
      residual: 'parallel',
      biases: { ...read.biases, head: true },
    };
    const fused = source.hasTensor('blk.0.attn_qkv.weight');
    const names = withLayerNames(ggufNames, (_, { attentionOutput, down }) => ({
      ...(fused && { queryKeyValue: sibling(attentionOutput, 'attn_qkv') }),
      mlpNorm: undefined,
      gateUp: sibling(down, 'ffn_up'),
    }));
    return { config, names };
  },
};
