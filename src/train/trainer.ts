/**
 * nanoGPT's recipe: AdamW with weight decay on matrices, clipping, warm-up and cosine decay, random blocks of one long text,
 * estimates of both losses from time to time. `K` fewer key/value heads come with the model.
 *
 * Source: github.com/karpathy/nanoGPT train.py.
 */

import { valueAndGrad } from '../autograd/grad.ts';
import type { TrainableModel } from '../models/trainable-model.ts';
import { checkOptions } from '../tensor/arguments.ts';
import { causalLmLoss } from './causal-lm-loss.ts';
import { Optimizer } from './optimizer.ts';
import { adamw, clipByGlobalNorm, multiSteps } from './optimizers.ts';
import { type Schedule, warmupCosineDecaySchedule } from './schedules.ts';
import { drawBatch, drawKey, type TokenSplit } from './token-data.ts';
import { chain } from './transformation.ts';

export interface TrainerOptions {
  /** B; blocks per batch. */
  readonly batchSize: number;
  /** T; tokens per block. */
  readonly blockLength: number;
  /** Optimiser steps of the whole run; the learning rate falls until the last. */
  readonly steps: number;
  /** Batches per step, whose gradients are averaged; default 1. */
  readonly accumulate?: number;
  /** Peak of the schedule. */
  readonly learningRate: number;
  /** At the end; default a tenth of the peak. */
  readonly minLearningRate?: number;
  /** Default 100, at most a tenth of the steps. */
  readonly warmupSteps?: number;
  /** Of matrices; default 0.1. */
  readonly weightDecay?: number;
  /** Default 0.9. */
  readonly b1?: number;
  /** Default 0.99. */
  readonly b2?: number;
  /** Largest norm of all gradients together; default 1. */
  readonly clip?: number;
  /** Share that training steps drop (after the embedding, of attention's weights, after attention and the MLP); default 0. */
  readonly dropout?: number;
  /** Of the batches and the dropout; default 1337. */
  readonly seed?: number;
  /** Batches per estimate of a loss; default 20. */
  readonly evaluationBatches?: number;
  /** Where in the stream of batches the run begins, so that one can go on where another ended; default 0. */
  readonly firstBatch?: number;
}

/** The options with their defaults filled in. */
export type TrainerSettings = Required<TrainerOptions>;

/** Thrown when the loss is no number: the step was not taken. */
export class DivergedError extends Error {
  override readonly name = 'DivergedError';
}

export class Trainer {
  readonly model: TrainableModel;
  readonly optimizer: Optimizer;
  readonly schedule: Schedule;
  readonly settings: TrainerSettings;
  readonly #data: TokenSplit;
  #step = 0;

  /** @throws RangeError for options that cannot be meant. */
  constructor(model: TrainableModel, data: TokenSplit, options: TrainerOptions) {
    checkOptions('Trainer', options);
    const full = withDefaults(options);
    this.model = model;
    this.#data = data;
    this.settings = full;
    this.schedule = warmupCosineDecaySchedule({
      initValue: full.learningRate / Math.max(1, full.warmupSteps + 1),
      peakValue: full.learningRate,
      warmupSteps: full.warmupSteps,
      decaySteps: Math.max(full.steps, full.warmupSteps + 1),
      endValue: full.minLearningRate,
    });
    const step = chain(
      clipByGlobalNorm(full.clip),
      adamw({
        learningRate: this.schedule,
        b1: full.b1,
        b2: full.b2,
        weightDecay: full.weightDecay,
        mask: (parameter) => parameter.shape.length >= 2,
      }),
    );
    this.optimizer = new Optimizer(model, full.accumulate > 1 ? multiSteps(step, full.accumulate) : step);
  }

  /** Steps taken. */
  get step(): number {
    return this.#step;
  }

  /** Sets where the run is; the parameters and the optimiser's tensors are the caller's to restore. */
  resumeAt(step: number, counters: Readonly<Record<string, number>>): void {
    this.#step = step;
    this.optimizer.counters = counters;
  }

  /** Tokens that one step reads. */
  get tokensPerStep(): number {
    const { batchSize, blockLength, accumulate } = this.settings;
    return batchSize * blockLength * accumulate;
  }

  /**
   * One step.
   * @throws DivergedError when the loss is not finite; parameters and optimiser are as before.
   * @returns the mean loss of its batches, before the step
   */
  advance(): number {
    const { accumulate, seed, batchSize, blockLength, firstBatch, dropout } = this.settings;
    let total = 0;
    for (let i = 0; i < accumulate; i++) {
      const index = firstBatch + this.#step * accumulate + i;
      const batch = drawBatch(this.#data.train, { batchSize, blockLength, seed, stream: 'train', index });
      const drop = { dropoutRate: dropout, dropoutKey: drawKey(seed, 'dropout', index) };
      const [loss, gradients] = valueAndGrad((model: TrainableModel) => causalLmLoss(model, batch, drop))(
        this.model,
      );
      const value = loss.dataSync()[0];
      loss.dispose();
      if (!Number.isFinite(value)) {
        for (const gradient of Object.values(gradients)) gradient.dispose();
        throw new DivergedError(
          `the loss is ${value} at step ${this.#step + 1}; a smaller learning rate than ${this.settings.learningRate} may help`,
        );
      }
      this.optimizer.update(this.model, gradients);
      total += value;
    }
    this.#step++;
    return total / accumulate;
  }

  /** Mean loss over `evaluationBatches` batches of a part, the same ones each time. */
  evaluate(part: 'train' | 'validation'): number {
    const { evaluationBatches, seed, batchSize, blockLength } = this.settings;
    let total = 0;
    for (let index = 0; index < evaluationBatches; index++) {
      const stream = part === 'train' ? 'evaluate-train' : 'evaluate-validation';
      const batch = drawBatch(this.#data[part], { batchSize, blockLength, seed, stream, index });
      const loss = causalLmLoss(this.model, batch);
      total += loss.dataSync()[0];
      loss.dispose();
    }
    return total / evaluationBatches;
  }
}

function withDefaults(options: TrainerOptions): TrainerSettings {
  const { steps, learningRate } = options;
  const full: TrainerSettings = {
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
    if (!Number.isSafeInteger(full[name]) || full[name] < 1) {
      throw new RangeError(`train: expected ${name} to be a positive integer, got ${full[name]}`);
    }
  }
  for (const name of ['learningRate', 'minLearningRate', 'weightDecay'] as const) {
    if (!(full[name] >= 0 && full[name] < Number.POSITIVE_INFINITY)) {
      throw new RangeError(`train: expected ${name} of at least 0, got ${full[name]}`);
    }
  }
  if (!(full.dropout >= 0 && full.dropout < 1)) {
    throw new RangeError(`train: expected 0 <= dropout < 1, got ${full.dropout}`);
  }
  return full;
}
