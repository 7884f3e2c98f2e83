/**
 * Which layers of a Hugging Face model attend to every token, which to a window, and which have no KV cache.
 * Newer files list this in `layer_types`. For older ones it is only in the model's code, whose rules are in
 * `families.ts`.
 *
 * Source: the configuration_*.py files of transformers 5.23.0 (`__post_init__`).
 */
import { show } from '../arguments/kinds.ts';
import { familyFacts } from './families.ts';
import { byLayer, type FamilyFacts, type Kind } from './family-facts.ts';
import type { KeyReader } from './key-reader.ts';

export interface KindOfLayer {
  readonly kind: Kind;
  /** Keys that a query sees, its own included; on sliding and chunked layers. */
  readonly window?: number;
  /** Whether an indexer chooses the keys. */
  readonly indexed?: true;
}

/** The kind of a layer before its window is known. `indexed`: full. */
type NamedKind = Kind | 'indexed';

/** The names in `layer_types`. `hybrid` layers have attention besides a state. */
const NAMED: Readonly<Record<string, NamedKind>> = {
  full_attention: 'full',
  attention: 'full',
  multihead_attention: 'full',
  hybrid: 'full',
  indexed_attention: 'indexed',
  minimax_m3_sparse: 'indexed',
  sliding_attention: 'sliding',
  hybrid_sliding: 'sliding',
  chunked_attention: 'chunked',
  linear_attention: 'linear',
  mamba: 'linear',
  mamba2: 'linear',
  conv: 'linear',
  recurrent: 'linear',
  mlp: 'linear',
  moe: 'linear',
};

/** Lists with one entry per layer. */
const LISTS = ['layers_block_type', 'layer_types', 'block_configs'];

/**
 * The number of layers by the list of their kinds; undefined without one. Nemotron-H files state it only so.
 */
export function listedLayers(keys: KeyReader): number | undefined {
  const pattern = keys.raw('hybrid_override_pattern');
  const lists = [...LISTS.map((key) => keys.list(key)), typeof pattern === 'string' ? pattern : ''];
  return lists.find((list) => list !== undefined && list.length > 0)?.length;
}

/**
 * The kind of each decoder layer.
 * @param keys of the text model's config
 * @param modelType its `model_type`
 * @param numLayers length of the result
 * @param warnings gets one where kinds are only assumed
 * @throws FormatError for a family whose cache is not supported, for a `layer_types` of another length or
 *   with an unknown name
 */
export function layerKinds(
  keys: KeyReader,
  modelType: string,
  numLayers: number,
  warnings: string[],
): readonly KindOfLayer[] {
  const facts = familyFacts(modelType);
  if (facts.otherCache === true) {
    throw keys.fail('model_type', `expected a family whose cache is supported, got ${modelType}`);
  }
  const spans = facts.slides === 'never' ? undefined : windows(keys, facts, numLayers);
  return namedKinds(keys, modelType, numLayers, spans, warnings).map((kind, i): KindOfLayer => {
    if (kind === 'indexed') return { kind: 'full', indexed: true };
    if (kind !== 'sliding' && kind !== 'chunked') return { kind };
    const chunk = kind === 'chunked' ? keys.int('attention_chunk_size') : undefined;
    const window = chunk ?? spans?.[i % spans.length];
    if (kind === 'chunked' && window === undefined) keys.needInt('attention_chunk_size');
    return window ? { kind, window } : { kind: 'full' };
  });
}

function namedKinds(
  keys: KeyReader,
  modelType: string,
  numLayers: number,
  spans: readonly number[] | undefined,
  warnings: string[],
): readonly NamedKind[] {
  const facts = familyFacts(modelType);
  const { slides, layers: rule } = facts;
  const kinds = (kindOf: (i: number) => Kind) => byLayer(numLayers, kindOf);
  const allSlide = () => kinds(() => 'sliding');
  const listKey = keys.find(['layer_types', 'layers_block_type']);
  if (slides === 'never' || slides === 'always' || (slides === 'unlisted' && listKey === undefined)) {
    // Checked as in transformers, but not used.
    if (listKey !== undefined) listedKinds(keys, listKey, numLayers);
    return allSlide();
  }
  // The cache of these layers holds the vision tokens: a fixed number of rows.
  const cross = keys.list('cross_attention_layers') ?? [];
  if (cross.length > 0) return kinds((i) => (cross.includes(i) ? 'linear' : 'full'));
  if (listKey !== undefined) {
    const listed = listedKinds(keys, listKey, numLayers);
    if (listed.includes('sliding') && spans === undefined) throw noWindow(keys);
    return listed;
  }
  const stated = statedKinds(keys, numLayers) ?? facts.kindsFromKeys?.(keys, numLayers);
  if (stated !== undefined) return stated;

  const attentionPeriod = keys.int('attn_layer_period');
  if (attentionPeriod !== undefined) {
    const offset = keys.count('attn_layer_offset') ?? 0;
    return kinds((i) => (i % attentionPeriod === offset ? 'full' : 'linear'));
  }
  if (spans === undefined && rule?.needsWindow === true) throw noWindow(keys);
  const pattern = rule?.fixedPeriod === true ? undefined : keys.raw('sliding_window_pattern');
  if (typeof pattern === 'string' && /^[LG]+$/.test(pattern)) {
    return kinds((i) => (i === numLayers - 1 || pattern[i % pattern.length] === 'G' ? 'full' : 'sliding'));
  }
  if (pattern !== undefined && (!Number.isSafeInteger(pattern) || (pattern as number) < 1)) {
    const got = show(pattern);
    throw keys.fail('sliding_window_pattern', `expected a period >= 1 or a string of L and G, got ${got}`);
  }
  if (rule !== undefined) {
    const period = (rule.key && keys.int(rule.key)) || (pattern as number | undefined) || rule.period;
    return kinds((i) => rule.layer(i, numLayers, period));
  }
  const interval = keys.int('full_attention_interval');
  if (interval !== undefined) return kinds((i) => ((i + 1) % interval === 0 ? 'full' : 'linear'));
  if (pattern !== undefined) return kinds((i) => ((i + 1) % (pattern as number) === 0 ? 'full' : 'sliding'));
  if (spans !== undefined && (slides === 'switched' || slides === 'late')) {
    const first = keys.count('max_window_layers') ?? 28;
    return kinds((i) => (i >= first ? 'sliding' : 'full'));
  }
  if (spans !== undefined && slides !== 'all' && keys.list('sliding_window') === undefined) {
    const assumed = `every layer is assumed to slide over ${spans[0]} tokens`;
    warnings.push(`which layers slide is not known for ${modelType}: ${assumed}`);
  }
  return allSlide();
}

