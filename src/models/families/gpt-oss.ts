/**
 * gpt-oss: a mixture of experts in every layer, windows in every second one, a sink per query head, biases everywhere, YaRN.
 *
 * transformers stores all experts of a projection as one `[E, In, Out]` tensor in which gate and up alternate; they are read in
 * place. GGUF has them as `[E, Out, In]`, gate and up apart. The released files hold MXFP4 blocks, which have no kernels here.
 *
 * YaRN's ramp ends between pairs (`truncate: false` in the config). GGUF has no key for that; llama.cpp rounds.
 *
 * Source: transformers models/gpt_oss; llama.cpp convert_hf_to_gguf.py (GptOssModel), gguf-py constants.py.
 */
import type { KeyReader } from '../../format/key-reader.ts';
import type { DecoderConfig, DecoderNames } from '../decoder-config.ts';
import type { ExpertsConfig } from '../experts-config.ts';
import { type DecoderDescription, type Family, type FamilySource, positiveNumber } from './family.ts';
import { gatedFromConfig, gatedFromGguf, ggufNames, huggingFaceNames } from './gated-decoder.ts';

export const gptOss: Family = {
  modelTypes: ['gpt_oss'],
  ggufArchitectures: ['gpt-oss'],

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys, hasTensor } = source;
    if (hasTensor('model.layers.0.mlp.experts.gate_up_proj_blocks')) {
      throw keys.fail(
        'quantization_config',
        'expected experts in bf16, f16 or f32, got MXFP4 blocks, which have no kernels here: load the model in transformers with Mxfp4Config(dequantize=True) and save it, or use a GGUF with other types',
      );
    }
    const biased = keys.flag('attention_bias') ?? true;
    const biases = { queryKeyValue: biased, attentionOutput: biased, mlp: false };
    const config = gatedFromConfig(source, {
      biases,
      maxPositionEmbeddings: 131_072,
      normEps: 1e-5,
      rope: ROPE,
    });
    const [alpha, limit] = [
      positiveNumber(keys, 'swiglu_alpha', 1.702),
      positiveNumber(keys, 'swiglu_limit', 7),
    ];
    const numExperts = keys.needInt('num_local_experts', 'num_experts');
    const experts = chosen(keys, numExperts, ['num_experts_per_tok', 'experts_per_token']);
    return { config: withExperts(config, { ...experts, alpha, limit }), names: configNames };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const { keys } = source;
    const config = gatedFromGguf(source, { experts: true, yarnTruncates: false });
    const intermediateSize = keys.int('gpt-oss.expert_feed_forward_length') ?? config.intermediateSize;
    const numExperts = keys.needInt('gpt-oss.expert_count');
    const experts = chosen(keys, numExperts, ['gpt-oss.expert_used_count']);
    return {
      config: withExperts({ ...config, intermediateSize }, { ...experts, alpha: 1.702, limit: 7 }),
      names: fileNames,
    };
  },
};

/** transformers' defaults. */
const ROPE = {
  theta: 150_000,
  parameters: {
    rope_type: 'yarn',
    factor: 32,
    beta_fast: 32,
    beta_slow: 1,
    truncate: false,
    original_max_position_embeddings: 4096,
  },
};

/** @throws FormatError when a token would have more experts than there are. */
function chosen(
  keys: KeyReader,
  numExperts: number,
  names: readonly string[],
): Pick<ExpertsConfig, 'numExperts' | 'expertsPerToken'> {
  const expertsPerToken = keys.needInt(...names);
  if (expertsPerToken > numExperts) {
    throw keys.fail(
      keys.find(names) ?? names[0],
      `expected at most the ${numExperts} experts there are, got ${expertsPerToken}`,
    );
  }
  return { numExperts, expertsPerToken };
}

function withExperts(
  config: DecoderConfig,
  {
    numExperts,
    expertsPerToken,
    alpha,
    limit,
  }: Pick<ExpertsConfig, 'numExperts' | 'expertsPerToken'> & {
    readonly alpha: number;
    readonly limit: number;
  },
): DecoderConfig {
  return {
    ...config,
    attentionSinks: true,
    experts: {
      numExperts,
      expertsPerToken,
      intermediateSize: config.intermediateSize,
      layers: config.attention.map(() => true),
      routing: { scores: 'softmaxOfChosen', choiceBias: false, normalize: false, scale: 1 },
      activation: { type: 'clamped', alpha, limit },
      routerBias: true,
      biases: true,
    },
  };
}

const configNames: DecoderNames = {
  ...huggingFaceNames,
  layer: (index) => {
    const experts = `model.layers.${index}.mlp.experts`;
    const tensor = (name: string) => ({ weight: `${experts}.${name}`, bias: `${experts}.${name}_bias` });
    return {
      ...huggingFaceNames.layer(index),
      sinks: `model.layers.${index}.self_attn.sinks`,
      experts: {
        router: `model.layers.${index}.mlp.router`,
        stacked: true,
        transposed: true,
        alternating: true,
        expert: () => ({ gateUp: tensor('gate_up_proj'), down: tensor('down_proj') }),
      },
    };
  },
};

const fileNames: DecoderNames = {
  ...ggufNames,
  layer: (index) => {
    const tensor = (name: string) => ({
      weight: `blk.${index}.${name}.weight`,
      bias: `blk.${index}.${name}.bias`,
    });
    return {
      ...ggufNames.layer(index),
      mlpNorm: `blk.${index}.post_attention_norm`,
      sinks: `blk.${index}.attn_sinks.weight`,
      experts: {
        router: `blk.${index}.ffn_gate_inp`,
        stacked: true,
        expert: () => ({
          gateUp: [tensor('ffn_gate_exps'), tensor('ffn_up_exps')],
          down: tensor('ffn_down_exps'),
        }),
      },
    };
  },
};
