/** Checks and texts of constructor arguments. */

export { checkPositiveInteger as checkCount } from '../tensor/arguments.ts';

/** `(3, 5)` and `(3,)`, as the errors taken over from Flax print tuples. */
export function tupleText(values: readonly number[]): string {
  return values.length === 1 ? `(${values[0]},)` : `(${values.join(', ')})`;
}
