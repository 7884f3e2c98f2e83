/**
 * Measures this machine for `planSpeed`, in about two seconds: how fast the kernels read weights of a model's
 * types and sizes in a step of one token, how fast they multiply many rows, and what a layer costs beside.
 */

import { getBackend } from '../backend/registry.ts';
import { llamaConfig } from '../models/llama-config.ts';
import { createModel } from '../models/trainable-model.ts';
import { ones } from '../ops/creation.ts';
import { linear } from '../ops/linear.ts';
import type { Device, ModelShape, StorageType, WeightGroup } from '../plan/index.ts';
import { byteLengthOf, type DType, isDType } from '../tensor/dtype.ts';
import { scope } from '../tensor/scope.ts';
import { Tensor } from '../tensor/tensor.ts';

/** Weights that are read in turn: more than caches hold, unless the model itself is smaller. */
const MOST_BYTES = 1 << 28;
/** Rows of a pass whose time is products. */
const MANY_ROWS = 256;
const SECONDS = 0.3;

/** @throws RangeError for weights of a type without kernels */
export function measureDevice(shape: ModelShape, weights: readonly WeightGroup[]): Device {
  const hasHead = weights.some(({ kind }) => kind === 'head');
  const bytesOf = new Map<StorageType, number>();
  for (const { kind, dtype, bytes } of weights) {
    const isRead = kind !== 'other' && !(kind === 'embedding' && hasHead);
    if (isRead) bytesOf.set(dtype, bytes + (bytesOf.get(dtype) ?? 0));
  }
  const total = [...bytesOf.values()].reduce((sum, bytes) => sum + bytes, 0);
  const size = matrixSize(shape);
  let secondsToRead = 0;
  let secondsToMultiply = 0;
  for (const [dtype, bytes] of bytesOf) {
    const share = bytes / total;
    const { bandwidth, flops } = measured(checkedType(dtype), size, Math.min(total, MOST_BYTES) * share);
    secondsToRead += share / bandwidth;
    secondsToMultiply += share / flops;
  }
  return { bandwidth: 1 / secondsToRead, flops: 1 / secondsToMultiply, secondsPerLayer: secondsPerLayer() };
}

function checkedType(dtype: StorageType): DType {
  if (isDType(dtype) && !/^([iu]\d+|bool)$/.test(dtype)) return dtype;
  throw new RangeError(`plan: expected weights of a type with kernels for --device this, got ${dtype}`);
}

/** Of the feed-forward layers, in whole blocks. */
function matrixSize({ hiddenSize: D, intermediateSize, experts }: ModelShape): readonly [number, number] {
  return [experts?.intermediateSize ?? intermediateSize ?? 4 * D, Math.ceil(D / 256) * 256];
}

function measured(
  dtype: DType,
  [outs, ins]: readonly [number, number],
  bytes: number,
): { readonly bandwidth: number; readonly flops: number } {
  const backend = getBackend();
  const matrixBytes = byteLengthOf(dtype, outs * ins);
  const fill = new Uint8Array(matrixBytes).fill(0x11); // small normal numbers in every type
  const matrices = Array.from({ length: Math.max(1, Math.round(bytes / matrixBytes)) }, () => {
    const storage = backend.allocate(matrixBytes);
    backend.write(storage, fill);
    return new Tensor(storage, dtype, [outs, ins]);
  });
  const pass = (rows: number, some: readonly Tensor[]) =>
    scope(() => {
      const x = ones([rows, ins]);
      for (const matrix of some) linear(x, matrix).dispose();
    });
  const one = medianSeconds(() => pass(1, matrices));
  const few = matrices.slice(0, 4);
  const many = medianSeconds(() => pass(MANY_ROWS, few));
  for (const matrix of matrices) matrix.dispose();
  return {
    bandwidth: (matrices.length * matrixBytes) / one,
    flops: (2 * MANY_ROWS * outs * ins * few.length) / many,
  };
}

/** A decoding step of a model so small that reading and products take no time. */
function secondsPerLayer(): number {
  const numLayers = 16;
  const model = createModel(llamaConfig({ vocabSize: 32, hiddenSize: 32, numLayers, numHeads: 1 }));
  const cache = model.initCache({ batchSize: 1, maxLength: 64 });
  model.forward([[1]], { cache }).dispose();
  const seconds = medianSeconds(() => {
    model.forward([[1]], { cache }).dispose();
    cache.truncate(0, 1);
  });
  cache.dispose();
  model.dispose();
  return seconds / numLayers;
}

/** The median time of a call. */
function medianSeconds(call: () => void): number {
  call();
  const times: number[] = [];
  for (const start = performance.now(); performance.now() - start < 1000 * SECONDS || times.length < 3; ) {
    const before = performance.now();
    call();
    times.push(performance.now() - before);
  }
  return times.sort((a, b) => a - b)[times.length >> 1] / 1000;
}
