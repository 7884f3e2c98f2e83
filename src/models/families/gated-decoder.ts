/**
 * What Llama and the families after it share: pre-norm RMS, RoPE, a gated SiLU MLP, and their names for all of it.
 *
 * Source: transformers models/llama, mistral, qwen2, qwen3, phi3; gguf-py constants.py.
 */
import type { Activation } from '../activation.ts';
import type { DecoderConfig, DecoderNames } from '../decoder-config.ts';
import {
  activationAt,
  CONFIG_SIZES,
  decoderSizes,
  type FamilySource,
  ggufSizes,
  layerAttention,
  positiveNumber,
} from './family.ts';
import { configRope, ggufRope, type RopeTraits } from './rope-keys.ts';

/** What a family's config.json adds to the common keys, and transformers' defaults of those that may be absent. */
interface ConfigTraits {
  readonly biases: DecoderConfig['biases'];
  readonly queryKeyNorm?: boolean;
  /** Where the activation stands, and which it is when absent; default silu at `hidden_act`. */
  readonly activation?: { readonly key: string; readonly fallback: string };
  readonly maxPositionEmbeddings: number;
  readonly normEps?: number;
  /** How its rotation differs. */
  readonly rope?: RopeTraits;
}

/** @throws FormatError naming the key that is missing, wrong or not supported. */
export function gatedFromConfig(source: FamilySource, traits: ConfigTraits): DecoderConfig {
  const { keys, shape } = source;
  const { key, fallback } = traits.activation ?? { key: 'hidden_act', fallback: 'silu' };
  const sizes = decoderSizes(source, CONFIG_SIZES, traits.maxPositionEmbeddings);
  return {
    ...sizes,
    norm: 'rms',
    normEps: positiveNumber(keys, 'rms_norm_eps', traits.normEps ?? 1e-6),
    rope: configRope(keys, shape.headDim, sizes.maxPositionEmbeddings, traits.rope),
    queryKeyNorm: traits.queryKeyNorm ?? false,
    attention: layerAttention(keys, shape),
    mlp: { gated: true, activation: activationAt(keys, key, fallback) },
    biases: traits.biases,
  };
}

/** What a family's GGUF adds to the common keys. */
interface GgufTraits {
  /** Whether q and k are stored for rotated pairs (2i, 2i + 1). */
  readonly interleaved?: boolean;
  readonly queryKeyNorm?: boolean;
  /** Default silu. */
  readonly activation?: Activation;
  /** Whether the family may have experts. */
  readonly experts?: boolean;
  /** Whether YaRN's ramp ends at whole pairs; default true. */
  readonly yarnTruncates?: boolean;
}

/** @throws FormatError naming the key that is missing, wrong or not supported. */
export function gatedFromGguf(source: FamilySource, traits: GgufTraits = {}): DecoderConfig {
  const { keys, shape } = source;
  const arch = shape.modelType;
  const experts = keys.int(`${arch}.expert_count`);
  if (experts !== undefined && !traits.experts)
    throw keys.fail(`${arch}.expert_count`, `expected no experts, got ${experts}`);
  return {
    ...decoderSizes(source, ggufSizes(arch)),
    norm: 'rms',
    normEps: positiveNumber(keys, `${arch}.attention.layer_norm_rms_epsilon`),
    rope: ggufRope(source, arch, traits.interleaved ?? false, traits.yarnTruncates),
    queryKeyNorm: traits.queryKeyNorm ?? false,
    attention: layerAttention(keys, shape),
    mlp: { gated: true, activation: traits.activation ?? 'silu' },
    biases: ggufBiases(source),
  };
}

/** GGUF has no keys for them: a projection has a bias when there is one. */
export function ggufBiases({ hasTensor }: FamilySource): DecoderConfig['biases'] {
  return {
    queryKeyValue: hasTensor('blk.0.attn_q.bias') || hasTensor('blk.0.attn_qkv.bias'),
    attentionOutput: hasTensor('blk.0.attn_output.bias'),
    mlp: hasTensor('blk.0.ffn_down.bias'),
  };
}

/** As transformers saves them. */
export const huggingFaceNames: DecoderNames = {
  embedding: 'model.embed_tokens',
  finalNorm: 'model.norm',
  head: 'lm_head',
  layer: (index) => {
    const attention = `model.layers.${index}.self_attn`;
    const mlp = `model.layers.${index}.mlp`;
    return {
      attentionNorm: `model.layers.${index}.input_layernorm`,
      queryKeyValue: [`${attention}.q_proj`, `${attention}.k_proj`, `${attention}.v_proj`],
      queryNorm: `${attention}.q_norm`,
      keyNorm: `${attention}.k_norm`,
      attentionOutput: `${attention}.o_proj`,
      mlpNorm: `model.layers.${index}.post_attention_layernorm`,
      gateUp: [`${mlp}.gate_proj`, `${mlp}.up_proj`],
      down: `${mlp}.down_proj`,
    };
  },
};

/** As llama.cpp's converter names them, for every architecture. */
export const ggufNames: DecoderNames = {
  embedding: 'token_embd',
  positions: 'position_embd',
  finalNorm: 'output_norm',
  head: 'output',
  layer: (index) => {
    const prefix = `blk.${index}`;
    return {
      attentionNorm: `${prefix}.attn_norm`,
      queryKeyValue: [`${prefix}.attn_q`, `${prefix}.attn_k`, `${prefix}.attn_v`],
      queryNorm: `${prefix}.attn_q_norm`,
      keyNorm: `${prefix}.attn_k_norm`,
      attentionOutput: `${prefix}.attn_output`,
      mlpNorm: `${prefix}.ffn_norm`,
      gateUp: [`${prefix}.ffn_gate`, `${prefix}.ffn_up`],
      down: `${prefix}.ffn_down`,
    };
  },
};

/** `names` with one fused projection for q, k and v, and one tensor for the MLP's input: both halves, or `up` alone. */
export function fusedNames(names: DecoderNames, queryKeyValue: string, gateUp: string): DecoderNames {
  return {
    ...names,
    layer: (index) => {
      const layer = names.layer(index);
      const beside = (name: string, own: string) => name.slice(0, name.lastIndexOf('.') + 1) + own;
      return {
        ...layer,
        queryKeyValue: beside(layer.attentionOutput, queryKeyValue),
        gateUp: beside(layer.down, gateUp),
      };
    },
  };
}
