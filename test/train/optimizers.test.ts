/** Schedules and optimisers: optax's values, errors, accumulation, chains. */
import { describe, expect, test } from 'vitest';
import { type Tensor, tensor } from '../../src/index.ts';
import { Param } from '../../src/nn/index.ts';
import {
  adamw,
  chain,
  clipByGlobalNorm,
  cosineDecaySchedule,
  globalNorm,
  linearSchedule,
  multiSteps,
  Optimizer,
  sgd,
  type Transformation,
  warmupCosineDecaySchedule,
} from '../../src/train/index.ts';

/** A model of one parameter of three numbers. */
function owner(values: number[]) {
  const parameter = new Param(tensor(values));
  return { parameter, parameters: () => new Map([['w', parameter]]) };
}

function run(transformation: Transformation, gradients: number[][], start: number[] = [1, -2, 3]): number[] {
  const model = owner(start);
  const optimizer = new Optimizer(model, transformation);
  for (const g of gradients) optimizer.update(model, { w: tensor(g) });
  return Array.from(model.parameter.value.dataSync());
}

function expectClose(got: readonly number[], want: readonly number[]): void {
  for (const [i, value] of got.entries()) expect(value).toBeCloseTo(want[i], 5);
}

describe('schedules', () => {
  test('linear, with a late start', () => {
    const rate = linearSchedule({ initValue: 1, endValue: 0.2, transitionSteps: 4, transitionBegin: 2 });
    expectClose([0, 2, 3, 4, 6, 9].map(rate), [1, 1, 0.8, 0.6, 0.2, 0.2]);
  });

  test('cosine decay, and after warm-up', () => {
    const decay = cosineDecaySchedule({ initValue: 2, decaySteps: 10, alpha: 0.1 });
    expectClose([0, 5, 10, 20].map(decay), [2, 1.1, 0.2, 0.2]);
    const rate = warmupCosineDecaySchedule({
      initValue: 0,
      peakValue: 1,
      warmupSteps: 4,
      decaySteps: 12,
      endValue: 0.5,
    });
    expectClose([0, 2, 4, 8, 12, 50].map(rate), [0, 0.5, 1, 0.75, 0.5, 0.5]);
  });

  test('refuses options out of range', () => {
    const options = { initValue: 0, peakValue: 1, warmupSteps: 5, decaySteps: 5 };
    expect(() => warmupCosineDecaySchedule(options)).toThrow(/decaySteps above warmupSteps, got 5 and 5/);
    expect(() => cosineDecaySchedule({ initValue: 1, decaySteps: 0 })).toThrow(/positive decaySteps, got 0/);
  });
});

