/** Checks and texts of constructor arguments. */

/** A positive integer. @throws RangeError with the argument's name for anything else. */
export function checkCount(op: string, name: string, value: number): number {
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new RangeError(`${op}: expected ${name} to be a positive integer, got ${String(value)}`);
  }
  return value;
}

/** `(3, 5)` and `(3,)`, as the errors taken over from Flax print tuples. */
export function tupleText(values: readonly number[]): string {
  return values.length === 1 ? `(${values[0]},)` : `(${values.join(', ')})`;
}
