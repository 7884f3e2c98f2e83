/** Checks of what a caller without types may hand over, and how such a value is named in an error. */

/** @throws TypeError unless `options` is an object: forgotten options get a sentence, not a destructuring error. */
export function checkOptions(op: string, options: unknown): void {
  if (typeof options === 'object' && options !== null && !Array.isArray(options)) return;
  throw new TypeError(`${op}: expected an object of options, got ${describe(options)}`);
}

/** @throws TypeError unless `value` is an object; `what` says which, such as `a model's shape`. */
export function checkObject(op: string, what: string, value: unknown): void {
  if (typeof value === 'object' && value !== null) return;
  throw new TypeError(`${op}: expected ${what}, got ${describe(value)}`);
}

/** @throws TypeError unless `fn` can be called. */
export function checkFunction(op: string, fn: unknown): void {
  if (typeof fn !== 'function') throw new TypeError(`${op}: expected a function, got ${describe(fn)}`);
}

/** A positive integer. @throws TypeError for what is no number, RangeError for any other number */
export function checkPositiveInteger(op: string, name: string, value: number): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 1) return value;
  const message = `${op}: expected ${name} to be a positive integer, got ${describe(value)}`;
  throw typeof value === 'number' ? new RangeError(message) : new TypeError(message);
}

/** How an error names a wrong argument. */
export function describe(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === 'object') return value.constructor?.name ?? 'an object';
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : typeof value;
}