describe('optimisers', () => {
  test('sgd, momentum and Nesterov', () => {
    expectClose(run(sgd({ learningRate: 0.1 }), [[1, 2, -4]]), [0.9, -2.2, 3.4]);
    const twice = [
      [1, 1, 1],
      [1, 1, 1],
    ];
    expectClose(run(sgd({ learningRate: 0.1, momentum: 0.5 }), twice, [0, 0, 0]), [-0.25, -0.25, -0.25]);
    const nesterov = sgd({ learningRate: 0.1, momentum: 0.5, nesterov: true });
    expectClose(run(nesterov, twice, [0, 0, 0]), [-0.325, -0.325, -0.325]);
  });

  test('adamw by its formula, its mask, and inside a chain', () => {
    // The first step is rate * (sign + decay * p).
    const first = run(adamw({ learningRate: 0.1, weightDecay: 0.5 }), [[3, -4, 0.5]]);
    expectClose(first, [1 - 0.1 * 1.5, -2 - 0.1 * (-1 - 1), 3 - 0.1 * 2.5]);
    const masked = adamw({ learningRate: 0.1, weightDecay: 0.5, mask: (_, path) => path !== 'w' });
    expectClose(run(masked, [[3, -4, 0.5]]), [0.9, -1.9, 2.9]);
    const same = [
      [1, 2, 3],
      [-1, 0.5, 2],
    ];
    const inside = chain(adamw({ learningRate: 0.2 }), clipByGlobalNorm(1e9));
    expectClose(run(inside, same), run(adamw({ learningRate: 0.2 }), same));
  });

  test('clipByGlobalNorm scales by the norm of all', () => {
    const clipped = chain(clipByGlobalNorm(1), sgd({ learningRate: 1 }));
    expectClose(run(clipped, [[3, 0, 4]], [0, 0, 0]), [-0.6, 0, -0.8]);
    expectClose(run(clipped, [[0.3, 0, 0.4]], [0, 0, 0]), [-0.3, 0, -0.4]);
    expect(globalNorm({ a: tensor([3]), b: tensor([4]) }).dataSync()[0]).toBeCloseTo(5, 6);
    expect(globalNorm({}).dataSync()[0]).toBe(0);
    expect(() => globalNorm({ a: 3 as never })).toThrow('globalNorm: expected a tensor, got 3');
  });

  test('a clip right before adamw, which applies its factor, and anywhere else', () => {
    const steps = [
      [3, 0, 4],
      [0.3, -0.2, 0.1],
      [-6, 8, 0],
    ];
    const byHand = [
      [0.6, 0, 0.8],
      [0.3, -0.2, 0.1],
      [-0.6, 0.8, 0],
    ];
    const rate = { learningRate: 0.1, eps: 0.5 };
    const want = run(adamw(rate), byHand);
    const [clip, step] = [clipByGlobalNorm(1), adamw(rate)];
    for (const order of [
      chain(clip, step),
      chain(clipByGlobalNorm(50), clip, step),
      chain(clip, chain(step)),
      chain(chain(clip), step),
      chain(clip, step, clipByGlobalNorm(1e9)),
      multiSteps(chain(clip, step), 1),
    ]) {
      expectClose(run(order, steps), want);
    }
  });

  test('multiSteps steps on the mean', () => {
    const accumulated = multiSteps(sgd({ learningRate: 1 }), 2);
    expectClose(run(accumulated, [[1, 1, 1]], [0, 0, 0]), [0, 0, 0]);
    const four = [
      [1, 0, 0],
      [3, 0, 0],
      [0, 2, 0],
      [0, 4, 0],
    ];
    expectClose(run(accumulated, four, [0, 0, 0]), [-2, -3, 0]);
  });

  test('update takes the gradients over and checks their paths', () => {
    const model = owner([1, 2, 3]);
    const optimizer = new Optimizer(model, sgd({ learningRate: 0.1 }));
    const gradient: Tensor = tensor([1, 1, 1]);
    optimizer.update(model, { w: gradient });
    expect(gradient.isDisposed).toBe(true);
    expect(() => optimizer.update(model, {})).toThrow(/a gradient for each of 1 parameters, got 0/);
    expect(() => optimizer.update(model, { v: tensor([1]) })).toThrow(/got one for v/);
    expect(() => optimizer.update(model, { w: tensor([1, 1]) })).toThrow(
      'Optimizer: expected a gradient of shape [3] for w, got [2]',
    );
    const other = { parameters: () => [['v', { value: tensor([1]) }]] as const };
    expect(() => optimizer.update(other, { w: tensor([1, 1, 1]) })).toThrow(
      'v was not a parameter when this Optimizer was created',
    );
    const empty = { parameters: () => [] };
    expect(() => optimizer.update(empty, { w: tensor([1, 1, 1]) })).toThrow('of 1 parameters, got 0');
    // Another model of the same parameters will do.
    const twin = owner([1, 2, 3]);
    optimizer.update(twin, { w: tensor([1, 1, 1]) });
    expect(Array.from(twin.parameter.value.dataSync())).toEqual([0.9, 1.9, 2.9].map(Math.fround));
  });

  test('refuses options out of range', () => {
    expect(() => adamw({ learningRate: -1 })).toThrow(/a learning rate that is not negative, got -1/);
    expect(() => adamw({ learningRate: 1, b1: 1 })).toThrow(/0 <= b1 < 1, got 1/);
    expect(() => sgd({ learningRate: Number.NaN })).toThrow(/not negative, got NaN/);
    expect(() => clipByGlobalNorm(0)).toThrow(/a positive norm, got 0/);
    expect(() => multiSteps(sgd({ learningRate: 1 }), 0)).toThrow(/a positive number of steps, got 0/);
  });
});
