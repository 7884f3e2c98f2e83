/**
 * What a reader of shapes must know of a family beside its file: what the file may leave to the family's code, and what runtimes
 * do with it. `families.ts` has one row of these facts per family. A fact that is absent means the common case.
 */
import type { KeyReader } from './key-reader.ts';

/** What a layer caches: every token, those of a window, or a state of fixed size. */
export type Kind = 'full' | 'sliding' | 'linear';

/** Which layers see everything, by their number. */
export interface LayerRule {
  /** The kind of layer i of n. */
  readonly layer: (i: number, n: number, period: number) => Kind;
  /** The period where the file does not say. */
  readonly period: number;
  /** The key of the period, besides `sliding_window_pattern`. */
  readonly key?: string;
  /** Whether the period is the same whatever `sliding_window_pattern` says. */
  readonly fixedPeriod?: true;
  /** Keys seen where the file does not say. */
  readonly window?: number;
  /** Keys seen whatever the file says, unless it says 0; in GGUF. */
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
  /** The class's defaults that released files rely on. */
  readonly defaults?: Keys;
  /** As `defaults`, for the nested config of a multimodal file: a flat file without its heads is damaged, or another program's. */
  readonly nestedDefaults?: Keys;
  /** Files have a list of layers where others have their number. */
  readonly countedByList?: true;
  /** The cache is of a kind not known here, or there is none. */
  readonly otherCache?: true;

  /**
   * Which layers slide where the file has a window and no list or period of layers. `never`: none, whatever the file says.
   * `always`: all, whatever else it says. `unlisted`: all, unless it has `layer_types`. `all`: all, unless another key says which.
   * `switched`: those from `max_window_layers` on, if `use_sliding_window` is true. `late`: the same, unless it is false.
   * Absent: not known; the reader takes all and warns.
   */
  readonly slides?: 'never' | 'always' | 'unlisted' | 'all' | 'switched' | 'late';
  /** The kinds of the layers by their number, where the file does not list them. */
  readonly layers?: LayerRule;
  /** The kinds of the layers from keys that only this family has; undefined when they are absent. */
  readonly kindsFromKeys?: (keys: KeyReader, numLayers: number) => readonly Kind[] | undefined;
  /** The window from keys that only this family has; undefined when they are absent. */
  readonly windowFromKeys?: (keys: KeyReader) => number | undefined;

  /** K, where more than one key says it. */
  readonly keyValueHeads?: (keys: KeyReader, stated: number | undefined, numHeads: number) => number;
  /** Attention reads two rows of D side by side, and `kv_channels` is not its head dim. */
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
  /** llama.cpp keeps only the window of its sliding layers; a number: only in the model with so many layers. */
  readonly slidesInLlamaCpp?: true | number;
  /** transformers caches K and V of more than one head repeated to all N. */
  readonly cachesAllHeads?: true;
  /** What its GGUF files leave to llama.cpp. */
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
