/** `Trainer`: nanoGPT's training recipe. Source: github.com/karpathy/nanoGPT train.py. */

import { aNumber, aSignal, checkInteger, describe } from '../arguments/kinds.ts';
import { checkOptions, type OptionKinds, optionKinds } from '../arguments/options.ts';
import { valueAndGrad } from '../autograd/grad.ts';
import { addInto } from '../backend/add-into.ts';
import type { TrainSettings } from '../checkpoint/training-recipe.ts';
import type { TrainableModel } from '../models/trainable-model.ts';
import { mul } from '../ops/binary.ts';
import type { DropoutMask } from '../ops/dropout.ts';
import { eventLoopTurn } from '../tensor/event-loop.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { causalLmLoss } from './causal-lm-loss.ts';
import { checkNotNegative } from './checks.ts';
import { Optimizer } from './optimizer.ts';
import { adamw, clipByGlobalNorm, globalNorm } from './optimizers.ts';
import { type Schedule, warmupCosineDecaySchedule } from './schedules.ts';
import { checkSplit, drawBatch, drawKey, type TokenSplit } from './token-data.ts';
import { chain, disposeAll, type Tensors } from './transformation.ts';

/** The options with their defaults filled in. */
export type TrainerSettings = Omit<TrainSettings, 'validation'>;

/** Required settings, and optional ones; `TrainSettings` gives their defaults. */
export type TrainerOptions = Partial<TrainerSettings> &
  Pick<TrainerSettings, 'batchSize' | 'blockLength' | 'steps' | 'learningRate'>;

/** Their kinds. */
export const TRAINER_KINDS: OptionKinds<TrainerOptions> = {
  batchSize: aNumber,
  blockLength: aNumber,
  steps: aNumber,
  accumulate: aNumber,
  learningRate: aNumber,
  minLearningRate: aNumber,
  warmupSteps: aNumber,
  weightDecay: aNumber,
  b1: aNumber,
  b2: aNumber,
  clip: aNumber,
  dropout: aNumber,
  seed: aNumber,
  evaluationBatches: aNumber,
  firstBatch: aNumber,
};
const OPTIONS = optionKinds<TrainerOptions>(TRAINER_KINDS);

/** Options of `Trainer.advanceAsync`. */
export interface AdvanceOptions {
  /** Ends the step before its update. */
  readonly signal?: AbortSignal;
}

const ADVANCE_OPTIONS = optionKinds<AdvanceOptions>({ signal: aSignal });

/** The loss of a batch, where it is not the cross-entropy of its tokens. */
export interface BatchLoss {
  /** Gets what the loss of the batch with this index needs; called before `of`. */
  prepare(index: number): Promise<void>;
  /** A scalar: the loss of the model on the rows of tokens of the batch with this index. */
  of(
    model: TrainableModel,
    batch: readonly (readonly number[])[],
    dropout: DropoutMask,
    index: number,
  ): Tensor;
  /** Called after the last step of the run. */
  finish(): Promise<void>;
}

/** Thrown when the loss is not finite; the step was not taken. */
export class DivergedError extends Error {
  override readonly name = 'DivergedError';
}

/**
 * nanoGPT's recipe: AdamW with weight decay on matrices, gradient clipping, warm-up and cosine decay, random
 * blocks of one long text, and estimates of both losses.
 *
 * Source: github.com/karpathy/nanoGPT train.py.
 * @example
 * const data = splitTokens(Int32Array.from(tokens.flat()), 64, 0.1);
 * const trainer = new Trainer(model, data, { batchSize: 8, blockLength: 64, steps: 100, learningRate: 1e-3 });
 * while (trainer.step < 100) console.log(trainer.advance()); // the mean loss of the step's batches
 */
export class Trainer {
  readonly model: TrainableModel;
  readonly optimizer: Optimizer;
  readonly schedule: Schedule;
  readonly settings: TrainerSettings;
  readonly #data: TokenSplit;
  readonly #loss: BatchLoss | undefined;
  #step = 0;
  #isAdvancing = false;

