/**
 * Learning rates by step, with optax's names and formulas.
 *
 * Source: optax/schedules/_schedule.py (linear_schedule, cosine_decay_schedule,
 * warmup_cosine_decay_schedule).
 */

import { aNumber } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { checkFinite, checkNotNegative } from './checks.ts';

/** The value at a step, counted from 0. */
export type Schedule = (step: number) => number;

/** A constant rate, or a function of the step. */
export type ScalarOrSchedule = number | Schedule;

/** Always `value`. @throws TypeError for what is no number, RangeError for NaN and Infinity */
export function constantSchedule(value: number): Schedule {
  checkFinite('constantSchedule', 'value', value);
  return () => value;
}

/** Options of `linearSchedule`. */
export interface LinearScheduleOptions {
  /** Value at the start. */
  readonly initValue: number;
  /** Value at the end. */
  readonly endValue: number;
  /** Length of the transition in steps. */
  readonly transitionSteps: number;
  /** Default 0. */
  readonly transitionBegin?: number;
}

const LINEAR_OPTIONS = optionKinds<LinearScheduleOptions>({
  initValue: aNumber,
  endValue: aNumber,
  transitionSteps: aNumber,
  transitionBegin: aNumber,
});

/**
 * Linear from `initValue` to `endValue` in `transitionSteps` steps, from step `transitionBegin` (default 0)
 * on.
 */
export function linearSchedule(options: LinearScheduleOptions): Schedule {
  checkOptions('linearSchedule', options, LINEAR_OPTIONS);
  const { initValue, endValue, transitionSteps, transitionBegin = 0 } = options;
  checkNumbers('linearSchedule', { initValue, endValue, transitionSteps, transitionBegin });
  if (transitionSteps <= 0) return constantSchedule(initValue);
  return (step) => {
    const count = Math.min(Math.max(step - Math.max(transitionBegin, 0), 0), transitionSteps);
    return (initValue - endValue) * (1 - count / transitionSteps) + endValue;
  };
}

/** Options of `cosineDecaySchedule`. */
export interface CosineDecayScheduleOptions {
  /** Value at the start. */
  readonly initValue: number;
  /** More than 0. */
  readonly decaySteps: number;
  /** Final value as a share of `initValue`; default 0. */
  readonly alpha?: number;
  /** Exponent of the cosine, not negative; default 1. */
  readonly exponent?: number;
}

const COSINE_OPTIONS = optionKinds<CosineDecayScheduleOptions>({
  initValue: aNumber,
  decaySteps: aNumber,
  alpha: aNumber,
  exponent: aNumber,
});

/**
 * Half a cosine from `initValue` down to `alpha * initValue` in `decaySteps` steps.
 * @throws RangeError for options out of range
 */
export function cosineDecaySchedule(options: CosineDecayScheduleOptions): Schedule {
  checkOptions('cosineDecaySchedule', options, COSINE_OPTIONS);
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

/** Options of `warmupCosineDecaySchedule`. */
export interface WarmupCosineDecayScheduleOptions {
  /** Value before the warm-up. */
  readonly initValue: number;
  /** Value after the warm-up. */
  readonly peakValue: number;
  /** Steps from `initValue` to `peakValue`. */
  readonly warmupSteps: number;
  /** Length of the whole schedule in steps, warm-up included. */
  readonly decaySteps: number;
  /** Default 0. */
  readonly endValue?: number;
  /** Exponent of the cosine; default 1. */
  readonly exponent?: number;
}

const WARMUP_OPTIONS = optionKinds<WarmupCosineDecayScheduleOptions>({
  initValue: aNumber,
  peakValue: aNumber,
  warmupSteps: aNumber,
  decaySteps: aNumber,
  endValue: aNumber,
  exponent: aNumber,
});

/**
 * Linear from `initValue` to `peakValue` in `warmupSteps` steps, then half a cosine down to `endValue`.
 * @throws RangeError unless decaySteps is larger than warmupSteps, and those at least 0
 */
export function warmupCosineDecaySchedule(options: WarmupCosineDecayScheduleOptions): Schedule {
  checkOptions(WARMUP, options, WARMUP_OPTIONS);
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

/**
 * @throws TypeError for a missing option or another kind of value, RangeError for NaN and Infinity
 */
function checkNumbers(op: string, numbers: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(numbers)) checkFinite(op, name, value);
}

/** The value of either form at a step. */
export function valueAt(rate: ScalarOrSchedule, step: number): number {
  return typeof rate === 'function' ? rate(step) : rate;
}
