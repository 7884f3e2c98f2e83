/**
 * The sizes of a model that its KV cache depends on, the same for every kind of file. Letters: N query heads,
 * K key/value heads, H head dim.
 */
import { FormatError } from './format-error.ts';

/**
 * What a layer caches. `full`: keys and values of every token. `sliding`: of the last `window` tokens.
 * `chunked`: as sliding, and a query sees those of its own chunk of `window` tokens. `latent`: one compressed row per token (MLA). `linear`: a state of fixed size. `shared`: nothing, since it
 * reads another layer's cache.
 */
export type LayerKind = 'full' | 'sliding' | 'chunked' | 'latent' | 'linear' | 'shared';

/** What one layer computes and caches. Dims are elements per head. */
export interface LayerShape {
  /** What the layer caches. */
  readonly kind: LayerKind;
  /** N of this layer, where it differs from the model's `numHeads`. */
  readonly numHeads?: number;
  /** K of this layer; 0 in a `linear` layer; N in a `latent` layer, whose row expands to N heads. */
  readonly numKeyValueHeads: number;
  /** H of queries and keys. */
  readonly keyHeadDim: number;
  /** H of values. */
  readonly valueHeadDim: number;
  /** The values are made by the projection of the keys: there is none of their own (Gemma 4). */
  readonly keysAreValues?: true;
  /** Width of this layer's feed-forward layer, where it is not the model's `intermediateSize`. */
  readonly intermediateSize?: number;
  /**
   * Keys a query sees, its own included; only for `sliding` and `chunked` layers, the length of a chunk in
   * these.
   */
  readonly window?: number;
  /**
   * The row that a `latent` layer (or a sliding one with latent rows) caches per token: `rank + ropeDim`
   * values.
   */
  readonly latent?: {
    /** Width of the latent vector that keys and values are projected from. */
    readonly rank: number;
    /** Width of the rotated key that all heads share. */
    readonly ropeDim: number;
    /** Width of the latent vector that queries are projected from; absent where they come from x itself. */
    readonly queryRank?: number;
    /** Of a GGUF file without `key_length_mla`: llama.cpp caches the expanded keys and values. */
    readonly expandedInLlamaCpp?: true;
  };
  /** Width of the one key per token that the indexer of sparse attention caches besides keys and values. */
  readonly indexKeyDim?: number;
}

/** The mixtures of experts of a model, in sizes. */
export interface ExpertsShape {
  /** E */
  readonly numExperts: number;
  /** Experts of one token. */
  readonly expertsPerToken: number;
  /** Width of one expert. */
  readonly intermediateSize: number;
  /** Width of the experts that see every token, taken as one layer; 0 without them. */
  readonly sharedIntermediateSize: number;
  /** Layers that are mixtures; the others have a dense feed-forward layer. */
  readonly numLayers: number;
}

/** Frozen, as are its layers. A value is undefined where the file does not state it. */
export interface ModelShape {
  /** Hugging Face's `model_type` of the text model, or GGUF's `general.architecture`. */
  readonly modelType: string;
  /** Decoder layers. */
  readonly numLayers: number;
  /** N; the largest when layers differ. */
  readonly numHeads: number;
  /** K; the largest when layers differ. The size of an MLA cache does not depend on it: see `layers`. */
  readonly numKeyValueHeads: number;
  /** H of queries and keys; the largest when layers differ. Not always `hiddenSize / numHeads`. */
  readonly headDim: number;
  /** H of values; the largest when layers differ. */
  readonly valueHeadDim: number;
  /** D, the width of the residual stream. */
  readonly hiddenSize: number;
  /** Width of the (dense) feed-forward layer; the largest when layers differ. */
  readonly intermediateSize: number | undefined;
  /** Whether the feed-forward layers have a gate, and so three matrices in place of two. */
  readonly gatedMlp: boolean;
  /** Absent without mixtures of experts. */
  readonly experts?: ExpertsShape;
  /**
   * Of models whose layers have a second input made of the tokens (Gemma 4's per-layer embeddings): its
   * width, and the rows of its table.
   */
  readonly layerInputs?: { readonly dim: number; readonly vocabSize: number };
  readonly vocabSize: number | undefined;
  readonly maxPositionEmbeddings: number | undefined;
  /** Whether input embedding and output head are one matrix; undefined when only the tensors can tell. */
  readonly tiedEmbeddings: boolean | undefined;
  /** One entry per decoder layer, in order. */
  readonly layers: readonly LayerShape[];
  /** Reasons why sizes may be wrong, such as unknown keys about attention. Absent when there are none. */
  readonly warnings?: readonly string[];
}