  /**
   * @param data two parts of tokens, each longer than a block, as `splitTokens` gives them
   * @throws RangeError for options out of range or too few tokens, TypeError for other data
   */
  constructor(model: TrainableModel, data: TokenSplit, options: TrainerOptions);
  /** @internal @param loss what a step minimises; default the cross-entropy of its batches */
  constructor(model: TrainableModel, data: TokenSplit, options: TrainerOptions, loss?: BatchLoss);
  constructor(model: TrainableModel, data: TokenSplit, options: TrainerOptions, loss?: BatchLoss) {
    checkOptions('Trainer', options, OPTIONS);
    const full = trainerSettings(options);
    checkSplit('Trainer', data, full.blockLength);
    this.model = model;
    this.#data = data;
    this.#loss = loss;
    this.settings = full;
    this.schedule = warmupCosineDecaySchedule({
      initValue: full.learningRate / Math.max(1, full.warmupSteps + 1),
      peakValue: full.learningRate,
      warmupSteps: full.warmupSteps,
      decaySteps: Math.max(full.steps, full.warmupSteps + 1),
      endValue: full.minLearningRate,
    });
    const step = chain(
      ...(full.clip > 0 ? [clipByGlobalNorm(full.clip)] : []),
      adamw({
        learningRate: this.schedule,
        b1: full.b1,
        b2: full.b2,
        weightDecay: full.weightDecay,
        mask: (parameter) => parameter.shape.length >= 2,
      }),
    );
    this.optimizer = new Optimizer(model, step);
  }

  /** Steps taken. */
  get step(): number {
    return this.#step;
  }

  /** Sets the step; the caller restores parameters and optimiser. */
  resumeAt(step: number): void {
    this.#step = step;
  }

  /** Tokens that one step reads. */
  get tokensPerStep(): number {
    const { batchSize, blockLength, accumulate } = this.settings;
    return batchSize * blockLength * accumulate;
  }

  /** Gets what the loss of the next step needs. @internal */
  async prepare(): Promise<void> {
    const { accumulate } = this.settings;
    for (let i = 0; i < accumulate; i++) await this.#loss?.prepare(this.#step * accumulate + i);
  }

  /** Frees what the loss kept for the run. @internal */
  async finish(): Promise<void> {
    await this.#loss?.finish();
  }

  /**
   * One step.
   * @throws DivergedError when the loss of one of its batches or the norm of their gradients is not finite.
   *   After any error, parameters and optimiser are unchanged.
   * @returns the mean loss of its batches, before the step
   */
  advance(): number {
    const parts = this.#advance();
    let part = parts.next();
    while (!part.done) part = parts.next();
    return part.value;
  }

  /**
   * `advance` with a turn of the event loop after each of its `accumulate` batches, so that timers, messages
   * and an abort are not held up by a long step.
   * @throws as `advance`; Error while another step runs; the reason of an aborted signal. Parameters and
   * optimiser are unchanged then
   */
  async advanceAsync(options: AdvanceOptions = {}): Promise<number> {
    checkOptions('advanceAsync', options, ADVANCE_OPTIONS);
    const { signal } = options;
    signal?.throwIfAborted();
    const parts = this.#advance();
    let part = parts.next();
    while (!part.done) {
      await eventLoopTurn();
      part = signal?.aborted ? parts.throw(signal.reason) : parts.next();
    }
    return part.value;
  }

