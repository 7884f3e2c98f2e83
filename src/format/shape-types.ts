/**
 * The attention facts of a model: what a KV-cache planner and a model loader need, whatever file they came from.
 * Letters: N query heads, K key/value heads, H head dim.
 */
import { FormatError } from './format-error.ts';

/**
 * What a layer keeps per token. `full`: K and V of every token. `sliding`: of the last `window` tokens. `latent`: one
 * compressed row (MLA). `linear`: a state of fixed size, nothing per token. `shared`: it reads another layer's cache.
 */
export type LayerKind = 'full' | 'sliding' | 'latent' | 'linear' | 'shared';

/** What one layer computes and caches. Dims are elements per head. */
export interface LayerShape {
  /** What the layer caches. */
  readonly kind: LayerKind;
  /** N of this layer, where it is not the model's `numHeads`. */
  readonly numHeads?: number;
  /** K of this layer; 0 in a `linear` layer. In a `latent` layer the heads the latent expands to (N). */
  readonly numKeyValueHeads: number;
  /** H of queries and keys. */
  readonly keyHeadDim: number;
  /** H of values. */
  readonly valueHeadDim: number;
  /** Keys a query sees, itself included; on `sliding` layers only. (For a chunked layer: the chunk.) */
  readonly window?: number;
  /** What a `latent` layer (or a sliding one with latent rows) caches per token: `rank + ropeDim` values. */
  readonly latent?: {
    /** Width of the latent that keys and values are made from. */
    readonly rank: number;
    /** Width of the rotated key that all heads share. */
    readonly ropeDim: number;
    /** A GGUF without `key_length_mla`: llama.cpp expands its rows before it caches them. */
    readonly expandedInLlamaCpp?: true;
  };
  /** Width of the one key per token that a sparse layer's indexer caches beside its keys and values. */
  readonly indexKeyDim?: number;
}

/** Frozen, as are its layers. Values that a file need not state are undefined when it does not. */
export interface ModelShape {
  /** Hugging Face's `model_type` of the text model, or GGUF's `general.architecture`. */
  readonly modelType: string;
  /** Decoder layers. */
  readonly numLayers: number;
  /** N; the largest when layers differ. */
  readonly numHeads: number;
  /** K; the largest when layers differ. It says nothing about an MLA cache: see `layers`. */
  readonly numKeyValueHeads: number;
  /** H of queries and keys; the largest when layers differ. Not always `hiddenSize / numHeads`. */
  readonly headDim: number;
  /** H of values. */
  readonly valueHeadDim: number;
  /** D, the width of the residual stream. */
  readonly hiddenSize: number;
  /** Width of the (dense) feed-forward layer; the largest when layers differ. */
  readonly intermediateSize: number | undefined;
  readonly vocabSize: number | undefined;
  readonly maxPositionEmbeddings: number | undefined;
  /** Whether input embedding and output head are one matrix; undefined when only the tensors can tell. */
  readonly tiedEmbeddings: boolean | undefined;
  /** One entry per decoder layer, in order. */
  readonly layers: readonly LayerShape[];
  /** Doubts about the sizes: keys about attention that are not known here. Absent when there are none. */
  readonly warnings?: readonly string[];
}

/** More heads than any model has. It bounds what is done per head, such as listing the divisors of N. */
const MAX_HEADS = 65_536;

/** The names the file uses, so that an error says what to look for in it. */
export interface ShapeKeys {
  readonly heads: string;
  readonly keyValueHeads: string;
}

/**
 * Checks what every family must satisfy and freezes the shape.
 * @param file what errors call the source
 * @param keys the file's own names of the head counts
 * @throws FormatError when K does not divide N in a layer, or a size is not a positive integer
 */
export function freezeShape(file: string, shape: ModelShape, keys: ShapeKeys): ModelShape {
  const { layers } = shape;
  if (shape.numHeads > MAX_HEADS) {
    throw new FormatError(
      file,
      undefined,
      `${keys.heads}: expected at most ${MAX_HEADS} query heads, got ${shape.numHeads}`,
    );
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
      throw new FormatError(
        file,
        undefined,
        `${keys.keyValueHeads}: expected a divisor of the query heads (${keys.heads} N=${N}), got K=${K}${where}`,
      );
    }
    if (keyHeadDim < 1 || valueHeadDim < 1) {
      throw new FormatError(
        file,
        undefined,
        `expected head dims >= 1, got ${keyHeadDim} and ${valueHeadDim}`,
      );
    }
  }
  for (const layer of layers) {
    if (layer.latent !== undefined) Object.freeze(layer.latent);
    Object.freeze(layer);
  }
  Object.freeze(layers);
  if (shape.warnings !== undefined) Object.freeze(shape.warnings);
  return Object.freeze({ ...shape });
}
