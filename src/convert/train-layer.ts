/**
 * Trains the q, k, v and o of one layer to give an attention output that is known, by AdamW on the squared
 * error. Nothing else of the model takes part, so a step costs one attention block forward and backward.
 */
import { type ParameterOwner, valueAndGrad } from '../autograd/grad.ts';
import { attentionBlock } from '../models/decoder.ts';
import type { DecoderConfig } from '../models/decoder-config.ts';
import type { DecoderPass } from '../models/decoder-pass.ts';
import type { DecoderLayer } from '../models/decoder-weights.ts';
import type { ProjectionOf } from '../models/weight-place.ts';
import { mul, sub } from '../ops/binary.ts';
import { sum } from '../ops/reduce.ts';
import { foldIn, key, permutation } from '../random/index.ts';
import { eventLoopTurn } from '../tensor/event-loop.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { Optimizer } from '../train/optimizer.ts';
import { adamw, clipByGlobalNorm } from '../train/optimizers.ts';
import { warmupCosineDecaySchedule } from '../train/schedules.ts';
import { chain } from '../train/transformation.ts';
import { projectionsOf } from './mixed-layer.ts';

/** Rows of tokens and what the layer is to give for them. */
export interface LayerBatch {
  readonly pass: DecoderPass;
  /** The normalised residual stream that the layer reads, `[B, T, D]`. */
  readonly input: Tensor;
  /** What its attention is to add to the residual stream, `[B, T, D]`. */
  readonly target: Tensor;
  /** The factor of each token's error, `[B, T, 1]`. */
  readonly weight: Tensor;
}

export interface LayerTraining {
  readonly steps: number;
  readonly learningRate: number;
  readonly seed: number;
  readonly onStep: () => void;
}

/** The mean over batches of the sum of squares of `weight * target`: errors are given as a share of it. */
function targetSize(batches: readonly (() => LayerBatch)[]): number {
  const sizes = batches.map((batch) =>
    scope(() => {
      const { target, weight } = batch();
      return squares(mul(target, weight)).dataSync()[0];
    }),
  );
  return Math.max(1e-30, sizes.reduce((total, size) => total + Number(size), 0) / batches.length);
}

/** sum of (weight * (output - target))^2 of a batch, differentiable in the layer's weights. */
export function layerError(
  config: DecoderConfig,
  layer: DecoderLayer,
  index: number,
  { pass, input, target, weight }: LayerBatch,
): Tensor {
  const { output } = attentionBlock(config, layer, pass, index, input);
  return squares(mul(sub(output, target), weight));
}

function squares(x: Tensor): Tensor {
  return sum(mul(x, x));
}

/**
 * Changes the weights of `layer` in place; its matrices q, k, v and o must be f32 and its own.
 * @param batches make them, for a step each: all together would be several times the text's residual stream
 */
export async function trainLayer(
  config: DecoderConfig,
  layer: DecoderLayer,
  index: number,
  batches: readonly (() => LayerBatch)[],
  training: LayerTraining,
): Promise<void> {
  const { steps, seed, onStep } = training;
  const { owner, optimizer } = layerOptimizer(projectionsOf(layer), training);
  const share = 1 / targetSize(batches);
  let order: number[] = [];
  for (let s = 0; s < steps; s++) {
    const at = s % batches.length;
    if (at === 0) order = shuffled(batches.length, seed, index, s / batches.length);
    const lossOf = () => mul(layerError(config, layer, index, batches[order[at]]()), share);
    const [loss, gradients] = valueAndGrad(lossOf as (own: typeof owner) => Tensor)(owner);
    checkLoss(loss);
    optimizer.update(owner, gradients);
    onStep();
    await eventLoopTurn();
  }
  for (const tensor of Object.values(optimizer.tensors)) tensor.dispose();
}

/** Frees the loss. @throws Error unless it is finite */
export function checkLoss(loss: Tensor): void {
  const value = loss.dataSync()[0];
  loss.dispose();
  if (Number.isFinite(value)) return;
  throw new Error(`distill: expected a finite loss, got ${value}; are all weights of the checkpoint finite?`);
}

/** AdamW on some matrices, with warm-up and cosine decay. */
export function layerOptimizer(
  matrices: readonly ProjectionOf<Tensor>[],
  { steps, learningRate }: Pick<LayerTraining, 'steps' | 'learningRate'>,
): { readonly owner: ParameterOwner; readonly optimizer: Optimizer } {
  const parameters = new Map(matrices.map(({ weight }, i) => [`${i}`, { value: weight }]));
  const owner = { parameters: () => parameters };
  const schedule = warmupCosineDecaySchedule({
    initValue: learningRate / (Math.ceil(steps / 10) + 1),
    peakValue: learningRate,
    warmupSteps: Math.ceil(steps / 10),
    decaySteps: steps + 1,
    endValue: learningRate / 20,
  });
  const step = adamw({ learningRate: schedule, b2: 0.95, weightDecay: 0 });
  return { owner, optimizer: new Optimizer(owner, chain(clipByGlobalNorm(1), step)) };
}

/** The order of the batches in one pass over them. */
export function shuffled(count: number, seed: number, layer: number, epoch: number): number[] {
  return scope(() =>
    Array.from(permutation(foldIn(foldIn(key(seed), layer), epoch), count).dataSync(), Number),
  );
}
