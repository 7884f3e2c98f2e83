/**
 * Which layers of a Hugging Face model see everything, which slide, which keep no cache. Newer files list it in
 * `layer_types`; older ones leave it to the model's code, so those rules stand here, family by family.
 *
 * Source: the configuration_*.py files of transformers 5.23.0 (`__post_init__`); nemotron-nas: the repository's own
 * block_config.py (`block_configs`).
 */
import { show } from '../arguments/kinds.ts';
import type { KeyReader } from './key-reader.ts';

export interface KindOfLayer {
  readonly kind: 'full' | 'sliding' | 'linear';
  /** Keys seen, the query's own included; on sliding layers. */
  readonly window?: number;
  /** The file says that an indexer chooses the keys. */
  readonly indexed?: true;
}

type Kind = KindOfLayer['kind'];

const FULL: KindOfLayer = { kind: 'full' };
const LINEAR: KindOfLayer = { kind: 'linear' };

interface Rule {
  /** The kind of layer i of n. */
  readonly layer: (i: number, n: number, period: number) => Kind;
  /** The period when the file does not say, and the key that says it. */
  readonly period: number;
  readonly key?: string;
  /** Keys seen when the file does not say. */
  readonly window?: number;
}

/** Full in the last layer of each period. */
const lastOf = (period: number, rule: Partial<Rule> = {}, other: Kind = 'sliding'): Rule => ({
  layer: (i, _, every) => ((i + 1) % every === 0 ? 'full' : other),
  period,
  ...rule,
});

/** Full in the first layer of each period. */
const firstOf = (period: number, rule: Partial<Rule> = {}, other: Kind = 'sliding'): Rule => ({
  layer: (i, _, every) => (i % every === 0 ? 'full' : other),
  period,
  ...rule,
});

const endsFull: Rule['layer'] = (i, n, every) => (i === n - 1 || (i + 1) % every === 0 ? 'full' : 'sliding');
const everywhere = (kind: Kind): Rule => ({ layer: () => kind, period: 1 });

/** The families whose files may leave the kinds of their layers out. */
const RULES: Readonly<Record<string, Rule>> = {
  gemma2: lastOf(2, { window: 4096 }),
  gemma3_text: lastOf(6, { window: 4096 }),
  gemma3n_text: lastOf(5, { window: 512 }),
  gemma4_text: lastOf(6, { window: 512, layer: endsFull }),
  gemma4_unified_text: lastOf(6, { window: 1024, layer: endsFull }),
  vaultgemma: lastOf(2),
  beam: lastOf(6, { layer: endsFull }),
  cohere2: lastOf(4, { window: 4096 }),
  exaone4: lastOf(4, { window: 4096 }),
  exaone_moe: lastOf(4, { window: 4096 }),
  gpt_oss: lastOf(2, { window: 128 }),
  olmo3: lastOf(4, { window: 4096 }),
  afmoe: lastOf(4, { window: 1024, key: 'global_attn_every_n_layers' }),
  kolibri1: lastOf(5, { window: 513 }),
  cwm: firstOf(4, { window: 8192 }),
  granite_swa: firstOf(4, { window: 128 }),
  granitemoe_swa: firstOf(4, { window: 128 }),
  'modernbert-decoder': firstOf(3, { key: 'global_attn_every_n_layers' }),
  inkling_text: lastOf(6),
  inkling2_text: lastOf(6),
  mimo_v2_flash: lastOf(6, {
    layer: (i, _, every) => (i === 0 || (i + 1) % every === 0 ? 'full' : 'sliding'),
  }),
  muse_glimmer_text: lastOf(4, { layer: (i, n, every) => ((n - 1 - i) % every === 0 ? 'full' : 'sliding') }),
  flint: lastOf(4, {
    window: 513,
    layer: (i, n) => (i < 2 || i % 4 === 1 || i === n - 1 ? 'full' : 'sliding'),
  }),
  lfm3: lastOf(4, {
    window: 256,
    layer: (i) => (i % 4 === 2 ? 'full' : i % 4 === 0 && i > 0 ? 'sliding' : 'linear'),
  }),
  dots3_note_text: lastOf(4, { window: 512, layer: (i) => (i < 2 || i % 4 === 1 ? 'full' : 'sliding') }),
  laguna: everywhere('full'),
  mellum: everywhere('full'),
  qwen3_next: lastOf(4, { key: 'full_attention_interval' }, 'linear'),
  qwen3_5_text: lastOf(4, { key: 'full_attention_interval' }, 'linear'),
  qwen3_5_moe_text: lastOf(4, { key: 'full_attention_interval' }, 'linear'),
  qwen4_exp_text: lastOf(4, { key: 'full_attention_interval' }, 'linear'),
  olmo_hybrid: lastOf(4, {}, 'linear'),
  bailing_hybrid: lastOf(6, { key: 'layer_group_size' }, 'linear'),
  minimax: firstOf(2, {}, 'linear'),
  kimi_linear: firstOf(4, { layer: (i) => (i > 0 && i % 4 === 0 ? 'full' : 'linear') }, 'linear'),
  zamba2: lastOf(6, {
    layer: (i) => ([6, 12, 18, 24, 30, 36, 42, 47, 51].includes(i) ? 'full' : 'linear'),
  }),
};

