/** The config.json of a gated decoder (`gated-decoder.ts`), for a model that comes from a GGUF file. */
import type { DecoderConfig } from '../decoder-config.ts';
import type { RopeConfig } from '../rope-table.ts';

/**
 * @param modelType `model_type` in Hugging Face's spelling
 * @param architecture the class of transformers
 */
export function gatedConfigJson(
  config: DecoderConfig,
  modelType: string,
  architecture: string,
): Readonly<Record<string, unknown>> {
  const { biases, rope } = config;
  return {
    architectures: [architecture],
    model_type: modelType,
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.numLayers,
    num_attention_heads: config.numHeads,
    num_key_value_heads: config.numKeyValueHeads,
    head_dim: config.headDim,
    max_position_embeddings: config.maxPositionEmbeddings,
    rms_norm_eps: config.normEps,
    rope_theta: rope?.theta,
    rope_parameters: { rope_theta: rope?.theta, ...ropeScaling(rope) },
    hidden_act: config.mlp.activation,
    attention_bias: biases.queryKeyValue,
    mlp_bias: biases.mlp,
    tie_word_embeddings: config.tiedEmbeddings,
    initializer_range: 0.02,
    use_cache: true,
  };
}

function ropeScaling({ scaling }: Partial<RopeConfig> = {}): Readonly<Record<string, unknown>> {
  if (scaling?.type === 'linear') return { rope_type: 'linear', factor: scaling.factor };
  if (scaling?.type !== 'yarn') return { rope_type: 'default' };
  return {
    rope_type: 'yarn',
    factor: scaling.factor,
    beta_fast: scaling.betaFast,
    beta_slow: scaling.betaSlow,
    truncate: scaling.truncate,
    attention_factor: scaling.attentionFactor,
    original_max_position_embeddings: scaling.originalMaxPositionEmbeddings,
  };
}