/**
 * Keys that a sliding layer sees: one number, or one per layer with 0 for a full one; undefined when the
 * window is off or absent.
 */
function windows(keys: KeyReader, facts: FamilyFacts, numLayers: number): readonly number[] | undefined {
  const { slides, layers: rule } = facts;
  const ignoresSwitch =
    slides === 'always' || slides === 'unlisted' || (rule !== undefined && rule.switched !== true);
  const on = ignoresSwitch || (keys.flag('use_sliding_window') ?? slides !== 'switched');
  // Some classes of transformers have another key for the window; ModernBERT's counts both sides.
  const before = keys.int('sliding_window_size');
  const both = keys.int('local_attention');
  if (!on) return undefined;
  const own = facts.windowFromKeys?.(keys);
  if (own !== undefined) return [own];
  const list = keys.list('sliding_window');
  if (list !== undefined) {
    if (list.length === 0 || numLayers % list.length !== 0) {
      const expected = `expected a window per layer (${numLayers}, or a part that repeats)`;
      throw keys.fail('sliding_window', `${expected}, got ${list.length}`);
    }
    return list.map((window) => {
      if (window === null) return 0;
      if (typeof window === 'number' && Number.isSafeInteger(window) && window >= 0) return window;
      throw keys.fail('sliding_window', `expected windows as integers >= 0 or null, got ${show(window)}`);
    });
  }
  if (keys.isNull('sliding_window')) return undefined;
  const window = keys.count('sliding_window') ?? before ?? (both && both >> 1);
  const found = window ?? rule?.window;
  return found ? [found] : undefined;
}

function listedKinds(keys: KeyReader, key: string, numLayers: number): readonly NamedKind[] {
  const names = keys.list(key);
  // Some files list the layers that only draft tokens as well (Step 3.5).
  const drafts = keys.count('num_nextn_predict_layers') ?? 0;
  if (names === undefined || (names.length !== numLayers && names.length !== numLayers + drafts)) {
    throw keys.fail(key, `expected ${numLayers} names, one per layer, got ${names?.length ?? 'no list'}`);
  }
  return names.slice(0, numLayers).map((name, i) => {
    if (typeof name === 'string' && Object.hasOwn(NAMED, name)) return NAMED[name];
    throw keys.fail(key, `expected ${Object.keys(NAMED).join(', ')}, got ${show(name)} in layer ${i}`);
  });
}

/** As in transformers, which has no mask for such a layer. */
function noWindow(keys: KeyReader): Error {
  const off = keys.raw('use_sliding_window') === false ? ', switched off by use_sliding_window' : '';
  const got = `${show(keys.raw('sliding_window') ?? null)}${off}`;
  return keys.fail('sliding_window', `expected the window of the layers that slide, got ${got}`);
}

/** The kinds by other lists than `layer_types`; undefined without one. */
function statedKinds(keys: KeyReader, numLayers: number): readonly Kind[] | undefined {
  const softmax = keys.perLayer(numLayers, 'attn_type_list');
  if (softmax !== undefined) return softmax.map((flag) => (flag === 0 ? 'linear' : 'full'));
  const full = listedFullLayers(keys);
  if (full !== undefined) return byLayer(numLayers, (i) => (full.includes(i) ? 'full' : 'linear'));
  const local = keys.list('local_layer_ids');
  return local && byLayer(numLayers, (i) => (local.includes(i) ? 'sliding' : 'full'));
}

/** Indices of a hybrid model's attention layers, where the file lists them. */
function listedFullLayers(keys: KeyReader): readonly unknown[] | undefined {
  const indices = keys.list('attn_layer_indices') ?? keys.list('full_attn_idxs');
  if (indices !== undefined) return indices;
  // Nemotron-H: one letter per layer, M state space, - feed-forward, E experts, * attention.
  const pattern = keys.raw('hybrid_override_pattern');
  if (typeof pattern === 'string') return [...pattern].flatMap((letter, i) => (letter === '*' ? [i] : []));
  // Kimi Linear counts from 1.
  const linear = keys.raw('linear_attn_config') as { full_attn_layers?: unknown } | undefined;
  const list = linear?.full_attn_layers;
  return Array.isArray(list) ? list.map((layer) => layer - 1) : undefined;
}
