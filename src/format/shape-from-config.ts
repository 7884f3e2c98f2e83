/**
 * A model's shape from a Hugging Face config.json. Families name the same facts differently (n_embd, d_model, num_heads,
 * n_head_kv …) and leave some to their code; what a file leaves out is filled in only where the family's code is clear.
 *
 * Source: the configuration and modeling files of transformers 5.23.0.
 */

import { show } from '../arguments/kinds.ts';
import { unknownAttentionKeys } from './attention-keys.ts';
import { FormatError } from './format-error.ts';
import { KeyReader } from './key-reader.ts';
import { HEADS, HIDDEN, KEY_VALUE_HEADS, layerShapes } from './layer-heads.ts';
import { listedLayers } from './layer-kinds.ts';
import { freezeShape, type LayerShape, type ModelShape } from './shape-types.ts';

type Json = Readonly<Record<string, unknown>>;

const LAYERS = [
  'num_decoder_layers',
  'decoder_layers',
  'num_hidden_layers',
  'n_layer',
  'n_layers',
  'num_layers',
  'num_transformer_layers',
];
const INTERMEDIATE = [
  'intermediate_size',
  'ffn_hidden_size',
  'ff_intermediate_size',
  'decoder_ffn_dim',
  'n_inner',
  'd_ff',
  'ffn_dim',
];
const POSITIONS = [
  'max_target_positions',
  'max_position_embeddings',
  'n_positions',
  'max_seq_len',
  'max_context_length',
  'seq_length',
  'n_ctx',
];

/** Where multimodal files keep the language model. */
const NESTED = ['text_config', 'language_config', 'llm_config'];

/** Class defaults that released files rely on: nested configs hold only what differs from them. */
const DEFAULTS: Readonly<Record<string, Json>> = {
  gemma3_text: {
    vocab_size: 262_208,
    hidden_size: 2304,
    intermediate_size: 9216,
    num_hidden_layers: 26,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    head_dim: 256,
    max_position_embeddings: 131_072,
  },
  llama: {
    vocab_size: 32_000,
    hidden_size: 4096,
    intermediate_size: 11_008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
  },
  falcon: { max_position_embeddings: 2048 },
};

/** Families whose configs leave `tie_word_embeddings` out because tying is their default. */
const TIED =
  /^(gpt2|gpt_bigcode|gpt_neo|gemma|gemma2|gemma3|gemma3_text|gemma3n_text|falcon|RefinedWeb(Model)?|cohere2?|starcoder2|opt|bloom)$/;

/** Families whose feed-forward is four times as wide when the file does not say. */
const FOURFOLD = /^(gpt2|gpt_bigcode|gpt_neo|gptj|falcon|RefinedWeb(Model)?|bloom|mpt)$/;

/**
 * Reads the attention facts from a parsed config.json.
 * @param json the parsed file; a multimodal one is read through its `text_config`
 * @param name what errors call it, such as the path
 * @throws FormatError that names the key: heads missing, K not a divisor of N, a head dim that does not come out whole,
 * a layer list of the wrong length
 * @returns a frozen shape
 * @example modelShapeFromConfig(JSON.parse(text), 'config.json').numKeyValueHeads
 */
