/**
 * Gemma 4, the text model: Gemma 3 with other head dims and K in full layers, whose keys can also be their
 * values; norms of v; last layers that read the keys and values of earlier ones; per-layer embeddings; and a
 * factor of each layer's result. Norm weights are stored as they multiply. Its mixtures of experts, which run
 * beside the MLP, are not supported. Of a multimodal file only the text model is read.
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
    if (keys.flag('enable_moe_block')) {
      throw keys.fail(
        'enable_moe_block',
        'expected false, since experts beside an MLP are not supported, got true',
      );
    }
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
    const layers = gemma(config);
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
    const config = gemma(gatedFromGguf(source, { queryKeyNorm: HEAD_NORM, activation: 'geluTanh' }));
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
  const layers = withLayerNames(gemmaNames(names), (_, { attentionNorm }) => ({
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
  const layers = withLayerNames(gemmaGgufNames, (index) => ({
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