  /** One step; it yields after each batch. */
  *#advance(): Generator<void, number> {
    const { accumulate } = this.settings;
    let total = 0;
    let mean: Record<string, Tensor> = {};
    if (this.#isAdvancing) {
      throw new Error('advance: expected the step before to be done, got one that runs; await advanceAsync');
    }
    this.#isAdvancing = true;
    try {
      for (let i = 0; i < accumulate; i++) {
        const [loss, gradients] = this.#lossAndGradients(this.#step * accumulate + i);
        mean = i === 0 && accumulate === 1 ? gradients : addScaled(mean, gradients, 1 / accumulate);
        total += loss;
        yield;
      }
      this.#checkFinite('norm of the gradients', read(globalNorm(mean)));
      this.optimizer.update(this.model, mean);
    } catch (error) {
      disposeAll(mean);
      throw error;
    } finally {
      this.#isAdvancing = false;
    }
    this.#step++;
    return total / accumulate;
  }

  /** Loss and gradients of one batch, by its index in the run. */
  #lossAndGradients(number: number): [loss: number, gradients: Record<string, Tensor>] {
    const { seed, firstBatch, dropout } = this.settings;
    const index = firstBatch + number;
    const batch = trainingBatch(this.#data, this.settings, number);
    const drop = { dropoutRate: dropout, dropoutKey: drawKey(seed, 'dropout', index) };
    const lossOf = (model: TrainableModel) =>
      this.#loss?.of(model, batch, drop, number) ?? causalLmLoss(model, batch, drop);
    const [loss, gradients] = valueAndGrad(lossOf)(this.model);
    const value = read(loss);
    try {
      this.#checkFinite('loss', value);
    } catch (error) {
      disposeAll(gradients);
      throw error;
    }
    return [value, gradients];
  }

  /** @throws DivergedError */
  #checkFinite(what: string, value: number): void {
    if (Number.isFinite(value)) return;
    const advice =
      this.#step === 0
        ? 'before any was taken: expected weights that give a finite one'
        : `a smaller learning rate than ${this.settings.learningRate} may help`;
    throw new DivergedError(`the ${what} is ${value} at step ${this.#step + 1}; ${advice}`);
  }

  /** Mean loss over `evaluationBatches` batches of a part, the same ones each time. */
  evaluate(part: 'train' | 'validation'): number {
    const { evaluationBatches, seed, batchSize, blockLength } = this.settings;
    const { start } = this.#data;
    let total = 0;
    for (let index = 0; index < evaluationBatches; index++) {
      const stream = part === 'train' ? 'evaluate-train' : 'evaluate-validation';
      const batch = drawBatch(this.#data[part], { batchSize, blockLength, seed, stream, index, start });
      total += read(causalLmLoss(this.model, batch));
    }
    return total / evaluationBatches;
  }
}

/** The rows of the batch with this index in a run. */
export function trainingBatch(data: TokenSplit, settings: TrainerSettings, index: number): number[][] {
  const { batchSize, blockLength, seed, firstBatch } = settings;
  const { train, start } = data;
  const stream = 'train';
  return drawBatch(train, { batchSize, blockLength, seed, stream, index: firstBatch + index, start });
}

/** Reads a scalar and frees it. */
function read(scalar: Tensor): number {
  const value = scalar.dataSync()[0];
  scalar.dispose();
  return value;
}

/**
 * Adds `gradients * factor` to `sums`, in place; empty sums become them. It takes ownership of the gradients
 * and frees them.
 */
function addScaled(sums: Record<string, Tensor>, gradients: Tensors, factor: number): Record<string, Tensor> {
  for (const [path, gradient] of Object.entries(gradients)) {
    const part = mul(gradient, factor);
    gradient.dispose();
    const total = sums[path];
    if (total === undefined) sums[path] = part;
    else {
      addInto(total, total, part);
      part.dispose();
    }
  }
  return sums;
}

/**
 * The options with their defaults.
 * @throws TypeError for what is no number, RangeError for a number out of range
 */
export function trainerSettings(options: TrainerOptions): TrainerSettings {
  const { steps, learningRate } = options;
  const full = {
    accumulate: 1,
    minLearningRate: learningRate / 10,
    warmupSteps: Math.min(100, Math.floor(steps / 10)),
    weightDecay: 0.1,
    b1: 0.9,
    b2: 0.99,
    clip: 1,
    dropout: 0,
    seed: 1337,
    evaluationBatches: 20,
    firstBatch: 0,
    ...Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)),
    batchSize: options.batchSize,
    blockLength: options.blockLength,
    steps,
    learningRate,
  };
  for (const name of ['batchSize', 'blockLength', 'steps', 'accumulate', 'evaluationBatches'] as const) {
    checkInteger(OP, name, full[name], 1);
  }
  for (const name of ['warmupSteps', 'seed', 'firstBatch'] as const) checkInteger(OP, name, full[name], 0);
  for (const name of ['learningRate', 'minLearningRate', 'weightDecay'] as const) {
    checkNotNegative(OP, name, full[name]);
  }
  for (const name of ['b1', 'b2', 'dropout'] as const) {
    if (!(full[name] >= 0 && full[name] < 1)) {
      throw new RangeError(`${OP}: expected 0 <= ${name} < 1, got ${full[name]}`);
    }
  }
  if (typeof full.clip !== 'number' || !(full.clip === 0 || Math.fround(full.clip) > 0)) {
    throw new RangeError(
      `${OP}: expected clip to be a positive norm, or 0 for none, got ${describe(full.clip)}`,
    );
  }
  return { ...full, clip: Math.fround(full.clip) === Number.POSITIVE_INFINITY ? 0 : full.clip };
}

const OP = 'train';
