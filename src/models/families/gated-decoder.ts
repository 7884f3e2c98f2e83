/**
 * What Llama and similar families share: RMS norms before attention and MLP, RoPE, a gated SiLU MLP, and
 * tensor names.
 *
 * Source: transformers models/llama, mistral, qwen2, qwen3, phi3; gguf-py constants.py.
 */
import type { KeyReader } from '../../format/key-reader.ts';
import type { ModelShape } from '../../format/model-shape.ts';
import type { Activation } from '../activation.ts';
import type {
  DecoderConfig,
  DecoderLayerNames,
  DecoderNames,
  LayerAttention,
  QueryKeyNorm,
} from '../decoder-config.ts';
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

/** An RMS norm of each head of q and k before its rotation. */
export const HEAD_NORM: QueryKeyNorm = { over: 'head' };

/** How a family's config.json differs from Llama's, and transformers' defaults of its keys. */
interface ConfigTraits {
  /** Default none. */
  readonly biases?: DecoderConfig['biases'];
  readonly queryKeyNorm?: QueryKeyNorm;
  /** The key of the activation and its default; default `hidden_act` and silu. */
  readonly activation?: { readonly key?: string; readonly fallback: string };
  /** Default true. */
  readonly gated?: boolean;
  /** Default `rms`, with `rms_norm_eps`; of layer norms `layer_norm_eps`. */
  readonly norm?: DecoderConfig['norm'];
  readonly maxPositionEmbeddings: number;
  /** Default 1e-6, of layer norms 1e-5. */
  readonly normEps?: number;
  readonly rope?: RopeTraits;
}

/** @throws FormatError naming the key that is missing, wrong or not supported. */
export function gatedFromConfig(source: FamilySource, traits: ConfigTraits): DecoderConfig {
  const { keys, shape } = source;
  const { key = 'hidden_act', fallback } = traits.activation ?? { fallback: 'silu' };
  const { norm = 'rms', gated = true, queryKeyNorm } = traits;
  const [epsKey, eps] =
    norm === 'rms' ? (['rms_norm_eps', 1e-6] as const) : (['layer_norm_eps', 1e-5] as const);
  const sizes = decoderSizes(source, CONFIG_SIZES, traits.maxPositionEmbeddings);
  return {
    ...sizes,
    norm,
    normEps: positiveNumber(keys, epsKey, traits.normEps ?? eps),
    rope: configRope(keys, shape.headDim, sizes.maxPositionEmbeddings, traits.rope),
    ...(queryKeyNorm && { queryKeyNorm }),
    attention: layerAttention(keys, shape),
    mlp: { gated, activation: activationAt(keys, key, fallback), ...layerWidths(shape) },
    ...(shape.layerInputs && { layerInputs: shape.layerInputs }),
    biases: traits.biases ?? { queryKeyValue: false, attentionOutput: false, mlp: false },
  };
}

/** What the keys `attention_bias` and `mlp_bias` say. @param fallback of the first; default false */
export function statedBiases(keys: KeyReader, fallback: boolean = false): DecoderConfig['biases'] {
  const attention = keys.flag('attention_bias') ?? fallback;
  return { queryKeyValue: attention, attentionOutput: attention, mlp: keys.flag('mlp_bias') ?? false };
}

/** How a family's GGUF file differs from the others. */
interface GgufTraits {
  /** Whether q and k are stored for the rotation of pairs (2i, 2i + 1). */
  readonly interleaved?: boolean;
  readonly queryKeyNorm?: QueryKeyNorm;
  /** Default `rms`. */
  readonly norm?: DecoderConfig['norm'];
  /** Default silu. */
  readonly activation?: Activation;
  /** Whether the family can have experts. */
  readonly experts?: boolean;
  /** Whether YaRN's ramp is rounded to whole pairs; default true. */
  readonly yarnTruncates?: boolean;
}

