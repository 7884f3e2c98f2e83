/**
 * The optimisers, with optax's names, arguments and defaults.
 *
 * Source: optax/_src/alias.py (adamw, sgd), optax/transforms/_clipping.py (clip_by_global_norm),
 * _accumulation.py (MultiSteps).
 */

import { aBoolean, aFunction, aNumber, anything, checkObject, describe } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { addInto } from '../backend/add-into.ts';
import { convert } from '../backend/calls/copy.ts';
import * as calls from '../backend/calls/optimizer.ts';
import { backendOf } from '../backend/registry.ts';
import { add, div, maximum, mul, sub } from '../ops/binary.ts';
import { tensor } from '../ops/creation.ts';
import { allocate, commonBackend, floatDType } from '../ops/operands.ts';
import { sqrt } from '../ops/unary.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { checkNotNegative } from './checks.ts';
import { type ScalarOrSchedule, valueAt } from './schedules.ts';
import {
  applyUpdates,
  checkAlike,
  checkTransformation,
  disposeAll,
  mapTensors,
  prefixed,
  setPrefixed,
  type Tensors,
  type Transformation,
  type TransformationState,
  zerosLike,
} from './transformation.ts';

/** Options of `adamw`; the defaults are Optax's. */
export interface AdamwOptions {
  /** A number, or by step (from 0). Not negative. */
  readonly learningRate: ScalarOrSchedule;
  /** Default 0.9. */
  readonly b1?: number;
  /** Default 0.999. */
  readonly b2?: number;
  /**
   * Default 1e-8. Not negative; with 0, a parameter whose gradients have all been 0 becomes NaN, as in Optax.
   */
  readonly eps?: number;
  /** Default 1e-4. Not negative. */
  readonly weightDecay?: number;
  /** Which parameters decay; default all. */
  readonly mask?: (parameter: Tensor, path: string) => boolean;
}

const ADAMW_OPTIONS = optionKinds<AdamwOptions>({
  learningRate: anything,
  b1: aNumber,
  b2: aNumber,
  eps: aNumber,
  weightDecay: aNumber,
  mask: aFunction,
});

/**
 * Adam with decoupled weight decay:
 * `p -= rate * (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weightDecay * p)`.
 * One kernel updates all parameters in place; it also applies the factor of a preceding `clipByGlobalNorm`.
 * @throws RangeError for betas outside of [0, 1), and for a learning rate, eps or weightDecay that is
 *   negative or not finite in f32 (a schedule's rate: at its step, which is not taken then).
 *
 * Source: Loshchilov and Hutter 2019, "Decoupled weight decay regularization".
 */
export function adamw(options: AdamwOptions): Transformation {
  checkOptions('adamw', options, ADAMW_OPTIONS);
  const { learningRate, b1 = 0.9, b2 = 0.999, eps = 1e-8, weightDecay = 1e-4, mask } = options;
  checkRate('adamw', learningRate);
  for (const [name, beta] of Object.entries({ b1, b2 })) {
    if (!(beta >= 0 && beta < 1)) throw new RangeError(`adamw: expected 0 <= ${name} < 1, got ${beta}`);
  }
  for (const [name, value] of Object.entries({ eps, weightDecay })) checkNotNegative('adamw', name, value);
  // Rounded to 0 in f32, it would give 0 / 0 where a gradient is 0.
  if (eps > 0 && Math.fround(eps) === 0) {
    throw new RangeError(`adamw: expected eps to be 0 or a number that f32 does not make 0, got ${eps}`);
  }
  return {
    init(parameters) {
      const [m, v] = [zerosLike(parameters), zerosLike(parameters)];
      const state: TransformationState = {
        tensors: { ...prefixed('m', m), ...prefixed('v', v) },
        counters: { count: 0 },
        apply(gradients, current, gradientScale) {
          const { count } = state.counters;
          const rate = rateAt('adamw', learningRate, count);
          const parts = Object.keys(gradients).map((path) => {
            const parameter = current[path];
            checkAlike('adamw', path, parameter, gradients[path], m[path], v[path]);
            const decay = mask && !mask(parameter, path) ? 0 : weightDecay;
            return { parameter, gradient: gradients[path], m: m[path], v: v[path], weightDecay: decay };
          });
          state.counters = { count: count + 1 };
          const call = { parts, gradientScale, learningRate: rate, b1, b2, eps, step: count + 1 };
          if (parts.length > 0) backendOf(parts[0].parameter).run(calls.adamw, call);
        },
        appliesScale: true,
        // Inside a chain: take the step on a copy; the difference is the update.
        update(gradients, current) {
          const copies = mapTensors(gradients, (_, path) => mul(current[path], 1));
          state.apply?.(gradients, copies);
          const updates = mapTensors(copies, (copy, path) => sub(copy, current[path]));
          disposeAll(copies);
          return updates;
        },
      };
      return state;
    },
  };
}

/** Options of `sgd`. */
export interface SgdOptions {
  /** A number, or by step (from 0). Not negative. */
  readonly learningRate: ScalarOrSchedule;
  /** Default none. */
  readonly momentum?: number;
  /** Default false. */
  readonly nesterov?: boolean;
}

const SGD_OPTIONS = optionKinds<SgdOptions>({
  learningRate: anything,
  momentum: aNumber,
  nesterov: aBoolean,
});

/**
 * Stochastic gradient descent: `p -= rate * g`, with `momentum` of the running sum `m = g + momentum * m`
 * (`nesterov`: of `g + momentum * m`).
 * @throws RangeError for a learning rate or momentum that is negative or not finite in f32.
 */
