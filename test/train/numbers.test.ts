/** Numbers that are out of range, or Infinity or 0 in f32, are refused by name before training starts. */
import { beforeAll, describe, expect, test } from 'vitest';
import { setBackend, type Tensor, tensor } from '../../src/index.ts';
import { Param } from '../../src/nn/index.ts';
import {
  adamw,
  chain,
  clipByGlobalNorm,
  constantSchedule,
  cosineDecaySchedule,
  createModel,
  drawBatch,
  evaluateTokens,
  linearSchedule,
  llamaConfig,
  multiSteps,
  Optimizer,
  sgd,
  splitTokens,
  Trainer,
  type TrainerOptions,
  type Transformation,
  warmupCosineDecaySchedule,
} from '../../src/train/index.ts';
import { type RunOptions, runTraining } from '../../src/train/training-run.ts';
import { uptrainSettings } from '../../src/train/uptrain-settings.ts';
import { backends } from '../ops/backends.ts';

const NO_NUMBERS = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
/** No f32 is as large. */
const HUGE = 3.5e38;
/** f32 makes it 0. */
const TINY = 1e-46;

const tokens = Int32Array.from({ length: 400 }, (_, i) => (i * i) % 11);
const SIZES = { vocabSize: 11, hiddenSize: 8, numLayers: 1, numHeads: 2, maxPositionEmbeddings: 8 };
const options: TrainerOptions = { batchSize: 2, blockLength: 8, steps: 4, learningRate: 0.01 };
const makeTrainer = (more: Partial<TrainerOptions> = {}) =>
  new Trainer(createModel(llamaConfig(SIZES), { seed: 1 }), splitTokens(tokens, 8, 0.1), {
    ...options,
    ...more,
  });
beforeAll(() => setBackend(backends.some(({ name }) => name === 'native') ? 'native' : 'wasm'));

/** The value at a name, refused with a RangeError that says both. */
function expectRefused(make: (value: number) => unknown, name: string, values: readonly number[]): void {
  for (const value of values) {
    const error = (() => {
      try {
        make(value);
        return undefined;
      } catch (caught) {
        return caught;
      }
    })();
    expect(error, `${name} ${value}`).toBeInstanceOf(RangeError);
    expect((error as Error).message, `${name} ${value}`).toContain(name);
    expect((error as Error).message, `${name} ${value}`).toContain(String(value));
  }
}

describe('optimisers', () => {
  test('adamw', () => {
    const make = (name: string) => (value: number) => adamw({ learningRate: 0.1, [name]: value });
    expectRefused(make('weightDecay'), 'weightDecay', [...NO_NUMBERS, -0.1, HUGE]);
    expectRefused(make('eps'), 'eps', [...NO_NUMBERS, -1e-8, HUGE, TINY]);
    for (const name of ['b1', 'b2']) expectRefused(make(name), name, [...NO_NUMBERS, -0.1, 1]);
    expectRefused(make('learningRate'), 'learning rate', [...NO_NUMBERS, -1, HUGE]);
  });

  test('sgd', () => {
    const make = (name: string) => (value: number) => sgd({ learningRate: 0.1, [name]: value });
    expectRefused(make('momentum'), 'momentum', [...NO_NUMBERS, -0.1, HUGE]);
    expectRefused(make('learningRate'), 'learning rate', [...NO_NUMBERS, -1, HUGE]);
  });

  test('multiSteps and clipByGlobalNorm', () => {
    const inner = sgd({ learningRate: 1 });
    expectRefused((value) => multiSteps(inner, value), 'steps', [...NO_NUMBERS, 0, -1, 1.5, 1e300]);
    expect(() => multiSteps(0.1 as never, 2)).toThrow('multiSteps: expected a transformation');
    expectRefused(clipByGlobalNorm, 'norm', [Number.NaN, Number.NEGATIVE_INFINITY, 0, -1, TINY]);
  });
});

test('schedules', () => {
  const linear = { initValue: 1, endValue: 0, transitionSteps: 4, transitionBegin: 0 };
  const cosine = { initValue: 1, decaySteps: 4, alpha: 0, exponent: 1 };
  const warmup = { initValue: 0, peakValue: 1, warmupSteps: 2, decaySteps: 8, endValue: 0, exponent: 1 };
  for (const name of Object.keys(linear)) {
    expectRefused((value) => linearSchedule({ ...linear, [name]: value }), name, NO_NUMBERS);
  }
  for (const name of Object.keys(cosine)) {
    expectRefused((value) => cosineDecaySchedule({ ...cosine, [name]: value }), name, NO_NUMBERS);
  }
  for (const name of Object.keys(warmup)) {
    expectRefused((value) => warmupCosineDecaySchedule({ ...warmup, [name]: value }), name, NO_NUMBERS);
  }
  expectRefused((exponent) => cosineDecaySchedule({ ...cosine, exponent }), 'exponent', [-1]);
  expectRefused((warmupSteps) => warmupCosineDecaySchedule({ ...warmup, warmupSteps }), 'warmupSteps', [-1]);
  expectRefused(constantSchedule, 'value', NO_NUMBERS);
  expect(() => linearSchedule({ ...linear, endValue: '0' as never })).toThrow(TypeError);
});

