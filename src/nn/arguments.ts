/** Checks and texts of constructor arguments. */

/** An error's text in this package's names, followed by Flax's, so that a search for either finds it. */
export function withFlax(text: string, flax: string): string {
  return `${text} (Flax: ${flax})`;
}

/** `(3, 5)` and `(3,)`, as the errors taken over from Flax print tuples. */
export function tupleText(values: readonly number[]): string {
  return values.length === 1 ? `(${values[0]},)` : `(${values.join(', ')})`;
}
