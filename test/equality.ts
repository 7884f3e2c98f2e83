/**
 * vitest compares arrays element by element through an iterator and all its testers, which was most of the time of
 * tests that compare weights. Equal arrays of numbers are found equal here; for others its own comparison decides.
 */
import { expect } from 'vitest';

expect.addEqualityTesters([
  (a: unknown, b: unknown) => (isList(a) && isList(b) && areSame(a, b) ? true : undefined),
]);

const isList = (value: unknown): value is ArrayLike<unknown> =>
  Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));

function areSame(a: ArrayLike<unknown>, b: ArrayLike<unknown>): boolean {
  if (a.constructor !== b.constructor || a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (typeof a[i] !== 'number' || !Object.is(a[i], b[i])) return false;
  return true;
}
