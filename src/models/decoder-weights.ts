/**
 * The decoder's weights: which there are, where each stands in the checkpoint, and its shape. The structure is generic in
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

export interface NormOf<T> {
  /** `[D]` */
  readonly weight: T;
  /** `[D]`; of layer norms. */
  readonly bias?: T;
}

export interface DecoderLayerOf<T> {
  readonly attentionNorm: NormOf<T>;
  /** `[N*H, D]`, `[K*H, D]`, `[K*H, D]`: projected in one pass. */
  readonly queryKeyValue: readonly ProjectionOf<T>[];
  /** `[H]` each. */
  readonly queryNorm?: T;
  readonly keyNorm?: T;
  /** `[D, N*H]` */
  readonly attentionOutput: ProjectionOf<T>;
  /** Of what attention and the MLP give, before it is added. */
  readonly attentionNormAfter?: NormOf<T>;
  readonly mlpNormAfter?: NormOf<T>;
  /** Absent: the MLP reads what attention reads. */
  readonly mlpNorm?: NormOf<T>;
  /** Twice `[I, D]`, projected in one pass; once when the MLP is not gated. */
  readonly gateUp: readonly ProjectionOf<T>[];
  /** `[D, I]` */
  readonly down: ProjectionOf<T>;
}

/** What is there once, before and after the layers. */
export interface DecoderEndsOf<T> {
  /** `[V, D]` */
  readonly embedding: T;
  /** `[maxPositionEmbeddings, D]`; learned positions. */
  readonly positions?: T;
  readonly finalNorm: NormOf<T>;
  /** `[V, D]`; the embedding itself when tied. */
  readonly head: ProjectionOf<T>;
}

/** Matrices are as stored, vectors (norms, biases) f32. */
export type DecoderLayer = DecoderLayerOf<Tensor>;

export interface DecoderWeights extends DecoderEndsOf<Tensor> {
  readonly layers: readonly DecoderLayer[];
}

/** A tensor of the checkpoint, or the part of one, that makes a weight. */
export interface WeightPlace {
  readonly name: string;
  /** What the decoder takes. */
  readonly shape: Shape;
  /** What the tensor must be in the file: more rows where projections are fused, `[In, Out]` where transposed. */
  readonly stored: Shape;
  /** The first output taken: a row of the tensor, or a column where it is transposed. */
  readonly first: number;
  readonly transposed: boolean;
  /** Where the outputs are not next to each other: `size` of them every `stride`. */
  readonly blocks?: { readonly size: number; readonly stride: number };
}

/** Finds or makes what stands for a weight. */
export type WeightSource<T> = (place: WeightPlace) => T;

/** Takes the embedding, the positions, the final norm and the head from `source`. */
export function decoderEnds<T>(
  config: DecoderConfig,
  names: DecoderNames,
  source: WeightSource<T>,
): DecoderEndsOf<T> {
  const { vocabSize: V, hiddenSize: D, maxPositionEmbeddings, tiedEmbeddings } = config;
  const embedding = source(whole(`${names.embedding}.weight`, [V, D]));
  const positions =
    config.rope === undefined
      ? source(whole(`${names.positions}.weight`, [maxPositionEmbeddings, D]))
      : undefined;
  return {
    embedding,
    ...(positions !== undefined && { positions }),
    finalNorm: norm(config, names.finalNorm, source),
    head: { weight: tiedEmbeddings ? embedding : source(whole(`${names.head}.weight`, [V, D])) },
  };
}

/** Takes one layer's weights from `source`. */
export function decoderLayerWeights<T>(
  config: DecoderConfig,
  { transposed = false }: DecoderNames,
  names: DecoderLayerNames,
  source: WeightSource<T>,
): DecoderLayerOf<T> {
  const { hiddenSize: D, intermediateSize: I, numHeads: N, numKeyValueHeads: K, headDim: H, biases } = config;
  const { queryNorm, keyNorm } = names;

  /** One projection per entry of `outs`, each of its own name, or all of one name behind each other, `groups` times. */
  const projections = (
    name: string | readonly string[],
    outs: readonly number[],
    ins: number,
    biased: boolean,
    groups = 1,
  ): ProjectionOf<T>[] => {
    const fused = typeof name === 'string';
    const total = outs.reduce((sum, out) => sum + out, 0);
    let next = 0;
    return outs.map((out, i) => {
      const own = fused ? name : name[i];
      const storedOuts = fused ? total : out;
      const first = fused ? next : 0;
      next += out / groups;
      const blocks = fused && groups > 1 && { blocks: { size: out / groups, stride: total / groups } };
      const weight = source({
        name: `${own}.weight`,
        shape: [out, ins],
        stored: transposed ? [ins, storedOuts] : [storedOuts, ins],
        first,
        transposed,
        ...blocks,
      });
      if (!biased) return { weight };
      const stored = [storedOuts];
      return {
        weight,
        bias: source({ name: `${own}.bias`, shape: [out], stored, first, transposed: false, ...blocks }),
      };
    });
  };

  return {
    attentionNorm: norm(config, names.attentionNorm, source),
    queryKeyValue: projections(
      names.queryKeyValue,
      [N * H, K * H, K * H],
      D,
      biases.queryKeyValue,
      names.fusedOrder === 'groups' ? K : 1,
    ),
    ...(config.queryKeyNorm && {
      queryNorm: source(whole(`${queryNorm}.weight`, [H])),
      keyNorm: source(whole(`${keyNorm}.weight`, [H])),
    }),
    attentionOutput: projections(names.attentionOutput, [D], N * H, biases.attentionOutput)[0],
    ...(config.normAfter && {
      attentionNormAfter: norm(config, `${names.attentionNormAfter}`, source),
      mlpNormAfter: norm(config, `${names.mlpNormAfter}`, source),
    }),
    ...(names.mlpNorm !== undefined && { mlpNorm: norm(config, names.mlpNorm, source) }),
    gateUp: projections(names.gateUp, config.mlp.gated ? [I, I] : [I], D, biases.mlp),
    down: projections(names.down, [D], I, biases.mlp)[0],
  };
}

function norm<T>(config: DecoderConfig, name: string, source: WeightSource<T>): NormOf<T> {
  const shape = [config.hiddenSize];
  const weight = source(whole(`${name}.weight`, shape));
  return config.norm === 'rms' ? { weight } : { weight, bias: source(whole(`${name}.bias`, shape)) };
}

function whole(name: string, shape: Shape): WeightPlace {
  return { name, shape, stored: shape, first: 0, transposed: false };
}
