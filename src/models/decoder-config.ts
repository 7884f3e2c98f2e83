/**
 * The config of the decoder (`decoder.ts`): sizes, norms, positions, the window of each layer, and which
 * projections have a bias. A family (families/*.ts) derives it from a checkpoint's config; no field depends
 * on the family.
 */
import type { Activation, Xielu } from './activation.ts';
import type { ExpertNames, ExpertsConfig } from './experts-config.ts';
import type { RopeConfig } from './rope-table.ts';

/**
 * What the decoder needs to run a model, read from its config.json or GGUF header: sizes, norms, positions,
 * the window of each layer, and which projections have a bias. No field depends on the family.
 */
export interface DecoderConfig {
  /** The file's own name of the family, such as `llama`. */
  readonly modelType: string;
  /** V */
  readonly vocabSize: number;
  /** D */
  readonly hiddenSize: number;
  /** Decoder layers. */
  readonly numLayers: number;
  /** N */
  readonly numHeads: number;
  /** K, a divisor of N. */
  readonly numKeyValueHeads: number;
  /** H; not always D / N. */
  readonly headDim: number;
  /** Width of the MLP. */
  readonly intermediateSize: number;
  /** Longest sequence the model was made for. */
  readonly maxPositionEmbeddings: number;
  /** The kind of all norms of x. */
  readonly norm: 'rms' | 'layer';
  /** Their parameters; default: RMS norms have a weight, layer norms a weight and a bias. */
  readonly normParameters?: 'none' | 'weight' | 'weightAndBias';
  /**
   * Added to every norm's weight: 1 where files store the weight minus 1 (Gemma); default 0.
   */
  readonly normWeightOffset?: number;
  /** epsilon of all norms. */
  readonly normEps: number;
  /** Absent: positions are learned, a row of D per position, which is added to the embedding. */
  readonly rope?: RopeConfig;
  /** Rows of the learned positions in front of that of position 0 (OPT: 2); default 0. */
  readonly positionOffset?: number;
  /** How layers with a window rotate, where that differs (Gemma 3: short frequencies for short distances). */
  readonly windowRope?: RopeConfig;
  /**
   * Multiplies the embeddings (Gemma: sqrt(D), so that a table tied to the head starts at size 1); default 1.
   */
  readonly embeddingScale?: number;
  /** Multiplies what attention and MLP add to x (Granite); default 1. */
  readonly residualScale?: number;
  /** Multiplies the logits (Cohere, Granite), before any cap; default 1. */
  readonly logitsScale?: number;
  /** Whether the embeddings go through a norm without parameters (nanochat); default false. */
  readonly embeddingNorm?: boolean;
  /** Logits become `cap * tanh(logit / cap)` (Gemma 2); absent: they stay. */
  readonly logitsSoftCap?: number;
  /**
   * What a layer adds: `sequential` (default) `x += a(norm(x)); x += m(norm(x))`; `parallel` (Falcon), one
   * sum and one pass over x less, `x += a(norm(x)) + m(norm(x))`, of one norm or of two.
   */
  readonly residual?: 'sequential' | 'parallel';
  /**
   * What a layer normalises: what attention and MLP read (`before`, the default), what they give (`after`,
   * OLMo 2), or both (Gemma 2 and 3).
   */
  readonly normPlace?: 'before' | 'after' | 'both';
  /** RMS norm of q and k; absent: none. */
  readonly queryKeyNorm?: QueryKeyNorm;
  /** Whether v goes through an RMS norm without a weight, each head by itself (Gemma 4); default false. */
  readonly valueNorm?: boolean;
  /** A second input of every layer, made of the tokens (Gemma 4). */
  readonly layerInputs?: LayerInputs;
  /** Whether each layer's result is multiplied by a stored number (Gemma 4); default false. */
  readonly layerScale?: boolean;
  /** Of layers whose `attention` says so (Ministral 3, Llama 4). */
  readonly queryGrowth?: QueryGrowth;
  /** q, k and v are clamped to -clip … clip before anything else (OLMo); absent: they stay. */
  readonly clipQueryKeyValue?: number;
  /**
   * Whether each query head has a learned score that joins the softmax's denominator only (gpt-oss); default
   * not.
   */
  readonly attentionSinks?: boolean;
  /**
   * Multi-head latent attention (DeepSeek) in place of q, k and v; K is then N, H that of queries and keys.
   */
  readonly latent?: LatentAttentionConfig;
  /** How each layer attends, in order. */
  readonly attention: readonly LayerAttention[];
  /** `down(activation(gate) * up)` when gated, else `down(activation(up))`. */
  readonly mlp: {
    readonly gated: boolean;
    readonly activation: Activation;
    /** Per layer its width, where these differ (Gemma 4); default `intermediateSize`. */
    readonly sizes?: readonly number[];
    /** Per layer its xIELU in place of `activation` (Apertus). */
    readonly xielu?: readonly Xielu[];
  };
  /** Of models some of whose layers are mixtures of experts in place of the MLP. */
  readonly experts?: ExpertsConfig;
  /**
   * Layers behind the last that a file may hold and that say nothing about the next token (DeepSeek-V3's for
   * later ones); default 0.
   */
  readonly extraLayers?: number;
  /** Whether the output head is the embedding table. */
  readonly tiedEmbeddings: boolean;
  /** Which projections have a bias. */
  readonly biases: {
    readonly queryKeyValue: boolean;
    readonly attentionOutput: boolean;
    readonly mlp: boolean;
    /** Of the output head; default false. */
    readonly head?: boolean;
  };
}