test('the trainer, and uptraining through it', () => {
  const refusals: Record<string, readonly number[]> = {
    ...Object.fromEntries(
      ['batchSize', 'blockLength', 'steps', 'accumulate', 'evaluationBatches'].map((name) => [
        name,
        [...NO_NUMBERS, 0, -1, 1.5],
      ]),
    ),
    ...Object.fromEntries(
      ['warmupSteps', 'seed', 'firstBatch'].map((name) => [name, [...NO_NUMBERS, -1, 1.5]]),
    ),
    ...Object.fromEntries(
      ['learningRate', 'minLearningRate', 'weightDecay'].map((name) => [name, [...NO_NUMBERS, -1, HUGE]]),
    ),
    ...Object.fromEntries(['b1', 'b2', 'dropout'].map((name) => [name, [...NO_NUMBERS, -0.1, 1]])),
    clip: [Number.NaN, Number.NEGATIVE_INFINITY, -1, TINY],
  };
  for (const [name, values] of Object.entries(refusals)) {
    expectRefused((value) => makeTrainer({ [name]: value }), name, values);
    if (name === 'firstBatch') continue;
    expectRefused((value) => uptrainSettings(undefined, { steps: 4, [name]: value }, 64), name, values);
  }
  for (const name of ['validation']) {
    const make = (value: number) => uptrainSettings(undefined, { steps: 4, [name]: value }, 64);
    expectRefused(make, name, [...NO_NUMBERS, 0, 1, -1]);
  }
  expect(() => makeTrainer({ learningRate: undefined as never })).toThrow(
    new TypeError('train: expected learningRate to be a number, got undefined'),
  );
});

test('the run', async () => {
  for (const name of ['evaluateEvery', 'saveEvery', 'keep'] as const) {
    for (const value of [...NO_NUMBERS, 0, -1, 1.5]) {
      const run = runTraining(makeTrainer(), { [name]: value } as RunOptions);
      await expect(run).rejects.toThrow(
        new RangeError(`train: expected ${name} to be a positive integer, got ${value}`),
      );
    }
  }
});

test('tokens and texts', () => {
  expectRefused((value) => splitTokens(tokens, value, 0.1), 'blockLength', [...NO_NUMBERS, 0, 1.5]);
  expectRefused((value) => splitTokens(tokens, 8, value), 'validation', [...NO_NUMBERS, 0, 1]);
  const draw = { batchSize: 1, blockLength: 8, seed: 1, stream: 'train', index: 0 } as const;
  for (const name of ['batchSize', 'blockLength', 'seed', 'index'] as const) {
    expectRefused((value) => drawBatch(tokens, { ...draw, [name]: value }), name, [...NO_NUMBERS, -1, 1.5]);
  }
  expect(() => drawBatch(tokens.subarray(0, 8), draw)).toThrow(
    new RangeError('drawBatch: expected more tokens than a block of 8, got 8'),
  );
  const { model } = makeTrainer();
  for (const name of ['context', 'batchSize'] as const) {
    const make = (value: number) => evaluateTokens(model, tokens, { context: 8, [name]: value });
    expectRefused(make, name, [...NO_NUMBERS, 0, 1.5]);
  }
});

describe('no clipping', () => {
  const step = (transformation: Transformation): number[] => {
    const parameter = new Param(tensor([0, 0, 0]));
    const model = { parameters: () => [['w', parameter]] as const };
    const optimizer = new Optimizer(model, transformation);
    for (let i = 0; i < 4; i++) optimizer.update(model, { w: tensor([-3, 0, -4]) });
    return Array.from(parameter.value.dataSync());
  };
  const rate = { learningRate: 1 };

  // optax 0.2.8 and torch 2.15.0's clip_grad_norm_ leave [3, 0, 4] as it is at inf and 3.5e38.
  test.each([Number.POSITIVE_INFINITY, HUGE])('gradients stay as they are at a norm of %d', (norm) => {
    const clip = clipByGlobalNorm(norm);
    expect(step(chain(clip, sgd(rate)))).toEqual([12, 0, 16]);
    expect(step(chain(sgd(rate), clip))).toEqual([12, 0, 16]);
    expect(step(multiSteps(chain(clip, sgd(rate)), 2))).toEqual([6, 0, 8]);
    expect(step(chain(multiSteps(clip, 2), sgd(rate)))).toEqual([6, 0, 8]);
    expect(step(chain(clip, adamw(rate)))).toEqual(step(adamw(rate)));
  });

  test('one that is above the norm changes nothing either', () => {
    expect(step(chain(clipByGlobalNorm(1e9), sgd(rate)))).toEqual([12, 0, 16]);
  });

  test('of the trainer: 0, Infinity and what f32 cannot hold', () => {
    const parametersAfter = (clip: number) => {
      const trainer = makeTrainer({ clip });
      for (let i = 0; i < 3; i++) trainer.advance();
      const found = [...trainer.model.parameters()].map(
        ([, { value }]: readonly [string, { value: Tensor }]) => Array.from(value.dataSync()),
      );
      trainer.model.dispose();
      return { found, clip: trainer.settings.clip };
    };
    const want = parametersAfter(1e30);
    expect(want.found.flat().every(Number.isFinite)).toBe(true);
    for (const clip of [0, Number.POSITIVE_INFINITY, HUGE, 1e39]) {
      expect(parametersAfter(clip), `${clip}`).toEqual({ found: want.found, clip: 0 });
    }
    expect(parametersAfter(0.01).found).not.toEqual(want.found);
  });
});
