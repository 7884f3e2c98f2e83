/**
 * Which layers of a Hugging Face model see everything, which slide, which keep no cache. Newer files list it in
 * `layer_types`; older ones leave it to the model's code, so those rules stand here, family by family.
 *
 * Source: the configuration_*.py files of transformers 5.23.0 (`__post_init__`).
 */
import { type KeyReader, show } from './key-reader.ts';

export interface KindOfLayer {
  readonly kind: 'full' | 'sliding' | 'linear';
  /** Keys seen, the query's own included; on sliding layers. */
  readonly window?: number;
}

const FULL: KindOfLayer = { kind: 'full' };
const LINEAR: KindOfLayer = { kind: 'linear' };

/** Layer i is full when (i + 1) % period is 0 and slides otherwise; `window` when the file does not say. */
const PERIODS: Readonly<Record<string, { readonly period: number; readonly window: number }>> = {
  gemma2: { period: 2, window: 4096 },
  gemma3_text: { period: 6, window: 4096 },
  gemma3n_text: { period: 5, window: 512 },
  gemma4_text: { period: 6, window: 512 },
  cohere2: { period: 4, window: 4096 },
  exaone4: { period: 4, window: 4096 },
  gpt_oss: { period: 2, window: 128 },
  olmo3: { period: 4, window: 4096 },
};

/** As above with linear layers in place of sliding ones. */
const LINEAR_PERIODS: Readonly<Record<string, number>> = {
  qwen3_next: 4,
  qwen3_5_text: 4,
  qwen3_5_moe_text: 4,
  minimax: 2,
};