/** K and H of a layer. */
export function layerHeads(
  { attention, numKeyValueHeads, headDim }: DecoderConfig,
  layer: number,
): { readonly K: number; readonly H: number } {
  const own = attention[layer];
  return { K: own.numKeyValueHeads ?? numKeyValueHeads, H: own.headDim ?? headDim };
}

/** Queries grow with their position: `q * (1 + beta * log(1 + floor((position + first) / interval)))`. */
export interface QueryGrowth {
  readonly beta: number;
  readonly interval: number;
  /** Number of the first position; 0 or 1. */
  readonly first: number;
}

/** The RMS norm of q and k. */
export interface QueryKeyNorm {
  /**
   * `head`: each head by itself, all by one weight `[H]`; `all`: the heads of a token as one vector (OLMo 2).
   */
  readonly over: 'head' | 'all';
  /** Whether it has a weight; default true. */
  readonly weighted?: boolean;
  /** Whether it follows the rotation; default false. Only over `head`. */
  readonly afterRotation?: boolean;
}

/**
 * Per-layer embeddings: a row of P per token and layer, from a table and from the embedding of the token. A
 * layer ends with `x += norm(project(activation(gate(x)) * row))`.
 */
export interface LayerInputs {
  /** P */
  readonly dim: number;
  /** Rows of the table. */
  readonly vocabSize: number;
}

/** What attention does in one layer, where it differs from plain causal attention. */
export interface LayerAttention {
  /** K, where it is not the model's (Gemma 4). */
  readonly numKeyValueHeads?: number;
  /** H, where it is not the model's (Gemma 4). */
  readonly headDim?: number;
  /** Whether k, before its norm, is also v (Gemma 4); default: v has a projection of its own. */
  readonly keysAreValues?: boolean;
  /**
   * The layer whose keys and values this one reads, without any of its own (Gemma 4). Only the last layers
   * do.
   */
  readonly reads?: number;
  /** Whether q and k rotate by their positions; default true. */
  readonly rotates?: boolean;
  /** Whether `queryKeyNorm` applies; default true. */
  readonly normalizes?: boolean;
  /** Whether `queryGrowth` applies; default false. */
  readonly grows?: boolean;
  /** Keys a query sees, its own included; absent: all. */
  readonly window?: number;
  /**
   * Whether a query sees its own chunk of `window` positions, from a multiple of it on, in place of the last
   * `window` keys (Llama 4); default false.
   */
  readonly chunked?: boolean;
  /** Multiplies the scores; absent: `1 / sqrt(H)`. */
  readonly scale?: number;
  /** Scores become `cap * tanh(score / cap)` (Gemma 2); absent: they stay. */
  readonly softCap?: number;
}