/** `layers` with the width of the feed-forward layer in those where it is not `usual`. */
export function withWidths(
  layers: readonly LayerShape[],
  widths: readonly number[] | undefined,
  usual: number | undefined,
): LayerShape[] {
  return layers.map((layer, i) => {
    const own = widths?.[i] ?? usual;
    return own === usual ? layer : { ...layer, intermediateSize: own };
  });
}

/** More heads than any model has. It bounds work per head, such as listing the divisors of N. */
const MAX_HEADS = 65_536;

/** What follows from the layers. */
type Derived = 'numLayers' | 'numKeyValueHeads' | 'headDim' | 'valueHeadDim';

/**
 * Checks a shape, adds what follows from its layers, and freezes it.
 * @param file what errors call the source
 * @param keys the file's own names of N and K, for errors
 * @throws FormatError when K does not divide N in a layer, or a size is not a positive integer
 */
export function freezeShape(
  file: string,
  { warnings, ...shape }: Omit<ModelShape, Derived>,
  keys: { readonly heads: string; readonly keyValueHeads: string },
): ModelShape {
  const { layers } = shape;
  const fail = (detail: string) => new FormatError(file, undefined, detail);
  if (shape.numHeads > MAX_HEADS) {
    throw fail(`${keys.heads}: expected at most ${MAX_HEADS} query heads, got ${shape.numHeads}`);
  }
  for (let i = 0; i < layers.length; i++) {
    const { kind, numKeyValueHeads: K, keyHeadDim, valueHeadDim } = layers[i];
    if (kind === 'linear') continue;
    const N = layers[i].numHeads ?? shape.numHeads;
    if (K < 1 || N % K !== 0) {
      const alike = layers.every(
        (layer) => layer.numKeyValueHeads === K && layer.numHeads === layers[i].numHeads,
      );
      const where = alike ? '' : ` in layer ${i}`;
      const expected = `expected a divisor of the query heads (${keys.heads} N=${N})`;
      throw fail(`${keys.keyValueHeads}: ${expected}, got K=${K}${where}`);
    }
    if (keyHeadDim < 1 || valueHeadDim < 1) {
      throw fail(`expected head dims >= 1, got ${keyHeadDim} and ${valueHeadDim}`);
    }
  }
  for (const layer of layers) {
    if (layer.latent !== undefined) Object.freeze(layer.latent);
    Object.freeze(layer);
  }
  if (shape.experts !== undefined) Object.freeze(shape.experts);
  if (shape.layerInputs !== undefined) Object.freeze(shape.layerInputs);
  const largest = (size: 'numKeyValueHeads' | 'keyHeadDim' | 'valueHeadDim') =>
    layers.reduce((most, layer) => Math.max(most, layer[size]), 0);
  return Object.freeze({
    ...shape,
    numLayers: layers.length,
    numKeyValueHeads: largest('numKeyValueHeads'),
    headDim: largest('keyHeadDim'),
    valueHeadDim: largest('valueHeadDim'),
    layers: Object.freeze(layers),
    ...(warnings !== undefined && warnings.length > 0 && { warnings: Object.freeze(warnings) }),
  });
}
