/** Binds arguments of functions, filters and tests by Python's rules. */
import { fail } from './limits.ts';
import { defined, type Keywords, Markup, numeric, typeName, type Value } from './values.ts';

/**
 * Returns the arguments in the order of `names`; undefined when not given.
 * @param required number of required arguments
 */
export function bind(
  name: string,
  names: readonly string[],
  required: number,
  args: readonly Value[],
  keywords: Keywords,
): (Value | undefined)[] {
  if (args.length > names.length)
    fail(`${name}: expected at most ${names.length} arguments, got ${args.length}`);
  const bound: (Value | undefined)[] = names.map((_, i) => args[i]);
  for (const [key, value] of keywords) {
    const place = names.indexOf(key);
    if (place < 0) fail(`${name}: got an unexpected argument '${key}'`);
    if (bound[place] !== undefined) fail(`${name}: got several values for '${key}'`);
    bound[place] = value;
  }
  for (let i = 0; i < required; i++) {
    if (bound[i] === undefined) fail(`${name}: expected an argument '${names[i]}', got none`);
  }
  return bound;
}

export function asString(name: string, value: Value): string {
  if (typeof value === 'string') return value;
  if (value instanceof Markup) fail(`${name} of what safe or escape gave is not supported`);
  defined(value);
  return fail(`${name}: expected a string, got '${typeName(value)}'`);
}

export function asInteger(name: string, value: Value): bigint {
  const number = numeric(defined(value));
  return typeof number === 'bigint' ? number : fail(`${name}: expected an int, got '${typeName(value)}'`);
}

/** An integer in the safe range, as a number. */
export function asCount(name: string, value: Value): number {
  return Number(asInteger(name, value));
}
