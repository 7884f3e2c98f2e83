/**
 * The optimisers, with optax's names, arguments and defaults.
 *
 * Source: optax/_src/alias.py (adamw, sgd), optax/transforms/_clipping.py (clip_by_global_norm), _accumulation.py (MultiSteps).
 */

import { backendOf } from '../backend/registry.ts';
import { add, div, maximum, mul, sub } from '../ops/binary.ts';
import { tensor } from '../ops/creation.ts';
import { allocate, commonBackend, floatDType } from '../ops/operands.ts';
import { sqrt } from '../ops/unary.ts';
import { checkFunction, checkObject, checkOptions, describe } from '../tensor/arguments.ts';
import { scope } from '../tensor/scope.ts';
import { stridesOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type ScalarOrSchedule, valueAt } from './schedules.ts';
import {
  applyUpdates,
  type Tensors,
  type Transformation,
  type TransformationState,
  zerosLike,
} from './transformation.ts';

export interface AdamwOptions {
  /** A number, or by step (from 0). Not negative. */
  readonly learningRate: ScalarOrSchedule;
  /** Default 0.9. */
  readonly b1?: number;
  /** Default 0.999. */
  readonly b2?: number;
  /** Default 1e-8. */
  readonly eps?: number;
  /** Default 1e-4. */
  readonly weightDecay?: number;
  /** Which parameters decay; default all. */
  readonly mask?: (parameter: Tensor, path: string) => boolean;
}

/**
 * Adam with decoupled weight decay: `p -= rate * (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weightDecay * p)`.
 * In place, one kernel for all parameters, which also applies the factor of a `clipByGlobalNorm` right before it.
 * @throws RangeError for a negative learning rate, or betas outside of [0, 1).
 *
 * Source: Loshchilov and Hutter 2019, "Decoupled weight decay regularization".
 */
export function adamw(options: AdamwOptions): Transformation {
  checkOptions('adamw', options);
  const { learningRate, b1 = 0.9, b2 = 0.999, eps = 1e-8, weightDecay = 1e-4, mask } = options;
  checkRate('adamw', learningRate);
  for (const [name, beta] of Object.entries({ b1, b2 })) {
    if (!(beta >= 0 && beta < 1)) throw new RangeError(`adamw: expected 0 <= ${name} < 1, got ${beta}`);
  }
  for (const [name, value] of Object.entries({ eps, weightDecay })) {
    if (typeof value !== 'number') {
      throw new TypeError(`adamw: expected ${name} to be a number, got ${describe(value)}`);
    }
  }
  if (mask !== undefined) checkFunction('adamw: mask', mask);
  return {
    init(parameters) {
      const [m, v] = [zerosLike(parameters), zerosLike(parameters)];
      let count = 0;
      const state: TransformationState = {
        tensors: { ...prefixed('m', m), ...prefixed('v', v) },
        get counters() {
          return { count };
        },
        set counters(values) {
          count = values.count;
        },
        apply(gradients, current, gradientScale) {
          const rate = rateAt('adamw', learningRate, count);
          count++;
          const parts = Object.keys(gradients).map((path) => {
            const parameter = current[path];
            const decay = mask && !mask(parameter, path) ? 0 : weightDecay;
            return { parameter, gradient: gradients[path], m: m[path], v: v[path], weightDecay: decay };
          });
          const call = { parts, gradientScale, learningRate: rate, b1, b2, eps, step: count };
          if (parts.length > 0) backendOf(parts[0].parameter).adamw(call);
        },
        appliesScale: true,
        // Inside a chain: the step of a copy is the update.
        update(gradients, current) {
          const copies = Object.fromEntries(
            Object.keys(gradients).map((path) => [path, mul(current[path], 1)]),
          );
          state.apply?.(gradients, copies);
          return Object.fromEntries(
            Object.entries(copies).map(([path, copy]) => {
              const update = sub(copy, current[path]);
              copy.dispose();
              return [path, update];
            }),
          );
        },
      };
      return state;
    },
  };
}

/**
 * Stochastic gradient descent: `p -= rate * g`, with `momentum` of the running sum `m = g + momentum * m` (`nesterov`: of
 * `g + momentum * m`).
 * @throws RangeError for a negative learning rate.
 */
export function sgd(options: {
  readonly learningRate: ScalarOrSchedule;
  /** Default none. */
  readonly momentum?: number;
  readonly nesterov?: boolean;
}): Transformation {
  checkOptions('sgd', options);
  const { learningRate, momentum, nesterov = false } = options;
  checkRate('sgd', learningRate);
  return {
    init(parameters) {
      const trace = momentum === undefined ? {} : zerosLike(parameters);
      let count = 0;
      return {
        tensors: prefixed('trace', trace),
        get counters() {
          return { count };
        },
        set counters(values) {
          count = values.count;
        },
        update(gradients) {
          const rate = rateAt('sgd', learningRate, count);
          count++;
          return Object.fromEntries(
            Object.entries(gradients).map(([path, gradient]) => [
              path,
              scope(() => mul(moving(gradient, trace[path], momentum, nesterov), -rate)),
            ]),
          );
        },
      };
    },
  };
}

