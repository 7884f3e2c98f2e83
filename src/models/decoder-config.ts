/**
 * The config of the decoder (`decoder.ts`): sizes, norms, positions, the window of each layer, and which
 * projections have a bias. A family (families/*.ts) derives it from a checkpoint's config; no field depends
 * on the family.
 */
import type { Activation } from './activation.ts';
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
  /** RMS norms have a weight, layer norms a weight and a bias. */
  readonly norm: 'rms' | 'layer';
  /**
   * Added to every norm's weight: 1 where files store the weight minus 1 (Gemma); default 0.
   */
  readonly normWeightOffset?: number;
  /** epsilon of all norms. */
  readonly normEps: number;
  /** Absent: positions are learned, a row of D per position, which is added to the embedding. */
  readonly rope?: RopeConfig;
  /** How layers with a window rotate, where that differs (Gemma 3: short frequencies for short distances). */
  readonly windowRope?: RopeConfig;
  /**
   * Multiplies the embeddings (Gemma: sqrt(D), so that a table tied to the head starts at size 1); default 1.
   */
  readonly embeddingScale?: number;
  /** Logits become `cap * tanh(logit / cap)` (Gemma 2); absent: they stay. */
  readonly logitsSoftCap?: number;
  /**
   * What a layer adds: `sequential` (default) `x += a(norm(x)); x += m(norm(x))`; `parallel` (Falcon), one
   * sum and one pass over x less, `x += a(norm(x)) + m(norm(x))`, of one norm or of two.
   */
  readonly residual?: 'sequential' | 'parallel';
  /** Whether what attention and MLP give is normalised once more before it is added (Gemma 2 and 3). */
  readonly normAfter?: boolean;
  /** Whether each head of q and k goes through an RMS norm before its rotation. */
  readonly queryKeyNorm: boolean;
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
  readonly mlp: { readonly gated: boolean; readonly activation: Activation };
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
  };
}

/** What attention does in one layer, where it differs from plain causal attention. */
export interface LayerAttention {
  /** Keys a query sees, its own included; absent: all. */
  readonly window?: number;
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
  readonly attentionNorm: string;
  /** Three projections, or one with the outputs of all three; not read with `latent`. */
  readonly queryKeyValue: readonly [query: string, key: string, value: string] | string;
  /**
   * Where one has them: all of q, then k, then v (default), or for each key/value head its queries, k and v.
   */
  readonly fusedOrder?: 'parts' | 'groups';
  /** Needed only with `queryKeyNorm`. */
  readonly queryNorm?: string;
  readonly keyNorm?: string;
  /** Needed only with latent attention. */
  readonly latent?: LatentNames;
  readonly attentionOutput: string;
  /** The whole name; needed only with `attentionSinks`. */
  readonly sinks?: string;
  /** Needed only with `normAfter`. */
  readonly attentionNormAfter?: string;
  readonly mlpNormAfter?: string;
  /** Absent where attention and MLP, in parallel, read one norm. */
  readonly mlpNorm?: string;
  /**
   * Two projections, or one whose outputs are those of the gate, then up; up alone when the MLP is not gated.
   */
  readonly gateUp: readonly [gate: string, up: string] | string;
  readonly down: string;
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
