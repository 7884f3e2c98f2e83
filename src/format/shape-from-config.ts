/**
 * A model's shape from a Hugging Face config.json. Families name the same facts differently (n_embd, d_model, num_heads,
 * n_head_kv …) and leave some to their code; what a file leaves out is filled in only where the family's code is clear.
 *
 * Source: the configuration and modeling files of transformers 5.23.0.
 */
import { FormatError } from './format-error.ts';
import { KeyReader, show } from './key-reader.ts';
import { type KindOfLayer, layerKinds } from './layer-kinds.ts';
import { freezeShape, type LayerShape, type ModelShape } from './shape-types.ts';

type Json = Readonly<Record<string, unknown>>;

const HEADS = ['num_attention_heads', 'n_head', 'n_heads', 'num_heads', 'decoder_attention_heads'];
const LAYERS = [
  'num_decoder_layers',
  'decoder_layers',
  'num_hidden_layers',
  'n_layer',
  'n_layers',
  'num_layers',
];
const HIDDEN = ['hidden_size', 'n_embd', 'd_model', 'n_embed'];
const KEY_VALUE_HEADS = ['num_key_value_heads', 'num_kv_heads', 'n_head_kv', 'multi_query_group_num'];
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
    if (key === 'num_kv_heads' && attnConfig !== undefined) return attnConfig.kv_n_heads;
    return defaults?.[key];
  });
  const hiddenSize = keys.needInt(...HIDDEN);
  const numLayers = keys.layerCount(...LAYERS);
  const numHeads = keys.needInt(...HEADS);
  const layers = layerShapes(keys, modelType, { hiddenSize, numLayers, numHeads });
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
  return freezeShape(name, shape, {
    heads: keys.find(HEADS) ?? HEADS[0],
    keyValueHeads: keys.find(KEY_VALUE_HEADS) ?? KEY_VALUE_HEADS[0],
  });
}

function asObject(value: unknown): Json | undefined {
  const ok = typeof value === 'object' && value !== null && !Array.isArray(value);
  return ok ? (value as Json) : undefined;
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

interface Sizes {
  readonly hiddenSize: number;
  readonly numLayers: number;
  readonly numHeads: number;
}

function layerShapes(keys: KeyReader, modelType: string, sizes: Sizes): LayerShape[] {
  const { numLayers, numHeads } = sizes;
  const kinds = layerKinds(keys, modelType, numLayers);
  const rank = keys.int('kv_lora_rank');
  const base = rank === undefined ? headShape(keys, modelType, sizes) : latentShape(keys, numHeads, rank);
  const firstShared = numLayers - (keys.perLayer(1, 'num_kv_shared_layers')?.[0] ?? 0);
  // Gemma 4: full layers may have heads of their own.
  const globalDim = keys.int('global_head_dim');
  const globalHeads =
    keys.flag('attention_k_eq_v') === true ? keys.int('num_global_key_value_heads') : undefined;
  // MiMo v2: sliding layers may.
  const slidingHeads = keys.int('swa_num_key_value_heads');
  return kinds.map(({ kind, window }: KindOfLayer, i): LayerShape => {
    if (kind === 'linear') return { kind, numKeyValueHeads: 0, keyHeadDim: 0, valueHeadDim: 0 };
    if (base.latent !== undefined) return { kind: 'latent', ...base, latent: { ...base.latent } };
    const own: HeadShape =
      kind === 'full'
        ? {
            numKeyValueHeads: globalHeads ?? base.numKeyValueHeads,
            keyHeadDim: globalDim ?? base.keyHeadDim,
            valueHeadDim: globalDim ?? base.valueHeadDim,
          }
        : { ...base, numKeyValueHeads: slidingHeads ?? base.numKeyValueHeads };
    const span = window === undefined ? {} : { window };
    return { kind: i >= firstShared ? 'shared' : kind, ...own, ...span };
  });
}

type HeadShape = Pick<LayerShape, 'numKeyValueHeads' | 'keyHeadDim' | 'valueHeadDim' | 'latent'>;

/** MLA: what expands from the latent row has N heads of nope + rope dims; `head_dim` in such files means something else. */
function latentShape(keys: KeyReader, numHeads: number, rank: number): HeadShape {
  const ropeDim = keys.needInt('qk_rope_head_dim');
  return {
    numKeyValueHeads: numHeads,
    keyHeadDim: keys.needInt('qk_nope_head_dim') + ropeDim,
    valueHeadDim: keys.needInt('v_head_dim'),
    latent: { rank, ropeDim },
  };
}

function headShape(keys: KeyReader, modelType: string, { hiddenSize, numHeads }: Sizes): HeadShape {
  let keyHeadDim = keys.int('head_dim', 'd_kv', 'kv_channels');
  if (keyHeadDim === undefined) {
    if (hiddenSize % numHeads !== 0) {
      throw keys.fail(
        keys.find(HEADS) ?? HEADS[0],
        `expected a divisor of ${keys.find(HIDDEN)} ${hiddenSize} where there is no head_dim, got ${numHeads}`,
      );
    }
    keyHeadDim = hiddenSize / numHeads;
  }
  const valueHeadDim = keys.int('v_head_dim') ?? keyHeadDim;
  return { numKeyValueHeads: keyValueHeads(keys, modelType, numHeads), keyHeadDim, valueHeadDim };
}

function keyValueHeads(keys: KeyReader, modelType: string, numHeads: number): number {
  const stated = keys.int(...KEY_VALUE_HEADS);
  switch (modelType) {
    case 'gpt_bigcode':
      return (keys.flag('multi_query') ?? true) ? 1 : numHeads;
    case 'falcon':
    case 'RefinedWebModel':
      // The file's K counts only in the new architecture or without multi_query.
      if (keys.flag('new_decoder_architecture') ?? false) return stated ?? numHeads;
      return (keys.flag('multi_query') ?? true) ? 1 : (stated ?? numHeads);
    case 'chatglm':
      return (keys.flag('multi_query_attention') ?? false) ? (stated ?? numHeads) : numHeads;
    default:
      return stated ?? numHeads;
  }
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
  for (const value of [config.tie_word_embeddings, outer.tie_word_embeddings]) {
    if (typeof value === 'boolean') return value;
  }
  return TIED.test(modelType) ? true : undefined;
}