/** Families that slide in every layer where their file has a window, as in the configs and code of transformers. */
const SLIDES_EVERYWHERE = /^(mixtral|ministral|ministral3|phimoe|phi4_multimodal|internlm2|doge|zaya)$/;

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

/** Families without windows in transformers, whatever their file says of them. */
const NEVER_SLIDES = /^(llama|falcon|RefinedWeb(Model)?|gpt2|gpt_bigcode|deepseek_v[23])$/;

/** Those that slide in every layer when there is a window: they read no other key about it. (Mistral: without `layer_types`.) */
const ALWAYS_SLIDES = /^(mistral|phi3|starcoder2)$/;

/** Those whose list of sliding layers is fixed where `layer_types` is absent. */
const FIXED_PERIOD = /^(gemma2|gpt_oss)$/;

/** Those that have layers with a window in any case. */
const NEEDS_WINDOW = /^(gemma2|gemma3_text|gpt_oss)$/;

/** Those that have `use_sliding_window`, by default false, and then slide from layer `max_window_layers` on. */
const SWITCHED = /^qwen[23]/;

/** Caches of another kind, or none, which the rules below would take for plain attention. */
const UNKNOWN = /^(deepseek_v4|recurrent_gemma|mamba|mamba2|falcon_mamba|rwkv.*|xlstm)$/;

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
  if (UNKNOWN.test(modelType)) {
    throw keys.fail('model_type', `expected a family whose cache is known here, got ${modelType}`);
  }
  const byIndex = (kindOf: (i: number) => KindOfLayer) =>
    Array.from({ length: numLayers }, (_, i) => kindOf(i));
  const listed = keys.find(['layer_types', 'layers_block_type']);
  const never = NEVER_SLIDES.test(modelType);
  const spans = never ? undefined : windows(keys, modelType, numLayers);
  const slide = (i: number): KindOfLayer => {
    const window = spans?.[i % spans.length];
    return window === undefined || window === 0 ? FULL : { kind: 'sliding', window };
  };
  const kindOf = (kind: Kind, i: number) => (kind === 'full' ? FULL : kind === 'linear' ? LINEAR : slide(i));

  if (never || (ALWAYS_SLIDES.test(modelType) && (listed === undefined || modelType !== 'mistral'))) {
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
  const stated = statedKinds(keys, modelType, numLayers);
  if (stated !== undefined) return byIndex((i) => kindOf(stated[i], i));

  const attentionPeriod = keys.int('attn_layer_period');
  if (attentionPeriod !== undefined) {
    const offset = keys.perLayer(1, 'attn_layer_offset')?.[0] ?? 0;
    return byIndex((i) => (i % attentionPeriod === offset ? FULL : LINEAR));
  }
  if (modelType === 'cohere2_moe') return cohere2Moe(keys, numLayers, slide);
  const rule = Object.hasOwn(RULES, modelType) ? RULES[modelType] : undefined;
  if (spans === undefined && NEEDS_WINDOW.test(modelType)) throw noWindow(keys);
  const pattern = FIXED_PERIOD.test(modelType) ? undefined : keys.raw('sliding_window_pattern');
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
  if (SWITCHED.test(modelType) || modelType === 'dots1') {
    const first = keys.perLayer(1, 'max_window_layers')?.[0] ?? 28;
    return byIndex((i) => (i >= first ? slide(i) : FULL));
  }
  if (!SLIDES_EVERYWHERE.test(modelType) && keys.list('sliding_window') === undefined) {
    warn(
      `which layers slide is not known for ${modelType}: every layer is taken to slide over ${spans[0]} tokens`,
    );
  }
  return byIndex(slide);
}

