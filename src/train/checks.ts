/**
 * Checks of numeric training options. NaN, or a number that overflows or underflows in f32, would make
 * parameters NaN.
 */
import { describe } from '../arguments/kinds.ts';

/**
 * A finite number, in f32 too.
 * @throws TypeError for what is no number, RangeError for NaN, Infinity and what f32 cannot hold
 */
export function checkFinite(op: string, name: string, value: number): void {
  if (typeof value !== 'number') {
    throw new TypeError(`${op}: expected ${name} to be a number, got ${describe(value)}`);
  }
  if (!Number.isFinite(Math.fround(value))) {
    throw new RangeError(`${op}: expected ${name} to be finite in f32, got ${value}`);
  }
}

/** As `checkFinite`, and not negative. */
export function checkNotNegative(op: string, name: string, value: number): void {
  if (value < 0) throw new RangeError(`${op}: expected ${name} of at least 0, got ${value}`);
  checkFinite(op, name, value);
}

/** @throws TypeError for what is no number, RangeError unless 0 < value < 1 */
export function checkShare(op: string, name: string, value: number): void {
  if (typeof value === 'number' && value > 0 && value < 1) return;
  const message = `${op}: expected ${name} between 0 and 1, got ${describe(value)}`;
  throw typeof value === 'number' ? new RangeError(message) : new TypeError(message);
}
