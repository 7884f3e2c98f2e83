/**
 * Measures this machine for `planSpeed`, in a few seconds: how fast a Llama with layers of the model's sizes
 * and types of weights takes a prompt, and then token after token. What limits such layers beside reading and
 * products (small matrices, threads that wait for each other, norms) is in the rates.
 */

import { getBackend } from '../backend/registry.ts';
import type { DecoderNames } from '../models/decoder-config.ts';
import { decoderWeights } from '../models/decoder-weights.ts';
import { describeConfig } from '../models/describe-model.ts';
import { llamaConfig } from '../models/llama-config.ts';
import { Model } from '../models/model.ts';
import { ropeTables } from '../models/rope-table.ts';
import type { WeightPlace } from '../models/weight-place.ts';
import { PREFILL_CHUNK } from '../plan/activations.ts';
import type { Device, ModelShape, StorageType, WeightGroup } from '../plan/index.ts';
import { bytesRead } from '../plan/plan-speed.ts';
import { byteLengthOf, DTYPES, type DType, isDType } from '../tensor/dtype.ts';
import { sizeOf } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';

/** Weights of the layers that one token reads: more than caches hold, unless the model's are fewer. */
const LAYER_BYTES = 1 << 28;
/** Tokens of the prompt, at most. */
const MOST_TOKENS = 2048;
const SECONDS = 0.75;

/**
 * @param contextLength tokens that the model sees
 * @throws RangeError for weights of a type without kernels
 */
export function measureDevice(
  shape: ModelShape,
  weights: readonly WeightGroup[],
  contextLength: number,
): Device {
  const { model, layerWeights, stepBytes } = likeModel(shape, weights);
  const { numLayers, numHeads: N } = model.config;
  const most = Math.max(PREFILL_CHUNK, Math.min(contextLength, MOST_TOKENS));
  const cache = model.initCache({ batchSize: 1, maxLength: most + 1 });
  const feed = (tokens: number) => {
    const ids = new Array<number>(tokens).fill(0);
    model.forward([ids], { cache, logits: 'last' }).dispose();
  };
  try {
    feed(PREFILL_CHUNK);
    cache.truncate(0, 0);
    const start = performance.now();
    while (cache.lengths[0] + PREFILL_CHUNK <= most && performance.now() - start < 1000 * SECONDS)
      feed(PREFILL_CHUNK);
    const seconds = (performance.now() - start) / 1000;
    const tokens = cache.lengths[0];
    const attention = 4 * N * shape.headDim * (tokens / 2) * numLayers;
    const step = medianSeconds(() => {
      feed(1);
      cache.truncate(0, tokens);
    });
    const cacheBytes = (cache.bytes * tokens) / (most + 1);
    return {
      bandwidth: (stepBytes + cacheBytes) / step,
      flops: (tokens * (2 * layerWeights + attention)) / seconds,
    };
  } finally {
    cache.dispose();
    model.dispose();
  }
}

/** A model of some of the layers and a head. */
function likeModel(
  shape: ModelShape,
  groups: readonly WeightGroup[],
): { readonly model: Model; readonly layerWeights: number; readonly stepBytes: number } {
  const ofLayers = groups.filter(({ kind }) => kind === 'attention' || kind === 'mlp' || kind === 'experts');
  const perLayer = Math.max(1, bytesRead(shape, ofLayers, 1) / shape.numLayers);
  const numLayers = Math.max(1, Math.min(shape.numLayers, Math.round(LAYER_BYTES / perLayer)));
  const { config, names } = describeConfig(configLike(shape, groups, numLayers));
  const backend = getBackend();
  const tensors: Tensor[] = [];
  let layerWeights = 0;
  let stepBytes = 0;
  const make = (place: WeightPlace): Tensor => {
    const isTable = place.name === `${names.embedding}.weight`;
    // A table that is not the head too is read by single rows.
    const isRow = isTable && !config.tiedEmbeddings;
    const tensorShape = isRow ? [1, place.shape[1]] : place.shape;
    const dtype = dtypeOf(place, names, groups);
    const bytes = byteLengthOf(dtype, sizeOf(tensorShape));
    const storage = backend.allocate(bytes);
    const tensor = new Tensor(storage, dtype, tensorShape);
    tensors.push(tensor);
    // Normal numbers in every type, about 0.01 or 1.
    backend.write(storage, new Uint8Array(bytes).fill(0x3c));
    if (!isRow) stepBytes += bytes;
    if (!isTable && place.name !== `${names.head}.weight`) layerWeights += sizeOf(tensorShape);
    return tensor;
  };
  try {
    const weights = decoderWeights(config, names, make);
    const parts = { config, weights, tensors, backend, endTokenIds: [], origin: { names } };
    return { model: new Model({ ...parts, ...ropeTables(config) }), layerWeights, stepBytes };
  } catch (error) {
    for (const tensor of tensors) tensor.dispose();
    throw error;
  }
}

function configLike(
  shape: ModelShape,
  groups: readonly WeightGroup[],
  numLayers: number,
): Record<string, unknown> {
  const { hiddenSize, numHeads, numKeyValueHeads, headDim, vocabSize = 1, intermediateSize, experts } = shape;
  // Of a mixture the experts that one token chooses, as one layer.
  const chosen =
    experts && experts.expertsPerToken * experts.intermediateSize + experts.sharedIntermediateSize;
  return llamaConfig({
    ...{ vocabSize, hiddenSize, numLayers, numHeads, headDim },
    numKeyValueHeads: Math.max(1, numKeyValueHeads),
    intermediateSize: chosen ?? intermediateSize ?? 4 * hiddenSize,
    tiedEmbeddings: !groups.some(({ kind }) => kind === 'head'),
  });
}

/** The type that most of the model's weights of a kind have, of those whose blocks divide the rows. */
function dtypeOf(place: WeightPlace, names: DecoderNames, groups: readonly WeightGroup[]): DType {
  if (place.shape.length === 1) return 'f32';
  const { name, shape } = place;
  const isOf: Record<string, boolean> = {
    embedding: name === `${names.embedding}.weight`,
    head: name === `${names.head}.weight`,
    mlp: /\.mlp\./.test(name),
    experts: /\.mlp\./.test(name),
    attention: /\.self_attn\./.test(name),
  };
  const types = groups
    .filter(({ kind }) => isOf[kind])
    .sort((a, b) => b.bytes - a.bytes)
    .map(({ dtype }) => checkedType(dtype));
  return types.find((dtype) => shape[1] % DTYPES[dtype].blockLength === 0) ?? 'f32';
}

function checkedType(dtype: StorageType): DType {
  if (isDType(dtype) && !/^([iu]\d+|bool)$/.test(dtype)) return dtype;
  throw new RangeError(`plan: expected weights of a type with kernels for --device this, got ${dtype}`);
}

/** The median time of a call, after some that are not counted: code that is not compiled yet is slow. */
function medianSeconds(call: () => void): number {
  for (const start = performance.now(); performance.now() - start < (1000 * SECONDS) / 2; ) call();
  const times: number[] = [];
  for (const start = performance.now(); performance.now() - start < 1000 * SECONDS || times.length < 3; ) {
    const before = performance.now();
    call();
    times.push(performance.now() - before);
  }
  return times.sort((a, b) => a - b)[times.length >> 1] / 1000;
}
