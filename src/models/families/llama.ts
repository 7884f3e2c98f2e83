/**
 * Llama 1 to 3 and what is stored as one (SmolLM2, TinyLlama, Yi, CodeLlama): pre-norm RMS, RoPE, gated SiLU MLP.
 *
 * The two file kinds differ in one trap: Hugging Face rotates pairs (i, i + H/2); GGUF stores the rows of q and k permuted
 * so that the same pairs are (2i, 2i + 1). Read with the wrong one a model still writes plausible text.
 *
 * Source: transformers models/llama; llama.cpp convert_hf_to_gguf.py (LlamaModel.permute, generate_extra_tensors).
 */
import type { KeyReader } from '../../format/key-reader.ts';
import type { DecoderConfig, DecoderNames } from '../decoder-config.ts';
import type { RopeScaling } from '../rope-table.ts';
import {
  type DecoderDescription,
  type Family,
  type FamilySource,
  needSize,
  nestedKeys,
  positiveNumber,
  requireEqualFullLayers,
} from './family.ts';

export const llama: Family = {
  modelTypes: ['llama'],
  ggufArchitectures: ['llama'],

  fromConfig({ keys, shape }: FamilySource): DecoderDescription {
    requireEqualFullLayers(keys, shape);
    const activation = keys.raw('hidden_act') ?? 'silu';
    if (activation !== 'silu') throw keys.fail('hidden_act', `expected silu, got ${String(activation)}`);
    const attentionBias = keys.flag('attention_bias') ?? false;
    const config: DecoderConfig = {
      modelType: shape.modelType,
      vocabSize: needSize(keys, 'vocab_size', shape.vocabSize),
      hiddenSize: shape.hiddenSize,
      numLayers: shape.numLayers,
      numHeads: shape.numHeads,
      numKeyValueHeads: shape.numKeyValueHeads,
      headDim: shape.headDim,
      intermediateSize: needSize(keys, 'intermediate_size', shape.intermediateSize),
      maxPositionEmbeddings: shape.maxPositionEmbeddings ?? 2048,
      normEps: positiveNumber(keys, 'rms_norm_eps', 1e-6),
      rope: configRope(keys, shape.headDim),
      tiedEmbeddings: shape.tiedEmbeddings ?? false,
      biases: {
        queryKeyValue: attentionBias,
        attentionOutput: attentionBias,
        mlp: keys.flag('mlp_bias') ?? false,
      },
    };
    return { config, names: huggingFaceNames };
  },

  fromGguf({ keys, shape, hasTensor }: FamilySource): DecoderDescription {
    requireEqualFullLayers(keys, shape);
    const experts = keys.int('llama.expert_count');
    if (experts !== undefined) throw keys.fail('llama.expert_count', `expected no experts, got ${experts}`);
    const config: DecoderConfig = {
      modelType: shape.modelType,
      vocabSize: needSize(keys, 'llama.vocab_size', shape.vocabSize),
      hiddenSize: shape.hiddenSize,
      numLayers: shape.numLayers,
      numHeads: shape.numHeads,
      numKeyValueHeads: shape.numKeyValueHeads,
      headDim: shape.headDim,
      intermediateSize: needSize(keys, 'llama.feed_forward_length', shape.intermediateSize),
      maxPositionEmbeddings: needSize(keys, 'llama.context_length', shape.maxPositionEmbeddings),
      normEps: positiveNumber(keys, 'llama.attention.layer_norm_rms_epsilon'),
      rope: ggufRope(keys, shape.headDim),
      tiedEmbeddings: !hasTensor('output.weight'),
      biases: {
        queryKeyValue: hasTensor('blk.0.attn_q.bias'),
        attentionOutput: hasTensor('blk.0.attn_output.bias'),
        mlp: hasTensor('blk.0.ffn_gate.bias'),
      },
    };
    const ropeFactors = 'rope_freqs.weight';
    return { config, names: hasTensor(ropeFactors) ? { ...ggufNames, ropeFactors } : ggufNames };
  },
};

