/**
 * The decoder's weights: their list, and the name, place and shape of each in the checkpoint. The structure
 * is generic in its leaves, so that the same code checks a header and loads the tensors.
 */
import type { Shape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import {
  type DecoderConfig,
  type DecoderLayerNames,
  type DecoderNames,
  type LatentAttentionConfig,
  type LatentNames,
  type LayerInputs,
  layerHeads,
} from './decoder-config.ts';
import type { ExpertNames } from './experts-config.ts';
import { type MixtureOf, type MlpOf, mixtureWeights, type Projections } from './mixture-weights.ts';
import { type ProjectionOf, type WeightPlace, type WeightSource, whole } from './weight-place.ts';

export interface NormOf<T> {
  /** `[D]` */
  readonly weight?: T;
  /** `[D]` */
  readonly bias?: T;
}

export interface DecoderLayerOf<T> {
  /** Absent: attention reads x. */
  readonly attentionNorm?: NormOf<T>;
  /**
   * `[N*H, D]`, `[K*H, D]`, `[K*H, D]`: projected in one pass. None with `latent`; without the last where
   * keys are values, q alone where the layer reads another's keys and values.
   */
  readonly queryKeyValue: readonly ProjectionOf<T>[];
  readonly latent?: LatentAttentionOf<T>;
  /** `[H]` each, or `[N*H]` and `[K*H]`. */
  readonly queryNorm?: T;
  readonly keyNorm?: T;
  /** `[N]` */
  readonly sinks?: T;
  /** `[D, N*H]` (`[D, N*Hv]`) */
  readonly attentionOutput: ProjectionOf<T>;
  /** Norms of the outputs of attention and MLP, before the residual addition. */
  readonly attentionNormAfter?: NormOf<T>;
  readonly mlpNormAfter?: NormOf<T>;
  /** Absent: the MLP reads what attention reads, or x after it. */
  readonly mlpNorm?: NormOf<T>;
  readonly feedForward: MlpOf<T> | MixtureOf<T>;
  /** `[P, D]`, `[D, P]`, `[D]` */
  readonly input?: { readonly gate: T; readonly project: T; readonly norm: T };
  /** `[1]` */
  readonly scale?: T;
}

/** Of latent attention: L latent, R rope dims, P other dims of queries and keys, Q the queries' latent. */
export interface LatentAttentionOf<T> {
  /** `[N*(P+R), D]`; `[Q, D]` where queries have a latent. */
  readonly query: ProjectionOf<T>;
  /** `[Q]` */
  readonly queryNorm?: T;
  /** `[N*(P+R), Q]` */
  readonly queryUp?: T;
  /** `[L+R, D]` */
  readonly rows: ProjectionOf<T>;
  /** `[L]` */
  readonly norm: T;
  /** `[N*P, L]` and `[N*Hv, L]`, f32: they are read per head, from either side. */
  readonly key: T;
  readonly value: T;
}

/** The weights before and after the layers. */
export interface DecoderEndsOf<T> {
  /** `[V, D]` */
  readonly embedding: T;
  /** `[maxPositionEmbeddings + positionOffset, D]`; learned positions. */
  readonly positions?: T;
  /** `[rows, layers * P]`, `[layers * P, D]`, `[P]` */
  readonly layerInputs?: { readonly table: T; readonly project: T; readonly norm: T };
  readonly finalNorm: NormOf<T>;
  /** `[V, D]`; the embedding itself when tied. */
  readonly head: ProjectionOf<T>;
}

export interface DecoderWeightsOf<T> extends DecoderEndsOf<T> {
  readonly layers: readonly DecoderLayerOf<T>[];
}

/** Matrices are as stored, vectors (norms, biases) and what a latent is expanded by f32. */
export type DecoderLayer = DecoderLayerOf<Tensor>;

export type DecoderWeights = DecoderWeightsOf<Tensor>;

/** Takes all weights from `source`, in the order in which a model loads them. */
export function decoderWeights<T>(
  config: DecoderConfig,
  names: DecoderNames,
  source: WeightSource<T>,
): DecoderWeightsOf<T> {
  const ends = decoderEnds(config, names, source);
  const layers = Array.from({ length: config.numLayers }, (_, i) =>
    decoderLayerWeights(config, names, i, source),
  );
  return { ...ends, layers };
}

/** Takes the embedding, the positions, the final norm and the head from `source`. */
function decoderEnds<T>(
  config: DecoderConfig,
  names: DecoderNames,
  source: WeightSource<T>,
): DecoderEndsOf<T> {
  const { vocabSize: V, hiddenSize: D, maxPositionEmbeddings, positionOffset = 0, tiedEmbeddings } = config;
  const embedding = source(whole(`${names.embedding}.weight`, [V, D]));
  const positions =
    config.rope === undefined
      ? source(whole(`${names.positions}.weight`, [maxPositionEmbeddings + positionOffset, D]))
      : undefined;
  return {
    embedding,
    ...(positions !== undefined && { positions }),
    ...(config.layerInputs && { layerInputs: layerInputsWeights(config, names, source) }),
    finalNorm: norm(config, names.finalNorm, source),
    head: {
      weight: tiedEmbeddings ? embedding : source(whole(`${names.head}.weight`, [V, D])),
      ...(config.biases.head && { bias: source(whole(`${names.head}.bias`, [V])) }),
    },
  };
}

/** Takes the weights of layer `index` from `source`. */
function decoderLayerWeights<T>(
  config: DecoderConfig,
  allNames: DecoderNames,
  index: number,
  source: WeightSource<T>,
): DecoderLayerOf<T> {
  const { hiddenSize: D, numHeads: N, biases } = config;
  const I = config.mlp.sizes?.[index] ?? config.intermediateSize;
  const { K, H } = layerHeads(config, index);
  const { reads, keysAreValues } = config.attention[index];
  const { queryKeyNorm, normPlace = 'before' } = config;
  const { transposed = false } = allNames;
  const names = allNames.layer(index);
  const { queryNorm, keyNorm } = names;
  const Hv = config.latent?.vHeadDim ?? H;

  /**
   * One projection per entry of `outs`, each of its own name, or all of one name behind each other, `groups`
   * times.
   */
  const projections: Projections<T> = (name, outs, ins, biased, groups = 1) => {
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
    ...(normPlace !== 'after' && { attentionNorm: norm(config, names.attentionNorm, source) }),
    queryKeyValue: config.latent
      ? []
      : projections(
          names.queryKeyValue,
          [N * H, K * H, K * H].slice(0, reads !== undefined ? 1 : keysAreValues ? 2 : 3),
          D,
          biases.queryKeyValue,
          names.fusedOrder === 'groups' ? K : 1,
        ),
    ...(config.latent && {
      latent: latentWeights(config, config.latent, names.latent as LatentNames, source),
    }),
    ...(queryKeyNorm &&
      queryKeyNorm.weighted !== false && {
        queryNorm: source(whole(`${queryNorm}.weight`, [queryKeyNorm.over === 'all' ? N * H : H])),
      }),
    ...(queryKeyNorm &&
      queryKeyNorm.weighted !== false &&
      reads === undefined && {
        keyNorm: source(whole(`${keyNorm}.weight`, [queryKeyNorm.over === 'all' ? K * H : H])),
      }),
    ...(config.attentionSinks && { sinks: source(whole(`${names.sinks}`, [N])) }),
    attentionOutput: projections(names.attentionOutput, [D], N * Hv, biases.attentionOutput)[0],
    ...(normPlace !== 'before' && {
      attentionNormAfter: norm(config, `${names.attentionNormAfter}`, source),
      mlpNormAfter: norm(config, `${names.mlpNormAfter}`, source),
    }),
    ...(normPlace !== 'after' &&
      names.mlpNorm !== undefined && { mlpNorm: norm(config, names.mlpNorm, source) }),
    feedForward: config.experts?.layers[index]
      ? mixtureWeights(config.experts, D, names.experts as ExpertNames, projections, source)
      : {
          gateUp: projections(names.gateUp, config.mlp.gated ? [I, I] : [I], D, biases.mlp),
          down: projections(names.down, [D], I, biases.mlp)[0],
        },
    ...(config.layerInputs && { input: layerInputWeights(config, names, config.layerInputs.dim, source) }),
    ...(config.layerScale && { scale: source(whole(`${names.layerScale}`, [1])) }),
  };
}

function layerInputsWeights<T>(
  { numLayers, hiddenSize: D, layerInputs }: DecoderConfig,
  { layerInputs: names = ['', '', ''] }: DecoderNames,
  source: WeightSource<T>,
) {
  const { dim: P, vocabSize } = layerInputs as LayerInputs;
  return {
    table: source(whole(`${names[0]}.weight`, [vocabSize, numLayers * P])),
    project: source(whole(`${names[1]}.weight`, [numLayers * P, D])),
    norm: source(whole(`${names[2]}.weight`, [P])),
  };
}

function layerInputWeights<T>(
  { hiddenSize: D }: DecoderConfig,
  { layerInput: names = ['', '', ''] }: DecoderLayerNames,
  P: number,
  source: WeightSource<T>,
) {
  return {
    gate: source(whole(`${names[0]}.weight`, [P, D])),
    project: source(whole(`${names[1]}.weight`, [D, P])),
    norm: source(whole(`${names[2]}.weight`, [D])),
  };
}

/** The places of all weights, in the order in which a model loads them. */
export function weightPlaces(config: DecoderConfig, names: DecoderNames): readonly WeightPlace[] {
  const places: WeightPlace[] = [];
  const note = (place: WeightPlace): void => {
    places.push(place);
  };
  decoderWeights(config, names, note);
  return places;
}

function latentWeights<T>(
  { hiddenSize: D, numHeads: N, headDim: H }: DecoderConfig,
  latent: LatentAttentionConfig,
  names: LatentNames,
  source: WeightSource<T>,
): LatentAttentionOf<T> {
  const { qLoraRank: Q, kvLoraRank: L, qkNopeHeadDim: P, qkRopeHeadDim: R, vHeadDim: Hv, biases } = latent;
  const fromX = (name: string, out: number, biased: boolean): ProjectionOf<T> => {
    const weight = source(whole(`${name}.weight`, [out, D]));
    return biased ? { weight, bias: source(whole(`${name}.bias`, [out])) } : { weight };
  };
  const query = typeof names.query === 'string' ? undefined : names.query;
  /** The rows of one half, from their place in each head's rows. */
  const half = (
    name: string,
    out: number,
    { stored, first = 0, stride = out, transposed = false }: HalfPlace,
  ): T =>
    source({
      name: `${name}.weight`,
      shape: [N * out, L],
      stored,
      first,
      transposed,
      blocks: { size: out, stride },
      wide: true,
    });
  const { up } = names;
  const halves =
    typeof up === 'string'
      ? {
          key: half(up, P, { stored: [N * (P + Hv), L], stride: P + Hv }),
          value: half(up, Hv, { stored: [N * (P + Hv), L], stride: P + Hv, first: P }),
        }
      : {
          key: half(up[0], P, { stored: [N, L, P], stride: L * P, transposed: true }),
          value: half(up[1], Hv, { stored: [N, Hv, L] }),
        };
  return {
    query: query && Q !== undefined ? fromX(query[0], Q, biases) : fromX(names.query as string, N * H, false),
    ...(query &&
      Q !== undefined && {
        queryNorm: source(whole(`${query[1]}.weight`, [Q])),
        queryUp: source(whole(`${query[2]}.weight`, [N * H, Q])),
      }),
    rows: fromX(names.down, L + R, biases),
    norm: source(whole(`${names.norm}.weight`, [L])),
    ...halves,
  };
}

interface HalfPlace {
  readonly stored: Shape;
  readonly first?: number;
  readonly stride?: number;
  readonly transposed?: boolean;
}

function norm<T>(config: DecoderConfig, name: string, source: WeightSource<T>): NormOf<T> {
  const { normParameters = config.norm === 'rms' ? 'weight' : 'weightAndBias' } = config;
  if (normParameters === 'none') return {};
  const shape = [config.hiddenSize];
  const weight = source(whole(`${name}.weight`, shape));
  return normParameters === 'weight' ? { weight } : { weight, bias: source(whole(`${name}.bias`, shape)) };
}
