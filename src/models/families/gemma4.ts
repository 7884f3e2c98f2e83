/**
 * Gemma 4, the text model: Gemma 3 with other head dims and K in full layers, whose keys can also be their
 * values; norms of v; last layers that read the keys and values of earlier ones; per-layer embeddings; and a
 * factor of each layer's result. Norm weights are stored as they multiply. In the model with experts every
 * layer has a mixture beside its MLP, which is the experts' shared one here. Of a multimodal file only the
 * text model is read.
 *
 * Full layers rotate a part of their pairs, at the frequencies of whole heads (`proportional`): the others
 * have the frequency 0. GGUF has divisors for it.
 *
 * Source: transformers models/gemma4, modeling_rope_utils.py; llama.cpp conversion/gemma.py (Gemma4Model),
 * src/models/gemma4.cpp.
 */
import { show } from '../../arguments/kinds.ts';
import { KeyReader } from '../../format/key-reader.ts';
import type { DecoderConfig, DecoderNames } from '../decoder-config.ts';
import type { RopeConfig } from '../rope-table.ts';
import { ggufExpertKeys, withExperts } from './expert-keys.ts';
import {
  type DecoderDescription,
  type Family,
  type FamilySource,
  nestedKeys,
  positiveNumber,
} from './family.ts';
import {
  gatedFromConfig,
  gatedFromGguf,
  HEAD_NORM,
  sibling,
  statedBiases,
  withLayerNames,
} from './gated-decoder.ts';
import { cap, gemmaGgufNames, gemmaNames } from './gemma2.ts';
import { withoutRope } from './rope-keys.ts';
import { textModel, textModelNames } from './text-model.ts';

export const gemma4: Family = {
  modelTypes: ['gemma4_text', 'gemma4'],
  ggufArchitectures: ['gemma4'],

  fromConfig(outer: FamilySource): DecoderDescription {
    const source = textModel(outer);
    const { keys } = source;
    if (keys.raw('use_bidirectional_attention') === 'all') {
      throw keys.fail('use_bidirectional_attention', 'expected attention to earlier tokens only, got all');
    }
    const config = gatedFromConfig(
      { ...source, keys: withoutRope(keys) },
      {
        biases: { ...statedBiases(keys), mlp: false },
        queryKeyNorm: HEAD_NORM,
        maxPositionEmbeddings: 131_072,
        activation: { key: 'hidden_activation', fallback: 'gelu_pytorch_tanh' },
      },
    );
    const dense = gemma(config);
    const layers = keys.flag('enable_moe_block') ? withMixtures(dense, keys, CONFIG_EXPERTS) : dense;
    return {
      config: {
        ...layers,
        layerScale: true,
        rope: kindRope(keys, 'full_attention', 1e6, dimOf(layers, false)),
        windowRope: kindRope(keys, 'sliding_attention', 1e4, dimOf(layers, true)),
        logitsSoftCap: cap(keys, 'final_logit_softcapping'),
      },
      names: ownNames(textModelNames(outer), layers),
    };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const traits = { queryKeyNorm: HEAD_NORM, activation: 'geluTanh', experts: true } as const;
    const dense = gemma(gatedFromGguf(source, traits));
    const config =
      keys.int('gemma4.expert_count') === undefined
        ? dense
        : withMixtures(dense, keys, ggufExpertKeys('gemma4'));
    const windowRope: RopeConfig = {
      theta: positiveNumber(keys, 'gemma4.rope.freq_base_swa', 10000),
      rotaryDim: keys.int('gemma4.rope.dimension_count_swa') ?? dimOf(config, true),
      interleaved: false,
    };
    const capKey = 'gemma4.final_logit_softcapping';
    const logitsSoftCap = keys.raw(capKey) === 0 ? undefined : cap(keys, capKey);
    const layerScale = source.hasTensor('blk.0.layer_output_scale.weight');
    return { config: { ...config, windowRope, logitsSoftCap, layerScale }, names: ggufNames(config) };
  },
};

const CONFIG_EXPERTS = {
  numExperts: 'num_experts',
  expertsPerToken: 'top_k_experts',
  intermediateSize: 'moe_intermediate_size',
};

/** A mixture in every layer, whose shared expert is the layer's MLP. */
function withMixtures(
  config: DecoderConfig,
  keys: KeyReader,
  names: Parameters<typeof withExperts>[2],
): DecoderConfig {
  const mixed = withExperts(config, keys, names, {
    scores: 'softmax',
    normalize: true,
    norm: { scale: 1 / Math.sqrt(config.hiddenSize) },
    expertScale: true,
  });
  const sharedIntermediateSize = config.intermediateSize;
  return { ...mixed, experts: { ...mixed.experts, sharedIntermediateSize, norms: true } };
}