/** Multi-head latent attention (DeepSeek-V2). */
export interface LatentAttentionConfig {
  /** Width of the queries' latent; absent: queries come straight from x. */
  readonly qLoraRank?: number;
  /** Width L of the latent that keys and values of all heads are made from. */
  readonly kvLoraRank: number;
  /** Dims of a head's queries and keys without a position. */
  readonly qkNopeHeadDim: number;
  /** Dims R that rotate; of keys one for all heads. */
  readonly qkRopeHeadDim: number;
  /** H of values. */
  readonly vHeadDim: number;
  /** epsilon of the latents' norms. */
  readonly normEps: number;
  /** Whether the projections from x have a bias, which `biases` says of the one back. */
  readonly biases: boolean;
}

/**
 * What a checkpoint calls the tensors; a projection's are `<name>.weight` and, with a bias, `<name>.bias`.
 */
export interface DecoderNames {
  readonly embedding: string;
  /** Learned positions; needed only without RoPE. */
  readonly positions?: string;
  readonly finalNorm: string;
  /** Needed only with `layerInputs`: the table, the projection of embeddings, and its norm. */
  readonly layerInputs?: readonly [table: string, project: string, norm: string];
  /** Read only when the embeddings are not tied. */
  readonly head: string;
  /** The head's name where a checkpoint with tied embeddings stores the table under it once more. */
  readonly headCopy?: string;
  /** Whether the layers' matrices are stored `[In, Out]`, as GPT-2's Conv1D has them; default `[Out, In]`. */
  readonly transposed?: boolean;
  /** Whether a tensor called like a weight is none; default: none is. */
  isBuffer?(name: string): boolean;
  layer(index: number): DecoderLayerNames;
}

export interface DecoderLayerNames {
  /** Not read with `normPlace` after. */
  readonly attentionNorm: string;
  /** Three projections, or one with the outputs of all three; not read with `latent`. */
  readonly queryKeyValue: readonly [query: string, key: string, value: string] | string;
  /**
   * Where one has them: all of q, then k, then v (default), or for each key/value head its queries, k and v.
   */
  readonly fusedOrder?: 'parts' | 'groups';
  /** Needed only with a weighted `queryKeyNorm`. */
  readonly queryNorm?: string;
  readonly keyNorm?: string;
  /** Needed only with latent attention. */
  readonly latent?: LatentNames;
  readonly attentionOutput: string;
  /** The whole name; needed only with `attentionSinks`. */
  readonly sinks?: string;
  /** Needed only with `normPlace` after or both. */
  readonly attentionNormAfter?: string;
  readonly mlpNormAfter?: string;
  /** Absent where attention and MLP, in parallel, read one norm; not read with `normPlace` after. */
  readonly mlpNorm?: string;
  /**
   * Two projections, or one whose outputs are those of the gate, then up; up alone when the MLP is not gated.
   */
  readonly gateUp: readonly [gate: string, up: string] | string;
  readonly down: string;
  /** Needed only with `layerInputs`: two projections and the norm behind them. */
  readonly layerInput?: readonly [gate: string, project: string, norm: string];
  /** The whole name; needed only with `layerScale`. */
  readonly layerScale?: string;
  /** Needed only in layers that are mixtures of experts; these have no `gateUp` and `down`. */
  readonly experts?: ExpertNames;
}

export interface LatentNames {
  /** From x, or without the latent's three: to the latent, its norm, and from it. */
  readonly query: string | readonly [down: string, norm: string, up: string];
  /** From x to the latent and the rope key. */
  readonly down: string;
  readonly norm: string;
  /** Per head keys, then values; or apart and stacked by head, `[N, L, P]` and `[N, Hv, L]` (GGUF). */
  readonly up: string | readonly [key: string, value: string];
}
