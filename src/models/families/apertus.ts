/**
 * Apertus: Llama with an RMS norm of each head of q and k, and xIELU without a gate, whose two numbers each
 * layer learns. They count as part of the config here: training leaves them as they are.
 *
 * Source: transformers models/apertus, activations.py (XIELUActivation); llama.cpp conversion/llama.py
 * (ApertusModel), src/models/apertus.cpp.
 */
import { show } from '../../arguments/kinds.ts';
import type { KeyReader } from '../../format/key-reader.ts';
import type { Xielu } from '../activation.ts';
import type { DecoderConfig } from '../decoder-config.ts';
import type { DecoderDescription, Family, FamilySource } from './family.ts';
import {
  gatedFromConfig,
  gatedFromGguf,
  ggufNames,
  HEAD_NORM,
  huggingFaceNames,
  sibling,
  statedBiases,
  ungatedNames,
  withLayerNames,
} from './gated-decoder.ts';

export const apertus: Family = {
  modelTypes: ['apertus'],
  ggufArchitectures: ['apertus'],
  configTensors: /\.act_fn\.alpha_[pn]$/,

  fromConfig(source: FamilySource): DecoderDescription {
    const { keys, hasTensor, floats } = source;
    const activation = keys.raw('hidden_act') ?? 'xielu';
    if (activation !== 'xielu') throw keys.fail('hidden_act', `expected xielu, got ${show(activation)}`);
    const config = gatedFromConfig(
      { ...source, keys: keys.with({ hidden_act: 'linear' }) },
      {
        biases: { ...statedBiases(keys), mlp: false },
        queryKeyNorm: HEAD_NORM,
        maxPositionEmbeddings: 65_536,
        normEps: 1e-5,
        rope: { theta: 12e6, parameters: ROPE },
      },
    );
    const layers = config.attention.map((_, layer): Xielu => {
      const mlp = `model.layers.${layer}.mlp.act_fn`;
      // A model without weights has the numbers that training begins with.
      if (!hasTensor(`${mlp}.alpha_p`)) return { positive: 0.8, negative: 0.8, beta: BETA };
      return numbers(floats(`${mlp}.alpha_p`, 1)[0], floats(`${mlp}.alpha_n`, 1)[0], BETA);
    });
    const names = withLayerNames(ungatedNames(huggingFaceNames), (_, { attentionNorm }) => ({
      attentionNorm: sibling(attentionNorm, 'attention_layernorm'),
      mlpNorm: sibling(attentionNorm, 'feedforward_layernorm'),
    }));
    return { config: withXielu(config, layers), names };
  },

  fromGguf(source: FamilySource): DecoderDescription {
    const config = gatedFromGguf(source, { queryKeyNorm: HEAD_NORM });
    const of = (name: string) => perLayer(source.keys, `xielu.${name}`, config.numLayers);
    const [p, n, betas] = [of('alpha_p'), of('alpha_n'), of('beta')];
    const layers = config.attention.map((_, layer) => numbers(p[layer], n[layer], betas[layer]));
    return { config: withXielu(config, layers), names: ungatedNames(ggufNames) };
  },
};

const BETA = 0.5;

/** transformers' defaults. */
const ROPE = {
  rope_type: 'llama3',
  factor: 8,
  original_max_position_embeddings: 8192,
  low_freq_factor: 1,
  high_freq_factor: 4,
};

function withXielu(config: DecoderConfig, xielu: readonly Xielu[]): DecoderConfig {
  return { ...config, mlp: { gated: false, activation: 'linear', xielu } };
}

/** From what a layer learns, whose softplus makes both factors positive. */
function numbers(alphaP: number, alphaN: number, beta: number): Xielu {
  const softplus = (x: number) => Math.log1p(Math.exp(x));
  return { positive: softplus(alphaP), negative: beta + softplus(alphaN), beta };
}

/** One number, or one for each layer. */
function perLayer(keys: KeyReader, key: string, numLayers: number): readonly number[] {
  const value = keys.raw(key);
  const list = keys.list(key) ?? new Array<unknown>(numLayers).fill(value);
  const numbers = list.filter((item) => typeof item === 'number');
  if (list.length === numLayers && numbers.length === numLayers) return numbers;
  throw keys.fail(key, `expected ${numLayers} numbers, got ${show(value)}`);
}