/** Keys seen by a sliding layer: one number, or one per layer with 0 for a full one; undefined when the window is off or absent. */
function windows(keys: KeyReader, modelType: string, numLayers: number): readonly number[] | undefined {
  const ignoresSwitch =
    ALWAYS_SLIDES.test(modelType) || (Object.hasOwn(RULES, modelType) && modelType !== 'dots3_note_text');
  const on = ignoresSwitch || (keys.flag('use_sliding_window') ?? !SWITCHED.test(modelType));
  // These transformers classes turn another key into the window: MiMo counts the tokens before the query, ModernBERT both sides.
  const before = keys.int('sliding_window_size');
  const both = keys.int('local_attention');
  if (!on) return undefined;
  if (modelType === 'llama4_text') return [keys.int('attention_chunk_size') ?? 8192];
  if (/^mimo_v2/.test(modelType) && before !== undefined) return [before + 1];
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
  const found = window ?? (Object.hasOwn(RULES, modelType) ? RULES[modelType].window : undefined);
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
function statedKinds(keys: KeyReader, modelType: string, numLayers: number): readonly Kind[] | undefined {
  const byIndex = (kindOf: (i: number) => Kind) => Array.from({ length: numLayers }, (_, i) => kindOf(i));
  const softmax = keys.perLayer(numLayers, 'attn_type_list');
  if (softmax !== undefined) return softmax.map((flag) => (flag === 0 ? 'linear' : 'full'));
  // MiMo v2; 0 is a full layer.
  const slides = /^mimo_v2/.test(modelType) ? keys.perLayer(numLayers, 'hybrid_layer_pattern') : undefined;
  if (slides !== undefined) return slides.map((flag) => (flag === 0 ? 'full' : 'sliding'));
  const full = listedFullLayers(keys);
  if (full !== undefined) return byIndex((i) => (full.has(i) ? 'full' : 'linear'));
  const local = keys.list('local_layer_ids');
  if (local !== undefined) return byIndex((i) => (local.includes(i) ? 'sliding' : 'full'));
  if (modelType === 'zamba') {
    const period = keys.int('attn_layer_period') ?? 6;
    const offset = keys.perLayer(1, 'attn_layer_offset')?.[0] ?? 4;
    return byIndex((i) => (i === 2 || (i > 2 && (i - 3) % period === offset) ? 'full' : 'linear'));
  }
  if (modelType === 'llama4_text') {
    // Layers with positions see one chunk.
    const interval = keys.int('no_rope_layer_interval') ?? 4;
    const listed = keys.list('no_rope_layers') ?? [];
    return byIndex((i) =>
      (listed.length > 0 ? listed[i] === 1 : (i + 1) % interval !== 0) ? 'sliding' : 'full',
    );
  }
  return undefined;
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

/** The dense layers at the front have a pattern of their own. */
function cohere2Moe(
  keys: KeyReader,
  numLayers: number,
  slide: (layer: number) => KindOfLayer,
): readonly KindOfLayer[] {
  const dense = keys.perLayer(1, 'first_k_dense_replace')?.[0] ?? 0;
  const front = keys.int('prefix_dense_sliding_window_pattern') ?? 1;
  const rest = keys.int('sliding_window_pattern') ?? 4;
  return Array.from({ length: numLayers }, (_, i) => {
    const full = i < dense ? (i + 1) % front === 0 : (i - dense + 1) % rest === 0;
    return full ? FULL : slide(i);
  });
}