/** What a name in `layer_types` means for the cache. `hybrid` layers hold attention next to a state. */
const NAMED: Readonly<Record<string, 'full' | 'sliding' | 'chunked' | 'linear'>> = {
  full_attention: 'full',
  attention: 'full',
  multihead_attention: 'full',
  indexed_attention: 'full',
  hybrid: 'full',
  sliding_attention: 'sliding',
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

/** Caches of another kind, which the rules below would take for plain attention. */
const UNKNOWN = new Set(['deepseek_v4', 'recurrent_gemma']);

/**
 * The kind of each decoder layer.
 * @param keys of the text model's config
 * @param modelType its `model_type`
 * @param numLayers length of the result
 * @throws FormatError for a family whose cache is of another kind, for a `layer_types` of another length or with a name not known here
 */
export function layerKinds(keys: KeyReader, modelType: string, numLayers: number): readonly KindOfLayer[] {
  if (UNKNOWN.has(modelType)) {
    throw keys.fail('model_type', `expected a family whose cache is known here, got ${modelType}`);
  }
  const byIndex = (kindOf: (i: number) => KindOfLayer) =>
    Array.from({ length: numLayers }, (_, i) => kindOf(i));
  const listed = keys.find(['layer_types', 'layers_block_type']);
  const never = NEVER_SLIDES.test(modelType);
  const sliding = never ? undefined : slidingKind(keys, modelType);
  if (never || (ALWAYS_SLIDES.test(modelType) && (listed === undefined || modelType !== 'mistral'))) {
    if (listed !== undefined) namedKinds(keys, listed, numLayers, FULL); // checked, as in transformers, and not used
    return byIndex(() => sliding ?? FULL);
  }
  if (listed !== undefined) return namedKinds(keys, listed, numLayers, sliding);
  if (keys.has('attn_type_list')) {
    const softmax = keys.perLayer(numLayers, 'attn_type_list') ?? [];
    return byIndex((i) => (softmax[i] === 0 ? LINEAR : FULL));
  }
  const fullLayers = listedFullLayers(keys);
  if (fullLayers !== undefined) return byIndex((i) => (fullLayers.has(i) ? FULL : LINEAR));
  const linearPeriod = keys.int('full_attention_interval') ?? LINEAR_PERIODS[modelType];
  if (linearPeriod !== undefined) return byIndex((i) => ((i + 1) % linearPeriod === 0 ? FULL : LINEAR));
  const attentionPeriod = keys.int('attn_layer_period');
  if (attentionPeriod !== undefined) {
    const offset = keys.int('attn_layer_offset') ?? 0;
    return byIndex((i) => (i % attentionPeriod === offset ? FULL : LINEAR));
  }
  if (modelType === 'llama4_text') {
    const chunk: KindOfLayer = { kind: 'sliding', window: keys.int('attention_chunk_size') ?? 8192 };
    const interval = keys.int('no_rope_layer_interval') ?? 4;
    const rotated = (keys.list('no_rope_layers')?.length ?? 0) > 0 ? keys.list('no_rope_layers') : undefined;
    return byIndex((i) =>
      (rotated === undefined ? (i + 1) % interval !== 0 : rotated[i] === 1) ? chunk : FULL,
    );
  }
  const fixed = PERIODS[modelType]?.period;
  if (sliding === undefined) {
    if (NEEDS_WINDOW.test(modelType)) throw noWindow(keys);
    return byIndex(() => FULL);
  }
  const stated = FIXED_PERIOD.test(modelType) ? undefined : keys.raw('sliding_window_pattern');
  const pattern = stated ?? fixed;
  if (typeof pattern === 'string' && /^[LG]+$/.test(pattern)) {
    return byIndex((i) => (i === numLayers - 1 || pattern[i % pattern.length] === 'G' ? FULL : sliding));
  }
  if (pattern !== undefined) {
    if (!Number.isSafeInteger(pattern) || (pattern as number) < 1) {
      throw keys.fail(
        'sliding_window_pattern',
        `expected a period >= 1 or a string of L and G, got ${show(pattern)}`,
      );
    }
    return byIndex((i) => ((i + 1) % (pattern as number) === 0 ? FULL : sliding));
  }
  if (SWITCHED.test(modelType)) {
    const first = keys.perLayer(1, 'max_window_layers')?.[0] ?? 28;
    return byIndex((i) => (i >= first ? sliding : FULL));
  }
  return byIndex(() => sliding);
}

/** What a sliding layer is in this model; undefined when the window is switched off or not there. */
function slidingKind(keys: KeyReader, modelType: string): KindOfLayer | undefined {
  const ignoresSwitch = ALWAYS_SLIDES.test(modelType) || PERIODS[modelType] !== undefined;
  const on = ignoresSwitch || (keys.flag('use_sliding_window') ?? !SWITCHED.test(modelType));
  if (!on || keys.isNull('sliding_window')) return undefined;
  const window = keys.int('sliding_window') ?? PERIODS[modelType]?.window;
  return window === undefined ? undefined : { kind: 'sliding', window };
}

function namedKinds(
  keys: KeyReader,
  key: string,
  numLayers: number,
  sliding: KindOfLayer | undefined,
): readonly KindOfLayer[] {
  const names = keys.list(key);
  if (names?.length !== numLayers) {
    throw keys.fail(key, `expected ${numLayers} names, one per layer, got ${names?.length ?? 'no list'}`);
  }
  return names.map((name, i): KindOfLayer => {
    switch (typeof name === 'string' && Object.hasOwn(NAMED, name) ? NAMED[name] : undefined) {
      case 'full':
        return FULL;
      case 'sliding':
        if (sliding === undefined) throw noWindow(keys);
        return sliding;
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

/** The attention layers of a hybrid whose file lists them, counted from 0; undefined for other files. */
function listedFullLayers(keys: KeyReader): ReadonlySet<unknown> | undefined {
  const indices = keys.list('attn_layer_indices') ?? keys.list('full_attn_idxs');
  if (indices !== undefined) return new Set(indices);
  // Nemotron-H: one letter per layer, M state space, - feed-forward, * attention.
  const pattern = keys.raw('hybrid_override_pattern');
  if (typeof pattern === 'string')
    return new Set([...pattern].flatMap((letter, i) => (letter === '*' ? [i] : [])));
  // Kimi Linear counts from 1.
  const linear = keys.raw('linear_attn_config') as { full_attn_layers?: unknown } | undefined;
  const list = linear?.full_attn_layers;
  return Array.isArray(list) ? new Set(list.map((layer) => layer - 1)) : undefined;
}