const huggingFaceNames: DecoderNames = {
  embedding: 'model.embed_tokens',
  finalNorm: 'model.norm',
  head: 'lm_head',
  layer: (index) => {
    const prefix = `model.layers.${index}`;
    return {
      attentionNorm: `${prefix}.input_layernorm`,
      query: `${prefix}.self_attn.q_proj`,
      key: `${prefix}.self_attn.k_proj`,
      value: `${prefix}.self_attn.v_proj`,
      attentionOutput: `${prefix}.self_attn.o_proj`,
      mlpNorm: `${prefix}.post_attention_layernorm`,
      gate: `${prefix}.mlp.gate_proj`,
      up: `${prefix}.mlp.up_proj`,
      down: `${prefix}.mlp.down_proj`,
    };
  },
};

const ggufNames: DecoderNames = {
  embedding: 'token_embd',
  finalNorm: 'output_norm',
  head: 'output',
  layer: (index) => {
    const prefix = `blk.${index}`;
    return {
      attentionNorm: `${prefix}.attn_norm`,
      query: `${prefix}.attn_q`,
      key: `${prefix}.attn_k`,
      value: `${prefix}.attn_v`,
      attentionOutput: `${prefix}.attn_output`,
      mlpNorm: `${prefix}.ffn_norm`,
      gate: `${prefix}.ffn_gate`,
      up: `${prefix}.ffn_up`,
      down: `${prefix}.ffn_down`,
    };
  },
};

/** transformers 5 keeps everything in `rope_parameters`; before it was `rope_theta` and `rope_scaling`. */
function configRope(keys: KeyReader, headDim: number): DecoderConfig['rope'] {
  const parameters = nestedKeys(keys, 'rope_parameters');
  const scaling = configScaling(parameters ?? nestedKeys(keys, 'rope_scaling'));
  return {
    theta: positiveNumber(parameters?.has('rope_theta') ? parameters : keys, 'rope_theta', 10000),
    rotaryDim: headDim,
    interleaved: false,
    ...(scaling && { scaling }),
  };
}

function configScaling(keys: KeyReader | undefined): RopeScaling | undefined {
  const type = keys?.raw('rope_type') ?? keys?.raw('type') ?? 'default';
  if (keys === undefined || type === 'default') return undefined;
  if (type === 'linear') return { type, factor: positiveNumber(keys, 'factor') };
  if (type === 'llama3') {
    return {
      type,
      factor: positiveNumber(keys, 'factor'),
      lowFreqFactor: positiveNumber(keys, 'low_freq_factor'),
      highFreqFactor: positiveNumber(keys, 'high_freq_factor'),
      originalMaxPositionEmbeddings: positiveNumber(keys, 'original_max_position_embeddings'),
    };
  }
  throw keys.fail('rope_type', `expected default, linear or llama3, got ${String(type)}`);
}

/** Llama 3's scaling is not in the keys: its converter stores the divisors themselves, as `rope_freqs.weight`. */
function ggufRope(keys: KeyReader, headDim: number): DecoderConfig['rope'] {
  const type = keys.raw('llama.rope.scaling.type') ?? 'none';
  if (type !== 'none' && type !== 'linear') {
    throw keys.fail('llama.rope.scaling.type', `expected none or linear, got ${String(type)}`);
  }
  const factorKey = keys.find(['llama.rope.scaling.factor', 'llama.rope.scale_linear']);
  const factor = factorKey === undefined ? 1 : positiveNumber(keys, factorKey);
  const rotaryDim = keys.int('llama.rope.dimension_count') ?? headDim;
  if (rotaryDim > headDim) {
    throw keys.fail('llama.rope.dimension_count', `expected at most H=${headDim}, got ${rotaryDim}`);
  }
  return {
    theta: positiveNumber(keys, 'llama.rope.freq_base', 10000),
    rotaryDim,
    interleaved: true,
    ...(factor !== 1 && { scaling: { type: 'linear', factor } }),
  };
}
