/**
 * The facts about a family of models that its files leave out and that sizes depend on, and what runtimes do with the
 * family. `families.ts` has one row of them per family. An absent fact means the common case.
 */
import type { KeyReader } from './key-reader.ts';

/** What a layer caches: every token, those of a window, or a state of fixed size. */
export type Kind = 'full' | 'sliding' | 'linear';

/** The kind of each layer, by its index. */
export interface LayerRule {
  /** The kind of layer i of n. */
  readonly layer: (i: number, n: number, period: number) => Kind;
  /** Default period. */
  readonly period: number;
  /** The key of the period, besides `sliding_window_pattern`. */
  readonly key?: string;
  /** Whether `sliding_window_pattern` is ignored. */
  readonly fixedPeriod?: true;
  /** Default window: the keys that a query sees, its own included. */
  readonly window?: number;
  /** In GGUF: the window, whatever number above 0 the file states. */
  readonly fixedWindow?: number;
  /** Whether a file without a window is an error. */
  readonly needsWindow?: true;
  /** Whether `use_sliding_window` counts. */
  readonly switched?: true;
}

/** Full in the last layer of each period. */
export function lastOf(period: number, rule: Partial<LayerRule> = {}, other: Kind = 'sliding'): LayerRule {
  return { layer: (i, _, every) => ((i + 1) % every === 0 ? 'full' : other), period, ...rule };
}

/** Full in the first layer of each period. */
export function firstOf(period: number, rule: Partial<LayerRule> = {}, other: Kind = 'sliding'): LayerRule {
  return { layer: (i, _, every) => (i % every === 0 ? 'full' : other), period, ...rule };
}

type Keys = Readonly<Record<string, unknown>>;

export interface FamilyFacts {
  /** `tie_word_embeddings` is true where the file leaves it out. */
  readonly tied?: true;
  /** The feed-forward is 4 D wide where the file does not say. */
  readonly fourfold?: true;
  /** Defaults of keys that released files leave out. */
  readonly defaults?: Keys;
  /** The same, only in the nested config of a multimodal file: other files state these keys. */
  readonly nestedDefaults?: Keys;
  /** The number of layers is the length of their list. */
  readonly countedByList?: true;
  /** The cache is of a kind not known here, or there is none. */
  readonly otherCache?: true;

  /**
   * Which layers slide where the file has a window and no list or period of layers:
   * - `never`: none, whatever the file says; `always`: all, whatever else it says
   * - `unlisted`: all, unless the file has `layer_types`; `all`: all, unless another key says which
   * - `switched`: those from `max_window_layers` on, if `use_sliding_window` is true; `late`: the same, unless it is false
   * - absent: not known; the reader takes all and warns
   */
  readonly slides?: 'never' | 'always' | 'unlisted' | 'all' | 'switched' | 'late';
  /** The kind of each layer, where the file does not list them. */
  readonly layers?: LayerRule;
  /** The kinds of the layers from keys that only this family has; undefined when they are absent. */
  readonly kindsFromKeys?: (keys: KeyReader, numLayers: number) => readonly Kind[] | undefined;
  /** The window from keys that only this family has; undefined when they are absent. */
  readonly windowFromKeys?: (keys: KeyReader) => number | undefined;

  /** K, where other keys than its own change it; `stated` is what its own says. */
  readonly keyValueHeads?: (keys: KeyReader, stated: number | undefined, numHeads: number) => number;
  /** Attention reads rows of 2 D, and `kv_channels` is not its head dim. */
  readonly doubleWidth?: true;
  /** Heads of the sliding layers where no `swa_` key says them. */
  readonly slidingHeads?: Keys;
  /** K of the sliding layers, as a multiple of the others', where no `swa_` key says it. */
  readonly slidingKeyValueFactor?: number;
  /** H of the full layers where `global_head_dim` is absent. */
  readonly fullHeadDim?: number;
  /** One layer in so many has an indexer where `index_topk_freq` is absent. */
  readonly indexerPeriod?: number;
  /** The file lists the layers with an indexer, or none has one. */
  readonly indexerListed?: true;
  /** Keys that look like attention's and do not change the cache of this family. */
  readonly otherKeys?: readonly string[];

  /** The class of its tokenizer where the tokenizer's config has none. */
  readonly tokenizerClass?: string;
  /** In llama.cpp sliding layers cache only their window; a number: only in the model with so many layers. */
  readonly slidesInLlamaCpp?: true | number;
  /** transformers repeats K > 1 heads to all N before it caches them. */
  readonly cachesAllHeads?: true;
  /** What its GGUF files leave out. */
  readonly gguf?: GgufFacts;
}

export interface GgufFacts {
  /** The cache is of a kind not known here. */
  readonly otherCache?: true;
  /** The layers that slide where the file does not list them. */
  readonly layers?: LayerRule;
  /** One layer in so many has attention, the last of them; the others keep a state. */
  readonly attentionPeriod?: number;
  /** Layers with a cache of their own where the file does not say how many share one. */
  readonly ownCaches?: number;
  /** `nextn_predict_layers` counts layers that a pass goes through. */
  readonly draftsInPass?: true;
  /** Which layers have an indexer where the file does not list them; undefined: all. */
  readonly indexer?: (keys: KeyReader) => ((layer: number) => boolean) | undefined;
  /** Tokens stand in the order of their merges, and those of nothing but spaces have spaces, not ▁. */
  readonly tokensInMergeOrder?: true;
  /** Added tokens take the spaces behind them, which the header cannot say. */
  readonly addedTokensTakeSpaces?: true;
}
