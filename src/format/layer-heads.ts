/**
 * What each layer of a Hugging Face model caches: its kind, its heads and their dims. Files with layers that
 * differ have a list, keys for the sliding layers (`swa_…`), or an object per layer (`per_layer_config`,
 * `block_configs`).
 *
 * Source: the configuration and modeling files of transformers 5.23.0; nemotron-nas: its repository's
 * block_config.py; OpenELM: its repository's configuration_openelm.py.
 */
import { show } from '../arguments/kinds.ts';
import { familyFacts } from './families.ts';
import type { FamilyFacts } from './family-facts.ts';
import type { KeyReader } from './key-reader.ts';
import { type KindOfLayer, layerKinds } from './layer-kinds.ts';
import type { LayerShape } from './shape-types.ts';

export const HEADS: readonly string[] = [
  'num_attention_heads_per_layer',
  'num_attention_heads',
  'n_head',
  'n_heads',
  'num_heads',
  'num_query_heads',
  'attention_heads',
  'decoder_attention_heads',
  'num_decoder_attention_heads',
];
export const HIDDEN: readonly string[] = ['hidden_size', 'n_embd', 'd_model', 'n_embed', 'model_dim'];
export const KEY_VALUE_HEADS: readonly string[] = [
  'num_key_value_heads_per_layer',
  'num_key_value_heads',
  'num_kv_heads',
  'n_head_kv',
  'n_kv_head',
  'n_kv_heads',
  'multi_query_group_num',
  'num_attention_groups',
  'num_query_groups',
];

type HeadShape = Pick<LayerShape, 'numHeads' | 'numKeyValueHeads' | 'keyHeadDim' | 'valueHeadDim' | 'latent'>;
type Overrides = Readonly<Record<string, unknown>>;

/** Keys that may have another value for sliding layers, as `swa_…`. */
const SLIDING = [
  ...['num_attention_heads', 'num_key_value_heads', 'head_dim', 'v_head_dim'],
  ...['kv_lora_rank', 'qk_nope_head_dim', 'qk_rope_head_dim'],
];

/**
 * @param hiddenSize D, for files without a head dim
 * @param warnings gets those about what is only assumed
 * @throws FormatError that names the key: heads missing, a list of the wrong length, a head dim that is not
 *   whole
 * @returns the layers, and the largest N
 */
export function layerShapes(
  keys: KeyReader,
  modelType: string,
  hiddenSize: number,
  numLayers: number,
  warnings: string[],
): { readonly numHeads: number; readonly layers: LayerShape[] } {
  const facts = familyFacts(modelType);
  const kinds = layerKinds(keys, modelType, numLayers, warnings);
  const isList = (names: readonly string[]) => keys.list(keys.find(names) ?? names[0]) !== undefined;
  const counts = isList(HEADS) ? keys.perLayer(numLayers, ...HEADS) : undefined;
  const groups = isList(KEY_VALUE_HEADS) ? keys.perLayer(numLayers, ...KEY_VALUE_HEADS) : undefined;
  if (counts === undefined) keys.needInt(...HEADS);
  const blocks = blockConfigs(keys, numLayers, warnings);
  const overrides = kinds.map(
    ({ kind }, i): Overrides => ({
      ...(counts !== undefined && { num_attention_heads_per_layer: counts[i] }),
      ...(groups !== undefined && { num_key_value_heads_per_layer: groups[i] }),
      ...(kind === 'sliding' && slidingOverrides(keys, facts)),
      ...(kind === 'full' && fullOverrides(keys, facts)),
      ...blocks?.[i],
      ...perLayerConfig(keys, i),
    }),
  );
  const indexed = indexedLayers(keys, modelType, kinds, warnings);
  const firstShared = numLayers - (keys.count('num_kv_shared_layers') ?? 0);
  const heads = kinds.map((layer, i): HeadShape | undefined => {
    const own = keys.with(overrides[i]);
    const numHeads = own.count(...HEADS) ?? 0;
    if (layer.kind === 'linear' || numHeads === 0 || overrides[i].noCache === true) return undefined;
    return { numHeads, ...headShape(own, facts, hiddenSize, numHeads) };
  });
  const numHeads = heads.reduce((most, own) => Math.max(most, own?.numHeads ?? 0), 0);
  const layers = heads.map((own, i): LayerShape => {
    if (own === undefined) return { kind: 'linear', numKeyValueHeads: 0, keyHeadDim: 0, valueHeadDim: 0 };
    const { kind, window } = kinds[i];
    const { numHeads: N, ...shape } = own;
    return {
      kind: i >= firstShared ? 'shared' : own.latent !== undefined && kind === 'full' ? 'latent' : kind,
      ...(N !== numHeads && { numHeads: N }),
      ...shape,
      ...(kind === 'full' && keys.flag('attention_k_eq_v') === true && { keysAreValues: true as const }),
      ...(window !== undefined && { window }),
      ...(indexed[i] && { indexKeyDim: keys.needInt('index_head_dim', 'indexer_head_dim') }),
    };
  });
  return { numHeads: numHeads || Math.max(...(counts ?? [0])), layers };
}