export function modelShapeFromConfig(json: unknown, name: string): ModelShape {
  const outer = asObject(json);
  if (outer === undefined) {
    throw new FormatError(name, undefined, `expected a JSON object with a model's config, got ${show(json)}`);
  }
  const config = languageModel(outer);
  const modelType = String(config.model_type ?? outer.model_type ?? 'unknown');
  // Defaults belong to nested configs; a flat file that lacks its heads is a broken or a foreign file.
  const defaults = config === outer && modelType !== 'falcon' ? undefined : DEFAULTS[modelType];
  const attnConfig = asObject(config.attn_config);
  const keys = new KeyReader(name, (key) => {
    if (Object.hasOwn(config, key)) return config[key];
    // MPT and DBRX keep these in an object of their own.
    if (key === 'num_kv_heads' && attnConfig?.attn_type === 'multiquery_attention') return 1;
    if (key === 'num_kv_heads' && attnConfig?.kv_n_heads !== undefined) return attnConfig.kv_n_heads;
    return defaults?.[key];
  });
  const hiddenSize = keys.needInt(...HIDDEN);
  const numLayers = layerCount(keys, modelType);
  const warnings: string[] = [];
  const { numHeads, layers } = layerShapes(keys, modelType, hiddenSize, numLayers, (text) =>
    warnings.push(text),
  );
  const cached = layers.filter((layer) => layer.kind !== 'linear');
  const largest = (of: (layer: LayerShape) => number) =>
    cached.reduce((most, layer) => Math.max(most, of(layer)), 0);
  const shape: ModelShape = {
    modelType,
    numLayers,
    numHeads,
    numKeyValueHeads: largest((layer) => layer.numKeyValueHeads),
    headDim: largest((layer) => layer.keyHeadDim),
    valueHeadDim: largest((layer) => layer.valueHeadDim),
    hiddenSize,
    intermediateSize: intermediateSize(keys, modelType, hiddenSize, numLayers),
    vocabSize:
      keys.int('padded_vocab_size', 'vocab_size') ??
      new KeyReader(name, (key) => outer[key]).int('vocab_size'),
    maxPositionEmbeddings: keys.int(...POSITIONS),
    tiedEmbeddings: tiedEmbeddings(outer, config, modelType),
    layers,
  };
  const { attn_config: _, ...flat } = config;
  const entries = Object.entries(attnConfig === undefined ? config : { ...flat, ...attnConfig });
  const unknown = unknownAttentionKeys(entries, keys.asked, modelType);
  if (unknown !== undefined) warnings.push(unknown);
  return freezeShape(name, warnings.length === 0 ? shape : { ...shape, warnings }, {
    heads: keys.find(HEADS) ?? HEADS[0],
    keyValueHeads: keys.find(KEY_VALUE_HEADS) ?? KEY_VALUE_HEADS[0],
  });
}

function asObject(value: unknown): Json | undefined {
  const ok = typeof value === 'object' && value !== null && !Array.isArray(value);
  return ok ? (value as Json) : undefined;
}

/** The stated number, which Nemotron-H's files leave to the list of its layers. */
function layerCount(keys: KeyReader, modelType: string): number {
  const listed = listedLayers(keys);
  const byList = listed !== undefined && (modelType === 'nemotron_h' || keys.find(LAYERS) === undefined);
  const counted = byList ? keys.with({ [LAYERS[0]]: listed }) : keys;
  return counted.layerCount(...LAYERS);
}

/** The nested text model when the outer object has no layers or heads of its own. */
function languageModel(outer: Json): Json {
  const whole = [LAYERS, HEADS, HIDDEN].every((names) => names.some((key) => outer[key] != null));
  if (whole) return outer;
  for (const key of NESTED) {
    const nested = asObject(outer[key]);
    if (nested !== undefined) return languageModel(nested);
  }
  const thinker = asObject(outer.thinker_config);
  return thinker === undefined ? outer : languageModel(thinker);
}

function intermediateSize(
  keys: KeyReader,
  modelType: string,
  hiddenSize: number,
  numLayers: number,
): number | undefined {
  const perLayer = keys.perLayer(numLayers, ...INTERMEDIATE);
  if (perLayer !== undefined) return perLayer.reduce((most, size) => Math.max(most, size), 0);
  return FOURFOLD.test(modelType) ? 4 * hiddenSize : undefined;
}

function tiedEmbeddings(outer: Json, config: Json, modelType: string): boolean | undefined {
  const values = [config.tie_word_embeddings, outer.tie_word_embeddings, config.share_input_output_layers];
  for (const value of values) {
    if (typeof value === 'boolean') return value;
  }
  return TIED.test(modelType) ? true : undefined;
}