export function sgd(options: SgdOptions): Transformation {
  checkOptions('sgd', options, SGD_OPTIONS);
  const { learningRate, momentum, nesterov = false } = options;
  checkRate('sgd', learningRate);
  if (momentum !== undefined) checkNotNegative('sgd', 'momentum', momentum);
  return {
    init(parameters) {
      const trace: Tensors = momentum === undefined ? {} : zerosLike(parameters);
      const state: TransformationState = {
        tensors: prefixed('trace', trace),
        counters: { count: 0 },
        update(gradients) {
          const { count } = state.counters;
          const rate = rateAt('sgd', learningRate, count);
          state.counters = { count: count + 1 };
          return mapTensors(gradients, (gradient, path) =>
            scope(() => mul(direction(gradient, trace[path], momentum, nesterov), -rate)),
          );
        },
      };
      return state;
    },
  };
}

/** The direction of one step, before the learning rate. Updates the running sum in place. */
function direction(gradient: Tensor, trace: Tensor | undefined, momentum = 0, nesterov = false): Tensor {
  if (!trace) return gradient;
  const next = add(gradient, mul(trace, momentum));
  backendOf(trace).run(convert, { out: trace, x: next, count: trace.size });
  return nesterov ? add(gradient, mul(next, momentum)) : next;
}

/**
 * Scales all gradients by `maxNorm / norm` when their common norm, the root of the sum of all squares, is
 * above `maxNorm`. The factor stays a tensor, so nothing is read back. With `Infinity`, or more than f32
 * holds, gradients stay as they are.
 * @throws RangeError unless `maxNorm` is positive, in f32 too. To turn clipping off, leave it out of the
 *   chain: 0, which turns it off in `Trainer`, makes all gradients 0 in Optax.
 */
export function clipByGlobalNorm(maxNorm: number): Transformation {
  if (typeof maxNorm !== 'number' || !(Math.fround(maxNorm) > 0))
    throw new RangeError(`clipByGlobalNorm: expected a positive norm, got ${maxNorm}`);
  if (Math.fround(maxNorm) === Number.POSITIVE_INFINITY) return unchanged;
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
          const clipped = mapTensors(gradients, (gradient) => mul(gradient, factor));
          factor.dispose();
          return clipped;
        },
      };
    },
  };
}

/** Scales copies: the inputs belong to the caller. */
const unchanged: Transformation = {
  init: () => ({
    tensors: {},
    counters: {},
    update: (gradients) => mapTensors(gradients, (gradient) => mul(gradient, 1)),
  }),
};

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
    backend.run(calls.sumOfSquares, { out: total, xs: all });
    return sqrt(total);
  });
}

/**
 * Gradient accumulation: steps of `inner` on the mean of `everyKSchedule` gradients each; between them
 * nothing changes.
 * @throws RangeError unless `everyKSchedule` is a positive integer.
 */
export function multiSteps(inner: Transformation, everyKSchedule: number): Transformation {
  checkTransformation('multiSteps', inner);
  if (!Number.isSafeInteger(everyKSchedule) || everyKSchedule < 1) {
    throw new RangeError(`multiSteps: expected a positive number of steps, got ${everyKSchedule}`);
  }
  return {
    init(parameters) {
      const state = inner.init(parameters);
      const sums = zerosLike(parameters);
      let count = 0;
      /**
       * Adds one gradient, or takes a step with the mean. A step that throws leaves sums and count unchanged.
       */
      const collect = <T>(gradients: Tensors, step: (mean: Tensors) => T): T | undefined => {
        for (const path in gradients) checkAlike('multiSteps', path, sums[path], gradients[path]);
        const parts = Object.entries(gradients).map(
          ([path, gradient]) => [path, mul(gradient, 1 / everyKSchedule)] as const,
        );
        if (count + 1 < everyKSchedule) {
          for (const [path, part] of parts) {
            const total = sums[path];
            if (count === 0) backendOf(total).run(convert, { out: total, x: part, count: total.size });
            else addInto(total, total, part);
            part.dispose();
          }
          count++;
          return undefined;
        }
        const mean = Object.fromEntries(
          parts.map(([path, part]) => [path, count === 0 ? part : scope(() => add(sums[path], part))]),
        );
        if (count > 0) for (const [, part] of parts) part.dispose();
        let result: T | undefined;
        try {
          result = step(mean);
          count = 0;
          return result;
        } finally {
          if (result !== mean) disposeAll(mean);
        }
      };
      return {
        get tensors() {
          return { ...prefixed('inner', state.tensors), ...prefixed('sum', sums) };
        },
        get counters(): Readonly<Record<string, number>> {
          return { ...prefixed('inner', state.counters), count };
        },
        set counters(values: Readonly<Record<string, number>>) {
          count = values.count;
          setPrefixed('inner', state, values);
        },
        update: (gradients, current) => collect(gradients, (mean) => state.update(mean, current)) ?? {},
        apply(gradients, current) {
          collect(gradients, (mean) => applyUpdates(state, mean, current));
        },
      };
    },
  };
}

function checkRate(op: string, rate: ScalarOrSchedule): void {
  if (typeof rate !== 'function') rateAt(op, rate, 0);
}

function rateAt(op: string, rate: ScalarOrSchedule, step: number): number {
  const value = valueAt(rate, step);
  if (typeof value !== 'number' || !(value >= 0) || !Number.isFinite(Math.fround(value))) {
    throw new RangeError(
      `${op}: expected a learning rate that is not negative, got ${describe(value)} at step ${step}`,
    );
  }
  return value;
}