function headShape(keys: KeyReader, facts: FamilyFacts, hiddenSize: number, numHeads: number) {
  const rank = keys.int('kv_lora_rank');
  if (rank !== undefined) return latentShape(keys, numHeads, rank);
  let keyHeadDim = keys.int('head_dim', 'attention_head_dim', 'd_kv', 'dim_head');
  if (!facts.doubleWidth) keyHeadDim ??= keys.int('kv_channels');
  if (keyHeadDim === undefined) {
    const width = keys.int('attention_hidden_size') ?? (facts.doubleWidth ? 2 : 1) * hiddenSize;
    if (width % numHeads !== 0) {
      const expected = `expected a divisor of ${keys.find(HIDDEN)} ${hiddenSize} without head_dim`;
      throw keys.fail(keys.find(HEADS) ?? HEADS[1], `${expected}, got ${numHeads}`);
    }
    keyHeadDim = width / numHeads;
  }
  const valueHeadDim = keys.int('v_head_dim') ?? keyHeadDim;
  const stated = keys.int(...KEY_VALUE_HEADS);
  const numKeyValueHeads = facts.keyValueHeads?.(keys, stated, numHeads) ?? stated ?? numHeads;
  return { numKeyValueHeads, keyHeadDim, valueHeadDim };
}

/** MLA: the latent row expands to N heads of nope + rope dims. `head_dim` of such files is something else. */
function latentShape(keys: KeyReader, numHeads: number, rank: number) {
  // In models without positions it is 0.
  const ropeDim = keys.count('qk_rope_head_dim') ?? keys.needInt('qk_rope_head_dim');
  return {
    numKeyValueHeads: numHeads,
    keyHeadDim: keys.needInt('qk_nope_head_dim') + ropeDim,
    valueHeadDim: keys.needInt('v_head_dim'),
    latent: { rank, ropeDim, ...queryRank(keys.int('q_lora_rank')) },
  };
}

function queryRank(rank: number | undefined) {
  return rank === undefined ? {} : { queryRank: rank };
}

/** Keys with other values in sliding layers. */
function slidingOverrides(keys: KeyReader, facts: FamilyFacts): Overrides {
  const own: Record<string, unknown> = { ...facts.slidingHeads };
  for (const name of SLIDING) {
    const value = keys.raw(`swa_${name}`);
    if (value !== undefined) own[name] = value;
  }
  const factor = facts.slidingKeyValueFactor;
  if (factor !== undefined && own.num_key_value_heads === undefined) {
    own.num_key_value_heads = factor * keys.needInt(...KEY_VALUE_HEADS);
  }
  // Step 3.5: N, K (as num_attention_groups) and H of sliding layers.
  const other = keys.raw('attention_other_setting') as Overrides | undefined;
  if (other !== undefined) {
    for (const name of ['num_attention_heads', 'num_attention_groups', 'head_dim'])
      if (other[name] !== undefined) own[name] = other[name];
  }
  const heads = keys.int('num_sliding_attention_heads');
  return heads === undefined ? own : { ...own, num_attention_heads: heads };
}

