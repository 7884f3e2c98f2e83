/** Run-time checks of arguments, for callers without TypeScript, and how errors describe a value. */

/** @throws TypeError unless `value` is a boolean: a string such as 'false' would be truthy. */
export function aBoolean(op: string, name: string, value: boolean): void {
  if (typeof value !== 'boolean') throw wrongKind(op, name, 'a boolean', value);
}

/** @throws TypeError unless `value` is a number; the op checks its range. */
export function aNumber(op: string, name: string, value: number): void {
  if (typeof value !== 'number') throw wrongKind(op, name, 'a number', value);
}

/** @throws TypeError unless `value` is a number, or an array or typed array of numbers. */
export function numbers(op: string, name: string, value: number | ArrayLike<number>): void {
  if (typeof value !== 'number') listOfNumbers(op, name, value, 'a number or a list of them');
}

/** @throws TypeError unless `value` is an array or a typed array of numbers. */
export function listOfNumbers(
  op: string,
  name: string,
  value: ArrayLike<number>,
  kind = 'a list of numbers',
): void {
  const isList = Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
  if (!isList) throw wrongKind(op, name, kind, value);
  for (let i = 0; i < value.length; i++) {
    if (typeof value[i] !== 'number') throw wrongKind(op, name, kind, value);
  }
}

/** @throws TypeError unless `value` is a string. */
export function aString(op: string, name: string, value: string): void {
  if (typeof value !== 'string') throw wrongKind(op, name, 'a string', value);
}

/** @throws TypeError unless `value` is an AbortSignal. */
export function aSignal(op: string, name: string, value: AbortSignal): void {
  if (!(value instanceof AbortSignal)) throw wrongKind(op, name, 'an AbortSignal', value);
}

/** @throws TypeError unless `value` is a function. */
export function aFunction(op: string, name: string, value: unknown): void {
  if (typeof value !== 'function') throw wrongKind(op, name, 'a function', value);
}

/** For an option that the function checks itself. */
export function anything(): void {}

/** @throws TypeError unless `value` is an object; `what` describes it, such as `a model's shape`. */
export function checkObject(op: string, what: string, value: unknown): void {
  if (typeof value === 'object' && value !== null) return;
  throw new TypeError(`${op}: expected ${what}, got ${describe(value)}`);
}

/** @throws TypeError unless `fn` is a function. */
export function checkFunction(op: string, fn: unknown): void {
  if (typeof fn !== 'function') throw new TypeError(`${op}: expected a function, got ${describe(fn)}`);
}

/**
 * @returns the value. @throws TypeError unless `value` is a number, RangeError unless it is a positive
 *   integer
 */
export function checkPositiveInteger(op: string, name: string, value: number): number {
  return checkInteger(op, name, value, 1);
}

/**
 * @returns the value. @throws TypeError unless `value` is a number, RangeError unless it is an integer >=
 *   `least`
 */
export function checkInteger(op: string, name: string, value: number, least: 0 | 1): number {
  if (Number.isSafeInteger(value) && value >= least) return value;
  const isLarge = Number.isInteger(value) && value >= least;
  const sign = least === 1 ? 'a positive integer' : 'a non-negative integer';
  const kind = isLarge ? 'an integer below 2^53' : sign;
  const message = `${op}: expected ${name} to be ${kind}, got ${describe(value)}`;
  throw typeof value === 'number' ? new RangeError(message) : new TypeError(message);
}

/** The description of a wrong argument in an error. */
export function describe(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === 'object') return value.constructor?.name ?? 'an object';
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : typeof value;
}

/** A value as an error prints it, at most 40 characters. */
export function show(value: unknown): string {
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return 'an array';
  if (value === undefined) return 'nothing';
  // JSON has no NaN and no Infinity, and throws at a bigint.
  const text =
    typeof value === 'string'
      ? JSON.stringify(value)
      : typeof value === 'object'
        ? describe(value)
        : String(value);
  return text.length > 40 ? `${text.slice(0, 37)}…` : text;
}

function wrongKind(op: string, name: string, kind: string, value: unknown): TypeError {
  return new TypeError(`${op}: expected ${name} to be ${kind}, got ${describe(value)}`);
}
