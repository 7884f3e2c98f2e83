/**
 * The inputs of one pass over rows of tokens that all layers share: ids, positions, the cache. Made by
 * `Model` for each forward pass, and by conversion to measure layers.
 */
import type { Backend } from '../backend/backend.ts';
import type { KeyValueCache } from '../cache/cache.ts';
import { upload } from '../ops/operands.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { DecoderConfig, QueryGrowth } from './decoder-config.ts';
import type { PassDropout } from './pass-dropout.ts';
import type { RopeTable, RopeTables } from './rope-table.ts';
import type { TokenBatch } from './token-batch.ts';

/** f32 `[B, T, rotaryDim / 2]` each. */
export interface Rotation {
  readonly cos: Tensor;
  readonly sin: Tensor;
}

export interface DecoderPass {
  /** i32 `[B, T]` */
  readonly ids: Tensor;
  /** Real tokens of each row. */
  readonly lengths: readonly number[];
  /** Position of each row's first token. */
  readonly offsets: readonly number[];
  /** For models with RoPE. */
  readonly rotation?: Rotation;
  /** For layers with a window, if their rotary frequencies differ. */
  readonly windowRotation?: Rotation;
  /** f32 `[B, T, 1, 1]`; of models with `queryGrowth`. */
  readonly queryScale?: Tensor;
  /** i32 `[B, T]`; of models with learned positions. */
  readonly positions?: Tensor;
  /** `[B, T, layers, P]`; of models with `layerInputs`. */
  readonly layerInputs?: Tensor;
  /**
   * Of models in which layers read the keys and values of earlier ones, in passes without a cache: those of
   * the layers so far.
   */
  readonly shared?: Map<number, SharedHeads>;
  /** With room for this pass already reserved. */
  readonly cache?: KeyValueCache;
  /** For training passes, which have no cache. */
  readonly dropout?: PassDropout;
  /** Called in each layer after its attention; it must not keep tensors of `seen`. */
  readonly observe?: (seen: SeenAttention) => void;
}

/** Intermediate tensors of one layer. */
export interface SeenAttention {
  readonly layer: number;
  /**
   * `[B, T, N, H]`, `[B, T, K, H]`; normalised and rotated. Absent, as `value`, where attention is latent;
   * keys and values also where they are another layer's, in a cache.
   */
  readonly query?: Tensor;
  readonly key?: Tensor;
  /** `[B, T, K, H]` */
  readonly value?: Tensor;
  /** Computes the softmax weights `[B, N, T, S]`, S the keys of the longest row; zeros past a row's end. */
  readonly weights: () => Tensor;
  /** `[B, T, D]`: what is added to the residual stream. */
  readonly output: Tensor;
}

/** Keys and values of a layer that later ones read: `[B, T, K, H]`. */
export interface SharedHeads {
  readonly key: Tensor;
  readonly value: Tensor;
}

/** Of attention that is not latent. */
export type SeenHeads = SeenAttention & Required<Pick<SeenAttention, 'query' | 'key' | 'value'>>;

/** What an attention returns: its output `[B, T, N, Hv]`, and what an observer may see of it. */
export type Attended = { readonly attended: Tensor } & Pick<
  SeenAttention,
  'query' | 'key' | 'value' | 'weights'
>;

/** The parts of a model that a pass needs. */
export interface PassModel extends RopeTables {
  readonly backend: Backend;
  readonly config: DecoderConfig;
}

/** Positions of the rows of a pass. */
export interface PassRows {
  /** Position of each row's first token. */
  readonly offsets: readonly number[];
  /** The row lengths that choose the rotary frequencies. */
  readonly ends: readonly number[];
  readonly cache?: KeyValueCache;
}

/** Uploads the tensors of a pass over `batch`; freed by the enclosing scope or `freePass`. */
export function makePass(
  { backend, config, ropeTable, windowRopeTable }: PassModel,
  batch: TokenBatch,
  { offsets, ends, cache }: PassRows,
  dropout?: PassDropout,
): DecoderPass {
  const { batchSize: B, length: T, lengths } = batch;
  const ids = upload(backend, 'i32', batch.ids, [B, T]);
  if (!ropeTable) {
    const { maxPositionEmbeddings, positionOffset = 0 } = config;
    const numbers = Int32Array.from(
      batch.ids,
      (_, i) => positionOffset + Math.min(offsets[Math.floor(i / T)] + (i % T), maxPositionEmbeddings - 1),
    );
    return { ids, lengths, offsets, positions: upload(backend, 'i32', numbers, [B, T]), cache, dropout };
  }
  const rotation = (table: RopeTable): Rotation => {
    const { cos, sin } = table.rows(offsets, T, ends);
    const shape = [B, T, table.half];
    return { cos: upload(backend, 'f32', cos, shape), sin: upload(backend, 'f32', sin, shape) };
  };
  const { queryGrowth } = config;
  const shares = !cache && config.attention.some(({ reads }) => reads !== undefined);
  return {
    ids,
    lengths,
    offsets,
    queryScale: queryGrowth && upload(backend, 'f32', queryScales(queryGrowth, offsets, T), [B, T, 1, 1]),
    rotation: rotation(ropeTable),
    windowRotation: windowRopeTable && rotation(windowRopeTable),
    ...(shares && { shared: new Map() }),
    cache,
    dropout,
  };
}

function queryScales(
  { beta, interval, first }: QueryGrowth,
  offsets: readonly number[],
  T: number,
): Float32Array {
  return Float32Array.from({ length: offsets.length * T }, (_, i) => {
    const position = offsets[Math.floor(i / T)] + (i % T) + first;
    return 1 + beta * Math.log1p(Math.floor(position / interval));
  });
}

/** Frees what `makePass` uploaded outside of any scope. */
export function freePass({ ids, positions, queryScale, rotation, windowRotation }: DecoderPass): void {
  for (const tensor of [
    ids,
    positions,
    queryScale,
    rotation?.cos,
    rotation?.sin,
    windowRotation?.cos,
    windowRotation?.sin,
  ])
    tensor?.dispose();
}