/** Keys with other values in full layers (Gemma 4). */
function fullOverrides(keys: KeyReader, facts: FamilyFacts): Overrides {
  const dim = keys.int('global_head_dim') ?? facts.fullHeadDim;
  const K = keys.flag('attention_k_eq_v') === true ? keys.int('num_global_key_value_heads') : undefined;
  return { ...(dim !== undefined && { head_dim: dim }), ...(K !== undefined && { num_key_value_heads: K }) };
}

/** Overrides of one layer as transformers writes them: by its index, such as `5` or `05`. */
function perLayerConfig(keys: KeyReader, layer: number): Overrides | undefined {
  const all = keys.raw('per_layer_config') as Readonly<Record<string, Overrides>> | undefined;
  return all?.[layer] ?? all?.[String(layer).padStart(2, '0')];
}

/** nemotron-nas: K or the group size of each layer, which may have no attention. */
function blockConfigs(
  keys: KeyReader,
  numLayers: number,
  warnings: string[],
): readonly Overrides[] | undefined {
  const blocks = keys.list('block_configs') as readonly { attention?: Overrides | null }[] | undefined;
  if (blocks === undefined) return undefined;
  if (blocks.length < numLayers) {
    throw keys.fail('block_configs', `expected ${numLayers} layers, got ${blocks.length}`);
  }
  const numHeads = keys.needInt(...HEADS);
  let windowed = 0;
  const overrides = blocks.slice(0, numLayers).map((block, i): Overrides => {
    const attention = block?.attention;
    if (attention == null || attention.no_op === true || attention.replace_with_linear === true) {
      return { noCache: true };
    }
    if (attention.window_length != null) windowed++;
    const { num_key_value_heads: K, n_heads_in_group: size } = attention;
    if (K != null) return { num_key_value_heads_per_layer: K };
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 1 || numHeads % size !== 0) {
      const expected = `expected an n_heads_in_group that divides N=${numHeads} in layer ${i}`;
      throw keys.fail('block_configs', `${expected}, got ${show(size)}`);
    }
    return { num_key_value_heads_per_layer: numHeads / size };
  });
  if (windowed > 0) warnings.push(`the windows of ${windowed} layers in block_configs are not counted`);
  return overrides;
}

/**
 * Which layers cache a key of an indexer: those that the file lists, or with latent attention every full one.
 */
function indexedLayers(
  keys: KeyReader,
  modelType: string,
  kinds: readonly KindOfLayer[],
  warnings: string[],
): readonly boolean[] {
  const facts = familyFacts(modelType);
  if (keys.find(['index_head_dim', 'indexer_head_dim']) === undefined || keys.flag('use_dsa') === false) {
    return kinds.map(() => false);
  }
  const named = kinds.some((layer) => layer.indexed === true);
  // MiniMax M3.
  const sparse = keys.raw('sparse_attention_config') as { sparse_attention_freq?: unknown[] } | undefined;
  const listed = sparse?.sparse_attention_freq;
  const mla = keys.has('kv_lora_rank') || keys.has('indexer_head_dim');
  if (!named && listed === undefined && !mla && !keys.has('layer_types') && facts.indexerListed !== true) {
    warnings.push(`which layers have an indexer is not known for ${modelType}: its keys are not counted`);
  }
  const types = keys.list('indexer_types') ?? indexerPattern(keys);
  const frequency = keys.int('index_topk_freq') ?? facts.indexerPeriod ?? 1;
  const offset = keys.count('index_skip_topk_offset') ?? 2;
  return kinds.map((layer, i) => {
    if (layer.kind !== 'full') return false;
    if (named ? layer.indexed !== true : listed !== undefined ? !listed[i] : !mla) return false;
    // A `shared` layer uses the choice of the layer before it.
    if (types !== undefined) return types[i] !== 'shared' && types[i] !== 'S';
    return Math.max(i - offset + 1, 0) % frequency === 0;
  });
}

function indexerPattern(keys: KeyReader): readonly unknown[] | undefined {
  const pattern = keys.raw('index_topk_pattern');
  return typeof pattern === 'string' ? [...pattern] : keys.list('index_topk_pattern');
}
