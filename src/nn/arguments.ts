/** Helpers for error messages. */

/**
 * An error message in this package's names, followed by Flax's text in brackets, so that a search for either
 * finds it.
 */
export function withFlax(text: string, flax: string): string {
  return `${text} (Flax: ${flax})`;
}

/** `(3, 5)` and `(3,)`, as Flax's errors print tuples. */
export function tupleText(values: readonly number[]): string {
  return values.length === 1 ? `(${values[0]},)` : `(${values.join(', ')})`;
}
