/**
 * A model's shape from a Hugging Face config.json. Families name the same sizes differently (n_embd, d_model,
 * num_heads, n_head_kv …) and have some only in their code; those are in `families.ts`.
 *
 * Source: the configuration and modeling files of transformers 5.23.0.
 */

import { show } from '../arguments/kinds.ts';
import { unknownAttentionKeys } from './attention-keys.ts';
import { configExperts } from './experts-shape.ts';
import { familyFacts } from './families.ts';
import type { FamilyFacts } from './family-facts.ts';
import { FormatError } from './format-error.ts';
import { KeyReader } from './key-reader.ts';
import { HEADS, HIDDEN, KEY_VALUE_HEADS, layerShapes } from './layer-heads.ts';
import { listedLayers } from './layer-kinds.ts';
import { freezeShape, type ModelShape, withWidths } from './shape-types.ts';

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
  'intermediate_size_mlp',
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

/** Keys of the language model's config in multimodal files. */
const NESTED = ['text_config', 'language_config', 'llm_config', 'thinker_config'];

/**
 * Reads a model's shape from a parsed config.json.
 * @param json the parsed file; of a multimodal one its `text_config` is read
 * @param name what errors call it, such as the path
 * @throws FormatError that names the key: heads missing, K not a divisor of N, a head dim that is not whole,
 *   a list of layers of the wrong length
 * @returns a frozen shape
 */
export function modelShapeFromConfig(json: unknown, name: string): ModelShape {
  const outer = asObject(json);
  if (outer === undefined) {
    throw new FormatError(name, undefined, `expected a JSON object with a model's config, got ${show(json)}`);
  }
  const config = languageModel(outer);
  const modelType = config.model_type ?? outer.model_type ?? 'unknown';
  if (typeof modelType !== 'string') {
    throw new FormatError(name, undefined, `model_type: expected a string, got ${show(modelType)}`);
  }
  const facts = familyFacts(modelType);
  const defaults: Json = { ...facts.defaults, ...(config !== outer && facts.nestedDefaults) };
  const attnConfig = asObject(config.attn_config);
  const keys = new KeyReader(name, (key) => {
    if (Object.hasOwn(config, key)) return config[key];
    // MPT and DBRX have these in `attn_config`.
    if (key === 'num_kv_heads' && attnConfig?.attn_type === 'multiquery_attention') return 1;
    if (key === 'num_kv_heads' && attnConfig?.kv_n_heads !== undefined) return attnConfig.kv_n_heads;
    return defaults[key];
  });
  const hiddenSize = keys.needInt(...HIDDEN);
  const numLayers = layerCount(keys, facts);
  const warnings: string[] = [];
  const { numHeads, layers: heads } = layerShapes(keys, modelType, hiddenSize, numLayers, warnings);
  const isDouble = keys.flag('use_double_wide_mlp') ?? false;
  const widths = keys
    .perLayer(numLayers, ...INTERMEDIATE)
    ?.map((width, i) => (isDouble && heads[i].kind === 'shared' ? 2 * width : width));
  const intermediateSize = widths ? Math.max(...widths) : facts.fourfold && 4 * hiddenSize;
  const layers = withWidths(heads, widths, intermediateSize);
  const inputDim = keys.count('hidden_size_per_layer_input') ?? 0;
  const experts = configExperts(keys, numLayers, intermediateSize, facts.sharedExperts);
  if (intermediateSize === 0 && experts === undefined) {
    throw keys.fail(keys.find(INTERMEDIATE) as string, 'expected an integer >= 1, got 0');
  }
  const shape = {
    modelType,
    numHeads,
    hiddenSize,
    intermediateSize,
    gatedMlp: facts.ungated !== true,
    ...(experts !== undefined && { experts }),
    ...(inputDim > 0 && {
      layerInputs: { dim: inputDim, vocabSize: keys.needInt('vocab_size_per_layer_input', 'vocab_size') },
    }),
    vocabSize:
      keys.int('padded_vocab_size', 'vocab_size') ??
      new KeyReader(name, (key) => outer[key]).int('vocab_size'),
    maxPositionEmbeddings: keys.int(...POSITIONS),
    tiedEmbeddings: statedTying(outer, config) ?? facts.tied,
    layers,
  };
  const { attn_config: _, ...flat } = config;
  const entries = Object.entries(attnConfig === undefined ? config : { ...flat, ...attnConfig });
  warnings.push(...unknownAttentionKeys(entries, keys.asked, facts.otherKeys));
  const [queryKey, keyValueHeads] = [HEADS, KEY_VALUE_HEADS].map((names) => keys.find(names) ?? names[0]);
  return freezeShape(name, { ...shape, warnings }, { heads: queryKey, keyValueHeads });
}

function asObject(value: unknown): Json | undefined {
  const ok = typeof value === 'object' && value !== null && !Array.isArray(value);
  return ok ? (value as Json) : undefined;
}

/** The stated number, or the length of the list of layers in files without one. */
function layerCount(keys: KeyReader, facts: FamilyFacts): number {
  const listed = listedLayers(keys);
  const byList = listed !== undefined && (facts.countedByList === true || keys.find(LAYERS) === undefined);
  const counted = byList ? keys.with({ [LAYERS[0]]: listed }) : keys;
  return counted.layerCount(...LAYERS);
}

/** The nested text model, when the outer object has no layers or heads. */
function languageModel(outer: Json): Json {
  const whole = [LAYERS, HEADS, HIDDEN].every((names) => names.some((key) => outer[key] != null));
  if (whole) return outer;
  const nested = NESTED.map((key) => asObject(outer[key])).find((config) => config !== undefined);
  return nested === undefined ? outer : languageModel(nested);
}

function statedTying(outer: Json, config: Json): boolean | undefined {
  const values = [config.tie_word_embeddings, outer.tie_word_embeddings, config.share_input_output_layers];
  return values.find((value) => typeof value === 'boolean');
}