/** @throws FormatError naming the key that is missing, wrong or not supported. */
export function gatedFromGguf(source: FamilySource, traits: GgufTraits = {}): DecoderConfig {
  const { keys, shape } = source;
  const arch = shape.modelType;
  const experts = keys.int(`${arch}.expert_count`);
  if (experts !== undefined && !traits.experts)
    throw keys.fail(`${arch}.expert_count`, `expected no experts, got ${experts}`);
  const { norm = 'rms' } = traits;
  return {
    ...decoderSizes(source, ggufSizes(arch)),
    norm,
    normEps: positiveNumber(keys, `${arch}.attention.layer_norm_${norm === 'rms' ? 'rms_' : ''}epsilon`),
    rope: ggufRope(source, arch, traits.interleaved ?? false, traits.yarnTruncates),
    ...(traits.queryKeyNorm && { queryKeyNorm: traits.queryKeyNorm }),
    attention: layerAttention(keys, shape),
    mlp: { gated: true, activation: traits.activation ?? 'silu', ...layerWidths(shape) },
    ...(shape.layerInputs && { layerInputs: shape.layerInputs }),
    biases: ggufBiases(source),
  };
}

/**
 * The config of a decoder with layer norms and an MLP without a gate.
 * @throws FormatError as `gatedFromGguf`
 */
export function ungatedFromGguf(source: FamilySource): DecoderConfig {
  const { keys, shape } = source;
  const arch = shape.modelType;
  return {
    ...decoderSizes(source, ggufSizes(arch)),
    norm: 'layer',
    normEps: positiveNumber(keys, `${arch}.attention.layer_norm_epsilon`),
    attention: layerAttention(keys, shape),
    mlp: { gated: false, activation: 'geluTanh' },
    biases: ggufBiases(source),
  };
}

/** The width of each layer's MLP, where these differ. */
function layerWidths({ layers, intermediateSize = 0 }: ModelShape): Pick<DecoderConfig['mlp'], 'sizes'> {
  if (layers.every((layer) => layer.intermediateSize === undefined)) return {};
  return { sizes: layers.map((layer) => layer.intermediateSize ?? intermediateSize) };
}

/** GGUF has no keys for biases: a projection has one if its tensor is in the file. */
function ggufBiases({ hasTensor }: FamilySource): DecoderConfig['biases'] {
  return {
    queryKeyValue: hasTensor('blk.0.attn_q.bias') || hasTensor('blk.0.attn_qkv.bias'),
    attentionOutput: hasTensor('blk.0.attn_output.bias'),
    mlp: hasTensor('blk.0.ffn_down.bias'),
  };
}

/** Names in files that transformers saves. */
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

/** Names in files of llama.cpp's converter, the same for every architecture. */
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

/** `config` with more about the attention of each layer. */
export function withLayers(
  config: DecoderConfig,
  own: (index: number, layer: LayerAttention) => LayerAttention,
): DecoderConfig {
  return { ...config, attention: config.attention.map((layer, i) => ({ ...layer, ...own(i, layer) })) };
}

/**
 * `names` with other names in each layer; `own` gives them, from the index and the layer's names in `names`.
 */
export function withLayerNames(
  names: DecoderNames,
  own: (index: number, layer: DecoderLayerNames) => Partial<DecoderLayerNames>,
): DecoderNames {
  const layer = (index: number) => {
    const before = names.layer(index);
    return { ...before, ...own(index, before) };
  };
  return { ...names, layer };
}

/** `name` with another last part: `a.b` and `c` give `a.c`. */
export function sibling(name: string, last: string): string {
  return name.slice(0, name.lastIndexOf('.') + 1) + last;
}

/** `names` of an MLP without a gate. */
export function ungatedNames(names: DecoderNames): DecoderNames {
  return withLayerNames(names, (_, { gateUp }) => ({ gateUp: gateUp[1] }));
}

/**
 * `names` with one fused projection for q, k and v, and one tensor for the MLP's input: gate and up, or up
 * alone.
 */
export function fusedNames(names: DecoderNames, queryKeyValue: string, gateUp: string): DecoderNames {
  return withLayerNames(names, (_, { attentionOutput, down }) => ({
    queryKeyValue: sibling(attentionOutput, queryKeyValue),
    gateUp: sibling(down, gateUp),
  }));
}