/** The direction of one step; the running sum changes in place. */
function moving(gradient: Tensor, trace: Tensor | undefined, momentum = 0, nesterov = false): Tensor {
  if (!trace) return gradient;
  const next = add(gradient, mul(trace, momentum));
  backendOf(trace).convert(trace, 0, next, 0, trace.size);
  return nesterov ? add(gradient, mul(next, momentum)) : next;
}

/**
 * Scales all gradients by `maxNorm / norm` when their common norm, the root of the sum of all squares, is above `maxNorm`.
 * Nothing is read back: the factor stays a tensor.
 * @throws RangeError unless `maxNorm` is positive.
 */
export function clipByGlobalNorm(maxNorm: number): Transformation {
  if (typeof maxNorm !== 'number' || !(maxNorm > 0))
    throw new RangeError(`clipByGlobalNorm: expected a positive norm, got ${maxNorm}`);
  return {
    init() {
      const scale = (gradients: Tensors) =>
        scope(() => div(maxNorm, maximum(globalNorm(gradients), maxNorm)));
      return {
        tensors: {},
        counters: {},
        scale,
        update(gradients) {
          const factor = scale(gradients);
          const clipped = Object.entries(gradients).map(([path, gradient]) => [path, mul(gradient, factor)]);
          factor.dispose();
          return Object.fromEntries(clipped);
        },
      };
    },
  };
}

/**
 * The root of the sum of all squares: a scalar tensor, 0 of no tensors.
 * @throws TypeError for anything but tensors; Error when they are on different backends.
 */
export function globalNorm(tensors: Tensors): Tensor {
  checkObject('globalNorm', 'tensors by name', tensors);
  const all = Object.values(tensors);
  if (all.length === 0) return tensor(0);
  const backend = commonBackend('globalNorm', ...all);
  return scope(() => {
    const total = allocate(backend, floatDType('globalNorm', ...all), []);
    backend.sumOfSquares(total, all);
    return sqrt(total);
  });
}

/**
 * Gradient accumulation: steps of `inner` on the mean of `everyKSchedule` gradients each; between them nothing changes.
 * @throws RangeError unless `everyKSchedule` is a positive integer.
 */
export function multiSteps(inner: Transformation, everyKSchedule: number): Transformation {
  if (!Number.isInteger(everyKSchedule) || everyKSchedule < 1) {
    throw new RangeError(`multiSteps: expected a positive number of steps, got ${everyKSchedule}`);
  }
  return {
    init(parameters) {
      const state = inner.init(parameters);
      const sums = zerosLike(parameters);
      let count = 0;
      /** Takes one gradient in; true when it is time for a step on `sums`. */
      const collect = (gradients: Tensors): boolean => {
        for (const [path, gradient] of Object.entries(gradients)) {
          const total = sums[path];
          const strides = stridesOf(total.shape);
          const part = mul(gradient, 1 / everyKSchedule);
          if (count === 0) backendOf(total).convert(total, 0, part, 0, total.size);
          else backendOf(total).binary('add', total, total, strides, part, strides);
          part.dispose();
        }
        count = (count + 1) % everyKSchedule;
        return count === 0;
      };
      return {
        get tensors() {
          return { ...prefixed('inner', state.tensors), ...prefixed('sum', sums) };
        },
        get counters(): Readonly<Record<string, number>> {
          return { ...prefixedNumbers('inner', state.counters), count };
        },
        set counters(values: Readonly<Record<string, number>>) {
          count = values.count;
          const own = Object.keys(state.counters).map((name) => [name, values[`inner.${name}`]]);
          state.counters = Object.fromEntries(own);
        },
        update: (gradients, current) => (collect(gradients) ? state.update(sums, current) : {}),
        apply(gradients, current) {
          if (collect(gradients)) applyUpdates(state, sums, current);
        },
      };
    },
  };
}

function prefixed(prefix: string, tensors: Tensors): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(tensors).map(([name, x]) => [`${prefix}.${name}`, x]));
}

function prefixedNumbers(prefix: string, numbers: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(numbers).map(([name, x]) => [`${prefix}.${name}`, x]));
}

function checkRate(op: string, rate: ScalarOrSchedule): void {
  if (typeof rate !== 'function') rateAt(op, rate, 0);
}

function rateAt(op: string, rate: ScalarOrSchedule, step: number): number {
  const value = valueAt(rate, step);
  if (typeof value !== 'number' || !(value >= 0) || value === Number.POSITIVE_INFINITY) {
    throw new RangeError(
      `${op}: expected a learning rate that is not negative, got ${describe(value)} at step ${step}`,
    );
  }
  return value;
}
