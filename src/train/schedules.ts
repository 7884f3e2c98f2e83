/**
 * Learning rates by step, with optax's names and formulas.
 *
 * Source: optax/schedules/_schedule.py (linear_schedule, cosine_decay_schedule, warmup_cosine_decay_schedule).
 */

import { checkOptions } from '../tensor/arguments.ts';
import { checkFinite, checkNotNegative } from './checks.ts';

/** The value at a step, counted from 0. */
export type Schedule = (step: number) => number;

/** A rate that does not change, or one by step. */
export type ScalarOrSchedule = number | Schedule;

/** Always `value`. @throws TypeError for what is no number, RangeError for NaN and Infinity */
export function constantSchedule(value: number): Schedule {
  checkFinite('constantSchedule', 'value', value);
  return () => value;
}

/** Straight from `initValue` to `endValue` in `transitionSteps` steps, from step `transitionBegin` (default 0) on. */
export function linearSchedule(options: {
  readonly initValue: number;
  readonly endValue: number;
  readonly transitionSteps: number;
  readonly transitionBegin?: number;
}): Schedule {
  checkOptions('linearSchedule', options);
  const { initValue, endValue, transitionSteps, transitionBegin = 0 } = options;
  checkNumbers('linearSchedule', { initValue, endValue, transitionSteps, transitionBegin });
  if (transitionSteps <= 0) return constantSchedule(initValue);
  return (step) => {
    const count = Math.min(Math.max(step - Math.max(transitionBegin, 0), 0), transitionSteps);
    return (initValue - endValue) * (1 - count / transitionSteps) + endValue;
  };
}

/** Half a cosine from `initValue` down to `alpha * initValue` (default 0) in `decaySteps` steps, more than 0. @throws RangeError otherwise, also for a negative `exponent`. */
export function cosineDecaySchedule(options: {
  readonly initValue: number;
  readonly decaySteps: number;
  readonly alpha?: number;
  readonly exponent?: number;
}): Schedule {
  checkOptions('cosineDecaySchedule', options);
  const { initValue, decaySteps, alpha = 0, exponent = 1 } = options;
  checkNumbers('cosineDecaySchedule', { initValue, decaySteps, alpha, exponent });
  checkNotNegative('cosineDecaySchedule', 'exponent', exponent);
  if (!(decaySteps > 0)) {
    throw new RangeError(`cosineDecaySchedule: expected positive decaySteps, got ${decaySteps}`);
  }
  return (step) => {
    const cosine = 0.5 * (1 + Math.cos((Math.PI * Math.min(step, decaySteps)) / decaySteps));
    return initValue * ((1 - alpha) * cosine ** exponent + alpha);
  };
}

/**
 * Straight up from `initValue` to `peakValue` in `warmupSteps` steps, then half a cosine down to `endValue`.
 * @param options.decaySteps of the whole schedule, warm-up included
 * @throws RangeError unless decaySteps is larger than warmupSteps, and those at least 0
 */
export function warmupCosineDecaySchedule(options: {
  readonly initValue: number;
  readonly peakValue: number;
  readonly warmupSteps: number;
  readonly decaySteps: number;
  readonly endValue?: number;
  readonly exponent?: number;
}): Schedule {
  checkOptions(WARMUP, options);
  const { initValue, peakValue, warmupSteps, decaySteps, endValue = 0, exponent = 1 } = options;
  checkNumbers(WARMUP, { initValue, peakValue, warmupSteps, decaySteps, endValue, exponent });
  checkNotNegative(WARMUP, 'warmupSteps', warmupSteps);
  if (!(decaySteps > warmupSteps)) {
    throw new RangeError(
      `warmupCosineDecaySchedule: expected decaySteps above warmupSteps, got ${decaySteps} and ${warmupSteps}`,
    );
  }
  const warmup = linearSchedule({ initValue, endValue: peakValue, transitionSteps: warmupSteps });
  const decay = cosineDecaySchedule({
    initValue: peakValue,
    decaySteps: decaySteps - warmupSteps,
    alpha: peakValue === 0 ? 0 : endValue / peakValue,
    exponent,
  });
  return (step) => (step < warmupSteps ? warmup(step) : decay(step - warmupSteps));
}

const WARMUP = 'warmupCosineDecaySchedule';

/** @throws TypeError naming what is no number (one left out would make every rate NaN), RangeError for NaN and Infinity */
function checkNumbers(op: string, numbers: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(numbers)) checkFinite(op, name, value);
}

/** The value of either form at a step. */
export function valueAt(rate: ScalarOrSchedule, step: number): number {
  return typeof rate === 'function' ? rate(step) : rate;
}
