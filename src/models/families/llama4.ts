/**
 * Llama 4, the text model: layers that rotate q and k, normalise them and attend within chunks of
 * `attention_chunk_size` tokens, and layers without positions that see all tokens, whose queries grow with
 * their position; mixtures of experts, in which the router's sigmoid multiplies what an expert reads, beside
 * a shared expert. Of a multimodal file only the text model is read.
 *
 * GGUF has no keys for chunks and growth: llama.cpp takes chunks of 8192 tokens, every fourth layer without
 * positions, and norms of q and k unless there are 128 experts. A `sliding_window` of 0 says that all layers
 * rotate and see all tokens.
 *
 * Source: transformers models/llama4; llama.cpp conversion/llama.py (Llama4Model), src/models/llama4.cpp.
 */
import type { KeyReader } from '../../format/key-reader.ts';
import type { DecoderConfig, DecoderNames, QueryKeyNorm } from '../decoder-config.ts';
import { ggufExpertNames } from './deepseek-experts.ts';
import { ggufExpertKeys, withExperts } from './expert-keys.ts';
import { type DecoderDescription, type Family, type FamilySource, positiveNumber } from './family.ts';
import {
  gatedFromConfig,
  gatedFromGguf,
  ggufNames,
  sibling,
  statedBiases,
  withLayerNames,
  withLayers,
} from './gated-decoder.ts';
import { textModel, textModelNames } from './text-model.ts';

export const llama4: Family = {
  modelTypes: ['llama4_text', 'llama4'],
  ggufArchitectures: ['llama4'],

  fromConfig(outer: FamilySource): DecoderDescription {
    const source = textModel(outer);
    const { keys } = source;
    const config = gatedFromConfig(source, {
      biases: { ...statedBiases(keys), mlp: false },
      ...((keys.flag('use_qk_norm') ?? true) && { queryKeyNorm: NORM }),
      maxPositionEmbeddings: 131_072,
      normEps: 1e-5,
      rope: { theta: 500_000, interleaved: true },
    });
    const interval = keys.int('no_rope_layer_interval') ?? INTERVAL;
    const listed = keys.list('no_rope_layers') ?? [];
    const rotates = (layer: number) =>
      listed.length > 0 ? listed[layer] === 1 : (layer + 1) % interval !== 0;
    const tuned = keys.flag('attn_temperature_tuning') ?? true;
    const growth = {
      beta: positiveNumber(keys, 'attn_scale', 0.1),
      interval: positiveNumber(keys, 'floor_scale', 8192),
    };
    const mixtures = keys.list('moe_layers');
    const step = mixtures === undefined ? (keys.int('interleave_moe_layer_step') ?? 1) : 1;
    const isMixed = (layer: number) => mixtures?.includes(layer) ?? (layer + 1) % step === 0;
    const expertKeys = {
      numExperts: 'num_local_experts',
      expertsPerToken: 'num_experts_per_tok',
      intermediateSize: 'intermediate_size',
    };
    return {
      config: mixed(inChunks(config, rotates, tuned ? growth : undefined), keys, expertKeys, isMixed),
      names: withMixtures(textModelNames(outer)),
    };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const normalized = keys.int('llama4.expert_count') !== 128;
    const config = gatedFromGguf(source, {
      interleaved: true,
      experts: true,
      ...(normalized && { queryKeyNorm: NORM }),
    });
    const whole = keys.count('llama4.attention.sliding_window') === 0;
    const rotates = (layer: number) => whole || (layer + 1) % INTERVAL !== 0;
    const step = keys.int('llama4.interleave_moe_layer_step') ?? 1;
    const isMixed = (layer: number) => (layer + 1) % step === 0;
    const growing = inChunks(config, rotates, { beta: 0.1, interval: 8192 });
    return {
      config: mixed(growing, keys, ggufExpertKeys('llama4'), isMixed),
      names: withLayerNames(ggufNames, (layer) => ({ experts: ggufExpertNames(layer) })),
    };
  },
};

/** transformers' default, and llama.cpp's number. */
const INTERVAL = 4;

/** transformers calls it an L2 norm; it divides by the root of the mean square. */
const NORM: QueryKeyNorm = { over: 'head', weighted: false, afterRotation: true };

function inChunks(
  config: DecoderConfig,
  rotates: (layer: number) => boolean,
  growth: { readonly beta: number; readonly interval: number } | undefined,
): DecoderConfig {
  const layers = withLayers(config, (layer, { window }) => ({
    rotates: rotates(layer),
    normalizes: rotates(layer),
    ...(window !== undefined && { chunked: true }),
    ...(growth && !rotates(layer) && { grows: true }),
  }));
  return growth ? { ...layers, queryGrowth: { ...growth, first: 1 } } : layers;
}

/** Models without experts (MobileLLM) have an empty list of mixtures. */
function mixed(
  config: DecoderConfig,
  keys: KeyReader,
  names: Parameters<typeof withExperts>[2],
  isMixed: (layer: number) => boolean,
): DecoderConfig {
  if (!config.attention.some((_, layer) => isMixed(layer))) return config;
  const routing = { scores: 'sigmoid', normalize: false, weigh: 'inputs' } as const;
  return withExperts(config, keys, names, routing, isMixed, 1);
}

/** Of files that transformers saves: an expert's gate and up are the columns of one matrix, gate first. */
function withMixtures(names: DecoderNames): DecoderNames {
  return withLayerNames(names, (_, { mlpNorm, gateUp, down }) => {
    const inLayer = (name: string) => sibling(mlpNorm as string, `feed_forward.${name}`);
    const own = (name: string) => inLayer(name.slice(name.lastIndexOf('.') + 1));
    return {
      gateUp: [own(gateUp[0]), own(gateUp[1])],
      down: own(down),
      experts: {
        router: inLayer('router'),
        stacked: true,
        transposed: true,
        expert: () => ({
          gateUp: { weight: inLayer('experts.gate_up_proj') },
          down: { weight: inLayer('experts.down_proj') },
        }),
        shared: {
          gateUp: [inLayer('shared_expert.gate_proj'), inLayer('shared_expert.up_proj')],
          down: inLayer('shared_expert.down_proj'),
        },
      },
    };
  });
}
