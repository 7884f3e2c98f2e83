/**
 * Facts about a family of models that its files do not state and that sizes depend on, and how runtimes cache
 * the family. `families.ts` has one row of them per family. An absent fact means the common case.
 */
import type { KeyReader } from './key-reader.ts';

/** What a layer caches: every token, the tokens of a window or a chunk, or a state of fixed size. */
export type Kind = 'full' | 'sliding' | 'chunked' | 'linear';

/** A list with one entry per layer. */
export function byLayer<T>(numLayers: number, of: (layer: number) => T): T[] {
  return Array.from({ length: numLayers }, (_, layer) => of(layer));
}

/** The kind of each layer as a function of its index. */
export interface LayerRule {
  /** The kind of layer i of n. */
  readonly layer: (i: number, n: number, period: number) => Kind;
  /** Default period. */
  readonly period: number;
  /** The key of the period, besides `sliding_window_pattern`. */
  readonly key?: string;
  /** `sliding_window_pattern` is not read. */
  readonly fixedPeriod?: true;
  /** Default window: keys that a query sees, its own included. */
  readonly window?: number;
  /** In GGUF: the window wherever the file states one above 0, of whatever size. */
  readonly fixedWindow?: number;
  /** A file without a window is an error. */
  readonly needsWindow?: true;
  /** `use_sliding_window` is read. */
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
  /** `tie_word_embeddings` is true by default. */
  readonly tied?: true;
  /** The feed-forward layer is 4 D wide by default. */
  readonly fourfold?: true;
  /** The feed-forward layer has no gate: two matrices. */
  readonly ungated?: true;
  /** Positions are learned: a row of D each, added to the embedding. */
  readonly learnedPositions?: true;
  /**
   * Experts that see every token, where the file does not state them: so many as wide as the others, or
   * (`mlp`) one as wide as the dense MLP.
   */
  readonly sharedExperts?: number | 'mlp';
  /** Defaults of keys that are absent in released files. */
  readonly defaults?: Keys;
  /** The same for the nested config of multimodal files; other files state these keys. */
  readonly nestedDefaults?: Keys;
  /** The number of layers is the length of the list of layers. */
  readonly countedByList?: true;
  /** Its cache is of a kind that is not supported here, or it has none. */
  readonly otherCache?: true;

  /**
   * Which layers slide where the file has a window and no list or period of layers:
   * - `never`: none, whatever the file says; `always`: all, whatever else it says
   * - `unlisted`: all, unless the file has `layer_types`; `all`: all, unless another key says which
   * - `switched`: those from `max_window_layers` on, if `use_sliding_window` is true; `late`: the same,
   *   unless it is false
   * - absent: not known; all are assumed to slide, with a warning
   */
  readonly slides?: 'never' | 'always' | 'unlisted' | 'all' | 'switched' | 'late';
  /** The kind of each layer where the file does not list the kinds. */
  readonly layers?: LayerRule;
  /** The kinds of the layers from keys that only this family has; undefined when they are absent. */
  readonly kindsFromKeys?: (keys: KeyReader, numLayers: number) => readonly Kind[] | undefined;
  /** The window from keys that only this family has; undefined when they are absent. */
  readonly windowFromKeys?: (keys: KeyReader) => number | undefined;

  /** K where several keys decide it; `stated` is the value of its usual key. */
  readonly keyValueHeads?: (keys: KeyReader, stated: number | undefined, numHeads: number) => number;
  /** Attention reads rows of 2 D; `kv_channels` is not its head dim. */
  readonly doubleWidth?: true;
  /** Heads and dims of the sliding layers where there are no `swa_` keys. */
  readonly slidingHeads?: Keys;
  /** K of the sliding layers as a multiple of that of the full layers, where there is no `swa_` key. */
  readonly slidingKeyValueFactor?: number;
  /** H of the full layers where `global_head_dim` is absent. */
  readonly fullHeadDim?: number;
  /** Default of `index_topk_freq`: one layer in so many has an indexer. */
  readonly indexerPeriod?: number;
  /** The layers with an indexer are those that the file lists, without a list none. */
  readonly indexerListed?: true;
  /** Keys that look like keys about attention and do not change the cache of this family. */
  readonly otherKeys?: readonly string[];

  /** The class of its tokenizer where the tokenizer's config does not state one. */
  readonly tokenizerClass?: string;
  /** llama.cpp caches only the window of sliding layers; a number: only for the model with so many layers. */
  readonly slidesInLlamaCpp?: true | number;
  /** For K > 1, transformers repeats the heads to all N before it caches them. */
  readonly cachesAllHeads?: true;
  /** Facts about its GGUF files. */
  readonly gguf?: GgufFacts;
}

export interface GgufFacts {
  /** Its cache is of a kind that is not supported here. */
  readonly otherCache?: true;
  /** The layers that slide where the file does not list them. */
  readonly layers?: LayerRule;
  /** The last of so many layers has attention; the others keep a state. */
  readonly attentionPeriod?: number;
  /** Layers with a cache of their own where the file does not state how many share one. */
  readonly ownCaches?: number;
  /** `nextn_predict_layers` counts layers that are part of a forward pass. */
  readonly draftsInPass?: true;
  /** q, k and v of a layer are one tensor, `attn_qkv`. */
  readonly fusedQueryKeyValue?: true;
  /** Which layers have an indexer where the file does not list them; undefined means all. */
  readonly indexer?: (keys: KeyReader) => ((layer: number) => boolean) | undefined;
  /** Tokens are in the order of their merges, and tokens that are only spaces have spaces in place of ▁. */
  readonly tokensInMergeOrder?: true;
  /** Added tokens strip the spaces after them, for which GGUF has no key. */
  readonly addedTokensTakeSpaces?: true;
}