function gemma(config: DecoderConfig): DecoderConfig {
  return {
    ...config,
    normPlace: 'both',
    valueNorm: true,
    embeddingScale: Math.sqrt(config.hiddenSize),
    attention: config.attention.map((layer) => ({ ...layer, scale: 1 })),
  };
}

/** H of the layers with a window, or of those without. */
function dimOf({ attention, headDim }: DecoderConfig, slides: boolean): number {
  return attention.find(({ window }) => (window !== undefined) === slides)?.headDim ?? headDim;
}

/** The rotation of one kind of layers. @throws FormatError for a type that is not supported */
function kindRope(keys: KeyReader, kind: string, theta: number, H: number): RopeConfig {
  const all = nestedKeys(keys, 'rope_parameters');
  const own = (all && nestedKeys(all, kind)) ?? new KeyReader(keys.file, () => undefined);
  const type = own.raw('rope_type') ?? (kind === 'full_attention' && !all ? 'proportional' : 'default');
  const rope = { theta: positiveNumber(own, 'rope_theta', theta), rotaryDim: H, interleaved: false };
  if (type === 'default') return rope;
  if (type !== 'proportional') {
    throw own.fail('rope_type', `expected default or proportional in ${kind}, got ${show(type)}`);
  }
  const turning = Math.trunc((positiveNumber(own, 'partial_rotary_factor', all ? 1 : 0.25) * H) / 2);
  const factor = positiveNumber(own, 'factor', 1);
  const divisors = Array.from({ length: H / 2 }, (_, i) => (i < turning ? factor : Number.POSITIVE_INFINITY));
  return { ...rope, divisors };
}

function ownNames(names: DecoderNames, config: DecoderConfig): DecoderNames {
  const layers = withLayerNames(gemmaNames(names), (_, { attentionNorm, gateUp, down }) => ({
    experts: {
      router: sibling(attentionNorm, 'router.proj'),
      routerNorm: sibling(attentionNorm, 'router.scale'),
      expertScale: sibling(attentionNorm, 'router.per_expert_scale'),
      norms: {
        before: sibling(attentionNorm, 'pre_feedforward_layernorm_2'),
        after: sibling(attentionNorm, 'post_feedforward_layernorm_2'),
        sharedAfter: sibling(attentionNorm, 'post_feedforward_layernorm_1'),
      },
      stacked: true,
      expert: () => ({
        gateUp: { weight: sibling(attentionNorm, 'experts.gate_up_proj') },
        down: { weight: sibling(attentionNorm, 'experts.down_proj') },
      }),
      shared: { gateUp: gateUp as readonly [string, string], down },
    },
    layerInput: [
      sibling(attentionNorm, 'per_layer_input_gate'),
      sibling(attentionNorm, 'per_layer_projection'),
      sibling(attentionNorm, 'post_per_layer_input_norm'),
    ],
    layerScale: sibling(attentionNorm, 'layer_scalar'),
  }));
  const top = (name: string) => sibling(names.embedding, name);
  return withoutUnread(
    {
      ...layers,
      layerInputs: [
        top('embed_tokens_per_layer'),
        top('per_layer_model_projection'),
        top('per_layer_projection_norm'),
      ],
    },
    config,
  );
}

function ggufNames(config: DecoderConfig): DecoderNames {
  const layers = withLayerNames(gemmaGgufNames, (index, { gateUp, down }) => ({
    experts: {
      router: `blk.${index}.ffn_gate_inp`,
      routerNorm: `blk.${index}.ffn_gate_inp.scale`,
      expertScale: `blk.${index}.ffn_down_exps.scale`,
      norms: {
        before: `blk.${index}.pre_ffw_norm_2`,
        after: `blk.${index}.post_ffw_norm_2`,
        sharedAfter: `blk.${index}.post_ffw_norm_1`,
      },
      stacked: true,
      expert: () => ({
        gateUp: { weight: `blk.${index}.ffn_gate_up_exps.weight` },
        down: { weight: `blk.${index}.ffn_down_exps.weight` },
      }),
      shared: { gateUp: gateUp as readonly [string, string], down },
    },
    layerInput: [`blk.${index}.inp_gate`, `blk.${index}.proj`, `blk.${index}.post_norm`],
    layerScale: `blk.${index}.layer_output_scale.weight`,
  }));
  const layerInputs = ['per_layer_token_embd', 'per_layer_model_proj', 'per_layer_proj_norm'] as const;
  return withoutUnread({ ...layers, layerInputs }, config);
}

/** Released files have keys and values also in layers that read those of others. */
function withoutUnread(names: DecoderNames, { attention }: DecoderConfig): DecoderNames {
  const unread = new Set(
    attention.flatMap(({ reads }, index) => {
      const { queryKeyValue, keyNorm } = names.layer(index);
      return reads === undefined ? [] : [...queryKeyValue.slice(1), `${keyNorm}`];
    }),
  );
  return { ...names, isBuffer: (name) => unread.has(name.replace(/\.(weight|bias)$/, '')) };
}
