/**
 * The decoder's weights from a checkpoint: first all names and shapes, so that a wrong file fails at once and
 * in one line, then the tensors. They stay as stored: fused projections are row ranges of one mapped tensor.
 * Only transposed matrices (GPT-2) are copied, since the kernels read weights by output.
 */
import type { Backend } from '../backend/backend.ts';
import type { Checkpoint, CheckpointTensor } from '../checkpoint/checkpoint.ts';
import { loadTensorAsync } from '../checkpoint/load-tensor.ts';
import { FormatError } from '../format/format-error.ts';
import type { DType } from '../tensor/dtype.ts';
import { eventLoopTurn } from '../tensor/event-loop.ts';
import { type Shape, sameShape, shapeText } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { DecoderConfig, DecoderNames } from './decoder-config.ts';
import { type DecoderWeights, decoderWeights, weightPlaces } from './decoder-weights.ts';
import { loadWeight } from './stored-weight.ts';
import type { WeightSource } from './weight-place.ts';

export interface LoadWeightsOptions {
  readonly backend: Backend;
  /** Converts float weights to this type; block types stay. f64 becomes f32 without it. */
  readonly dtype?: DType;
  readonly signal?: AbortSignal;
  /** Called with the bytes of the weights, as stored, that are in place, and with those of all. */
  readonly onProgress?: (done: number, total: number) => void;
  /**
   * Every tensor goes into this empty list as soon as it is made, so that the caller can free a half-loaded
   * model; in the end they are in the decoder's order.
   */
  readonly loaded: Tensor[];
}

/** More than any rope has frequencies. */
const MAX_VECTOR = 1 << 16;

const INTEGERS = /^(bool|[iu]\d+)$/;

/** @throws FormatError naming the tensor and both shapes when the file does not hold what the config says. */
export async function loadWeights(
  checkpoint: Checkpoint,
  config: DecoderConfig,
  names: DecoderNames,
  options: LoadWeightsOptions,
): Promise<DecoderWeights> {
  checkWeights(checkpoint, config, names);
  const places = weightPlaces(config, names);
  const placesOf = new Map<string, number[]>();
  for (const [index, { name }] of places.entries()) {
    const indices = placesOf.get(name);
    if (indices) indices.push(index);
    else placesOf.set(name, [index]);
  }
  const stored = [...placesOf.keys()].map((name) => checkpoint.tensor(name));
  const total = stored.reduce((sum, { byteLength }) => sum + byteLength, 0);
  let done = 0;
  const made: Tensor[] = [];
  // In the order of the file; all weights of a stored tensor at once, since it is fetched once.
  await checkpoint.backendFiles.whileFetched(
    options.backend,
    stored,
    async (index) => {
      for (const place of placesOf.get(stored[index].name) as number[]) {
        made[place] = loadWeight(checkpoint, places[place], options);
        options.loaded.push(made[place]);
      }
      await eventLoopTurn();
      options.signal?.throwIfAborted();
    },
    (bytes) => {
      done += bytes;
      options.onProgress?.(done, total);
    },
  );
  for (const [index, tensor] of made.entries()) options.loaded[index] = tensor;
  let next = 0;
  return decoderWeights(config, names, () => made[next++]);
}

/**
 * Checks names, shapes and types of all weights, and that nothing the config leaves out is there.
 * @throws FormatError naming the tensor and both shapes
 */
export function checkWeights(checkpoint: Checkpoint, config: DecoderConfig, names: DecoderNames): void {
  const used = new Set<string>();
  const check: WeightSource<void> = (place) => {
    checkTensor(checkpoint, place.name, place.stored);
    used.add(place.name);
  };
  decoderWeights(config, names, check);
  checkUnused(checkpoint, config, names, used);
}

/**
 * What the config leaves out although the file has it would change every logit: a bias, a norm, another
 * layer.
 * @throws FormatError naming the tensor and its shape
 */
function checkUnused(
  checkpoint: Checkpoint,
  config: DecoderConfig,
  names: DecoderNames,
  used: ReadonlySet<string>,
): void {
  const refuse = (name: string, expected: string) => {
    const info = checkpoint.tensors.get(name);
    if (!info) return;
    throw new FormatError(
      info.path,
      info.byteOffset,
      `expected ${expected}, got ${name} of shape ${shapeText(info.shape)}`,
    );
  };
  for (const name of used) {
    const bias = name.replace(/\.weight$/, '.bias');
    if (!used.has(bias)) refuse(bias, 'no such bias by the config');
  }
  const mixed = config.experts?.layers.indexOf(true) ?? -1;
  const experts = mixed < 0 ? undefined : names.layer(mixed).experts;
  if (config.experts && experts && !experts.stacked) {
    const { numExperts } = config.experts;
    refuse(experts.expert(numExperts).down.weight, `${numExperts} experts by the config`);
  }
  const { attentionOutput } = names.layer(config.numLayers + (config.extraLayers ?? 0));
  refuse(`${attentionOutput}.weight`, `${config.numLayers} layers by the config`);
  const prefix = /^(.*\.)0\./.exec(names.layer(0).attentionOutput)?.[1];
  for (const name of checkpoint.tensors.keys()) {
    const isLayers = prefix !== undefined && name.startsWith(prefix);
    const isWeight = /\.(weight|bias)$/.test(name) && !names.isBuffer?.(name);
    if (isLayers && isWeight && !used.has(name)) refuse(name, 'no such tensor by the config');
  }
}

/**
 * The header's entry of a tensor of floats or blocks.
 * @throws FormatError naming the tensor and both shapes
 */
export function checkTensor(checkpoint: Checkpoint, name: string, shape: Shape): CheckpointTensor {
  const info = checkpoint.tensors.get(name);
  const expected = `expected tensor ${name} of shape ${shapeText(shape)}`;
  if (!info) throw new FormatError(checkpoint.path, undefined, `${expected}, got none of that name`);
  if (!sameShape(info.shape, shape)) {
    throw new FormatError(info.path, info.byteOffset, `${expected}, got ${shapeText(info.shape)}`);
  }
  if (INTEGERS.test(info.dtype)) {
    throw new FormatError(info.path, info.byteOffset, `${expected} and a type of weights, got ${info.dtype}`);
  }
  return info;
}

/** The numbers of those of the tensors that are there and small vectors, by name. */
export async function readVectors(
  checkpoint: Checkpoint,
  backend: Backend,
  names: readonly string[],
): Promise<ReadonlyMap<string, readonly number[]>> {
  const numbers = new Map<string, readonly number[]>();
  for (const name of names) {
    const info = checkpoint.tensors.get(name);
    const isVector = info?.shape.length === 1 && info.shape[0] <= MAX_VECTOR && !INTEGERS.test(info.dtype);
    if (!isVector) continue;
    const tensor = await loadTensorAsync(checkpoint, name, { backend, dtype: 'f32' });
    try {
      numbers.set(name, Array.from(tensor.dataSync()));
    } finally {
      tensor.dispose();
    }
  }
  return numbers;
}
