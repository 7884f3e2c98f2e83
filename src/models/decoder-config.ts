/**
 * What the decoder of `decoder.ts` must know to run one model: sizes, positions, and which projections have a bias. A
 * family (families/*.ts) makes it from a file's own words; nothing here says which file or family it was.
 */
import type { RopeConfig } from './rope-table.ts';

export interface DecoderConfig {
  /** The file's own name of the family, such as `llama`. */
  readonly modelType: string;
  /** V */
  readonly vocabSize: number;
  /** D */
  readonly hiddenSize: number;
  readonly numLayers: number;
  /** N */
  readonly numHeads: number;
  /** K, a divisor of N. */
  readonly numKeyValueHeads: number;
  /** H; not always D / N. */
  readonly headDim: number;
  /** Width of the gated MLP. */
  readonly intermediateSize: number;
  /** Longest sequence the model was made for. */
  readonly maxPositionEmbeddings: number;
  /** epsilon of the RMS norms. */
  readonly normEps: number;
  readonly rope: RopeConfig;
  /** Whether the output head is the embedding table. */
  readonly tiedEmbeddings: boolean;
  /** Which projections have a bias. */
  readonly biases: {
    readonly queryKeyValue: boolean;
    readonly attentionOutput: boolean;
    readonly mlp: boolean;
  };
}

/** What a checkpoint calls the tensors; a projection's are `<name>.weight` and, with a bias, `<name>.bias`. */
export interface DecoderNames {
  readonly embedding: string;
  readonly finalNorm: string;
  /** Read only when the embeddings are not tied. */
  readonly head: string;
  /** `[rotaryDim / 2]` numbers that divide the rotary frequencies, in files that store them: the tensor's whole name. */
  readonly ropeFactors?: string;
  layer(index: number): DecoderLayerNames;
}

export interface DecoderLayerNames {
  readonly attentionNorm: string;
  readonly query: string;
  readonly key: string;
  readonly value: string;
  readonly attentionOutput: string;
  readonly mlpNorm: string;
  readonly gate: string;
  readonly up: string;
  readonly down: string;
}
