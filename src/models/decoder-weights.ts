/**
 * The decoder's weights: which there are, what each is called in the checkpoint, and its shape. The structure is generic in
 * what stands at each place, so that one walk checks a header and the same walk loads the tensors.
 */
import type { Shape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { DecoderConfig, DecoderLayerNames, DecoderNames } from './decoder-config.ts';

export interface ProjectionOf<T> {
  /** `[Out, In]` */
  readonly weight: T;
  /** `[Out]` */
  readonly bias?: T;
}

export interface DecoderLayerOf<T> {
  /** `[D]` */
  readonly attentionNorm: T;
  /** `[N*H, D]`, `[K*H, D]`, `[K*H, D]`: projected in one pass. */
  readonly queryKeyValue: readonly ProjectionOf<T>[];
  /** `[D, N*H]` */
  readonly attentionOutput: ProjectionOf<T>;
  /** `[D]` */
  readonly mlpNorm: T;
  /** Twice `[I, D]`: projected in one pass. */
  readonly gateUp: readonly ProjectionOf<T>[];
  /** `[D, I]` */
  readonly down: ProjectionOf<T>;
}

/** What is there once, before and after the layers. */
export interface DecoderEndsOf<T> {
  /** `[V, D]` */
  readonly embedding: T;
  /** `[D]` */
  readonly finalNorm: T;
  /** `[V, D]`; the embedding itself when tied. */
  readonly head: ProjectionOf<T>;
}

/** Matrices are as stored, vectors (norms, biases) f32. */
export type DecoderLayer = DecoderLayerOf<Tensor>;

export interface DecoderWeights extends DecoderEndsOf<Tensor> {
  readonly layers: readonly DecoderLayer[];
}

/** Finds or makes what stands for a tensor of the checkpoint. */
export type WeightSource<T> = (name: string, shape: Shape) => T;

/** Takes the embedding, the final norm and the head from `source`. */
export function decoderEnds<T>(
  config: DecoderConfig,
  names: DecoderNames,
  source: WeightSource<T>,
): DecoderEndsOf<T> {
  const { vocabSize: V, hiddenSize: D, tiedEmbeddings } = config;
  const embedding = source(`${names.embedding}.weight`, [V, D]);
  return {
    embedding,
    finalNorm: source(`${names.finalNorm}.weight`, [D]),
    head: { weight: tiedEmbeddings ? embedding : source(`${names.head}.weight`, [V, D]) },
  };
}

/** Takes one layer's weights from `source`. */
export function decoderLayerWeights<T>(
  config: DecoderConfig,
  names: DecoderLayerNames,
  source: WeightSource<T>,
): DecoderLayerOf<T> {
  const { hiddenSize: D, intermediateSize: I, numHeads: N, numKeyValueHeads: K, headDim: H, biases } = config;
  const vector = (name: string): T => source(`${name}.weight`, [D]);
  const projection = (name: string, outs: number, ins: number, biased: boolean): ProjectionOf<T> => {
    const weight = source(`${name}.weight`, [outs, ins]);
    return biased ? { weight, bias: source(`${name}.bias`, [outs]) } : { weight };
  };
  return {
    attentionNorm: vector(names.attentionNorm),
    queryKeyValue: [
      projection(names.query, N * H, D, biases.queryKeyValue),
      projection(names.key, K * H, D, biases.queryKeyValue),
      projection(names.value, K * H, D, biases.queryKeyValue),
    ],
    attentionOutput: projection(names.attentionOutput, D, N * H, biases.attentionOutput),
    mlpNorm: vector(names.mlpNorm),
    gateUp: [projection(names.gate, I, D, biases.mlp), projection(names.up, I, D, biases.mlp)],
    down: projection(names.down, D, I, biases.mlp),
  };
}
