/**
 * Which layers of a Hugging Face model see everything, which slide, which keep no cache. Newer files list it in
 * `layer_types`; older ones leave it to the model's code, whose rules stand in `families.ts`.
 *
 * Source: the configuration_*.py files of transformers 5.23.0 (`__post_init__`).
 */
import { show } from '../arguments/kinds.ts';
import { familyFacts } from './families.ts';
import type { FamilyFacts, Kind } from './family-facts.ts';
import type { KeyReader } from './key-reader.ts';

export interface KindOfLayer {
  readonly kind: Kind;
  /** Keys seen, the query's own included; on sliding layers. */
  readonly window?: number;
  /** The file says that an indexer chooses the keys. */
  readonly indexed?: true;
}

const FULL: KindOfLayer = { kind: 'full' };
const LINEAR: KindOfLayer = { kind: 'linear' };

/** What a name in `layer_types` means for the cache. `hybrid` layers hold attention next to a state. */
const NAMED: Readonly<Record<string, Kind | 'indexed' | 'chunked'>> = {
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

/** Lists of layers by which a file without a number of layers says how many it has. */
const LISTS = ['layers_block_type', 'layer_types', 'block_configs'];

/** The number of layers from the list of their kinds; undefined when the file has none. Nemotron-H files have only this. */
export function listedLayers(keys: KeyReader): number | undefined {
  for (const key of LISTS) {
    const list = keys.list(key);
    if (list !== undefined && list.length > 0) return list.length;
  }
  const pattern = keys.raw('hybrid_override_pattern');
  return typeof pattern === 'string' && pattern.length > 0 ? pattern.length : undefined;
}

/**
 * The kind of each decoder layer.
 * @param keys of the text model's config
 * @param modelType its `model_type`
 * @param numLayers length of the result
 * @param warn takes what is only a guess
 * @throws FormatError for a family whose cache is of another kind, for a `layer_types` of another length or with a name not known here
 */
export function layerKinds(
  keys: KeyReader,
  modelType: string,
  numLayers: number,
  warn: (text: string) => void,
): readonly KindOfLayer[] {
  const facts = familyFacts(modelType);
  const { slides, layers: rule } = facts;
  if (facts.otherCache === true) {
    throw keys.fail('model_type', `expected a family whose cache is known here, got ${modelType}`);
  }
  const byIndex = (kindOf: (i: number) => KindOfLayer) =>
    Array.from({ length: numLayers }, (_, i) => kindOf(i));
  const listed = keys.find(['layer_types', 'layers_block_type']);
  const spans = slides === 'never' ? undefined : windows(keys, facts, numLayers);
  const slide = (i: number): KindOfLayer => {
    const window = spans?.[i % spans.length];
    return window === undefined || window === 0 ? FULL : { kind: 'sliding', window };
  };
  const kindOf = (kind: Kind, i: number) => (kind === 'full' ? FULL : kind === 'linear' ? LINEAR : slide(i));

  if (slides === 'never' || slides === 'always' || (slides === 'unlisted' && listed === undefined)) {
    if (listed !== undefined) namedKinds(keys, listed, numLayers, () => FULL); // checked, as in transformers, and not used
    return byIndex(slide);
  }
  // Layers whose cache is of the vision tokens: a fixed number of rows.
  const cross = new Set(keys.list('cross_attention_layers'));
  if (cross.size > 0) return byIndex((i) => (cross.has(i) ? LINEAR : FULL));
  if (listed !== undefined) {
    return namedKinds(keys, listed, numLayers, (i) => {
      if (spans === undefined) throw noWindow(keys);
      return slide(i);
    });
  }
  const stated = statedKinds(keys, numLayers) ?? facts.kindsFromKeys?.(keys, numLayers);
  if (stated !== undefined) return byIndex((i) => kindOf(stated[i], i));

  const attentionPeriod = keys.int('attn_layer_period');
  if (attentionPeriod !== undefined) {
    const offset = keys.perLayer(1, 'attn_layer_offset')?.[0] ?? 0;
    return byIndex((i) => (i % attentionPeriod === offset ? FULL : LINEAR));
  }
  if (spans === undefined && rule?.needsWindow === true) throw noWindow(keys);
  const pattern = rule?.fixedPeriod === true ? undefined : keys.raw('sliding_window_pattern');
  if (typeof pattern === 'string' && /^[LG]+$/.test(pattern)) {
    return byIndex((i) => (i === numLayers - 1 || pattern[i % pattern.length] === 'G' ? FULL : slide(i)));
  }
  if (pattern !== undefined && (!Number.isSafeInteger(pattern) || (pattern as number) < 1)) {
    throw keys.fail(
      'sliding_window_pattern',
      `expected a period >= 1 or a string of L and G, got ${show(pattern)}`,
    );
  }
  if (rule !== undefined) {
    const period = (rule.key && keys.int(rule.key)) || (pattern as number | undefined) || rule.period;
    return byIndex((i) => kindOf(rule.layer(i, numLayers, period), i));
  }
  const interval = keys.int('full_attention_interval');
  if (interval !== undefined) return byIndex((i) => ((i + 1) % interval === 0 ? FULL : LINEAR));
  if (spans === undefined) return byIndex(() => FULL);
  if (pattern !== undefined) return byIndex((i) => ((i + 1) % (pattern as number) === 0 ? FULL : slide(i)));
  if (slides === 'switched' || slides === 'late') {
    const first = keys.perLayer(1, 'max_window_layers')?.[0] ?? 28;
    return byIndex((i) => (i >= first ? slide(i) : FULL));
  }
  if (slides !== 'all' && keys.list('sliding_window') === undefined) {
    warn(
      `which layers slide is not known for ${modelType}: every layer is taken to slide over ${spans[0]} tokens`,
    );
  }
  return byIndex(slide);
}

/** Keys seen by a sliding layer: one number, or one per layer with 0 for a full one; undefined when the window is off or absent. */
function windows(keys: KeyReader, facts: FamilyFacts, numLayers: number): readonly number[] | undefined {
  const { slides, layers: rule } = facts;
  const ignoresSwitch =
    slides === 'always' || slides === 'unlisted' || (rule !== undefined && rule.switched !== true);
  const on = ignoresSwitch || (keys.flag('use_sliding_window') ?? slides !== 'switched');
  // Some classes of transformers turn another key into the window; ModernBERT's counts both sides.
  const before = keys.int('sliding_window_size');
  const both = keys.int('local_attention');
  if (!on) return undefined;
  const own = facts.windowFromKeys?.(keys);
  if (own !== undefined) return [own];
  const list = keys.list('sliding_window');
  if (list !== undefined) {
    if (list.length === 0 || numLayers % list.length !== 0) {
      throw keys.fail(
        'sliding_window',
        `expected a window per layer (${numLayers}, or a part that repeats), got ${list.length}`,
      );
    }
    return list.map((window) => {
      if (window === null) return 0;
      if (typeof window === 'number' && Number.isSafeInteger(window) && window >= 0) return window;
      throw keys.fail('sliding_window', `expected windows as integers >= 0 or null, got ${show(window)}`);
    });
  }
  if (keys.isNull('sliding_window')) return undefined;
  const window = keys.perLayer(1, 'sliding_window')?.[0] ?? before ?? (both && both >> 1);
  const found = window ?? rule?.window;
  return found === undefined || found === 0 ? undefined : [found];
}

function namedKinds(
  keys: KeyReader,
  key: string,
  numLayers: number,
  slide: (layer: number) => KindOfLayer,
): readonly KindOfLayer[] {
  const names = keys.list(key);
  // Some files list the layers that only draft tokens as well (Step 3.5).
  const drafts = keys.perLayer(1, 'num_nextn_predict_layers')?.[0] ?? 0;
  if (names === undefined || (names.length !== numLayers && names.length !== numLayers + drafts)) {
    throw keys.fail(key, `expected ${numLayers} names, one per layer, got ${names?.length ?? 'no list'}`);
  }
  return names.slice(0, numLayers).map((name, i): KindOfLayer => {
    switch (typeof name === 'string' && Object.hasOwn(NAMED, name) ? NAMED[name] : undefined) {
      case 'full':
        return FULL;
      case 'indexed':
        return { kind: 'full', indexed: true };
      case 'sliding':
        return slide(i);
      case 'chunked':
        return { kind: 'sliding', window: keys.needInt('attention_chunk_size') };
      case 'linear':
        return LINEAR;
      default:
        throw keys.fail(key, `expected ${Object.keys(NAMED).join(', ')}, got ${show(name)} in layer ${i}`);
    }
  });
}

/** As transformers, which has no mask for such a layer. */
function noWindow(keys: KeyReader): Error {
  const off = keys.raw('use_sliding_window') === false ? ', switched off by use_sliding_window' : '';
  return keys.fail(
    'sliding_window',
    `expected the window of the layers that slide, got ${show(keys.raw('sliding_window') ?? null)}${off}`,
  );
}

/** What files say of each layer without naming kinds; undefined for other files. */
function statedKinds(keys: KeyReader, numLayers: number): readonly Kind[] | undefined {
  const byIndex = (kindOf: (i: number) => Kind) => Array.from({ length: numLayers }, (_, i) => kindOf(i));
  const softmax = keys.perLayer(numLayers, 'attn_type_list');
  if (softmax !== undefined) return softmax.map((flag) => (flag === 0 ? 'linear' : 'full'));
  const full = listedFullLayers(keys);
  if (full !== undefined) return byIndex((i) => (full.has(i) ? 'full' : 'linear'));
  const local = keys.list('local_layer_ids');
  return local === undefined ? undefined : byIndex((i) => (local.includes(i) ? 'sliding' : 'full'));
}

/** The attention layers of a hybrid whose file lists them, counted from 0; undefined for other files. */
function listedFullLayers(keys: KeyReader): ReadonlySet<unknown> | undefined {
  const indices = keys.list('attn_layer_indices') ?? keys.list('full_attn_idxs');
  if (indices !== undefined) return new Set(indices);
  // Nemotron-H: one letter per layer, M state space, - feed-forward, E experts, * attention.
  const pattern = keys.raw('hybrid_override_pattern');
  if (typeof pattern === 'string')
    return new Set([...pattern].flatMap((letter, i) => (letter === '*' ? [i] : [])));
  // Kimi Linear counts from 1.
  const linear = keys.raw('linear_attn_config') as { full_attn_layers?: unknown } | undefined;
  const list = linear?.full_attn_layers;
  return Array.isArray(list) ? new Set(list.map((layer) => layer - 1)) : undefined;
}
