/**
 * The check of every options object: no unknown names, no values of a wrong type. Otherwise a misspelt option
 * would be ignored and the default used silently.
 */
import { anything, describe } from './kinds.ts';
import { nearestName } from './nearest-name.ts';

/** Throws a TypeError unless `value` may be the option `name` of `op`. */
export type Kind<T> = (op: string, name: string, value: T) => void;

/** The options of a function by name; made by `optionKinds`. */
export type OptionTable = Readonly<Record<string, Kind<never>>>;

export type OptionKinds<Options> = {
  readonly [Name in keyof Options]-?: Kind<Exclude<Options[Name], undefined>>;
};

/**
 * The check of each option of `Options`; the compiler requires exactly these names. Example: `const OPTIONS =
 * optionKinds<AxisOptions>({ axis: aNumber })`.
 */
export function optionKinds<Options>(
  kinds: {
    readonly [Name in keyof Options]-?: Kind<Exclude<Options[Name], undefined>>;
  },
): OptionTable {
  // Without a prototype, so that `constructor` and `toString` are not known names.
  return Object.assign(Object.create(null), kinds);
}

/**
 * Checks options. A known option that is undefined counts as not given; an unknown one is refused even if
 * undefined.
 * @param options the argument; a class instance is accepted if it has options as properties
 * @throws TypeError unless it is an object of options, for an unknown option (the message names the nearest
 *   known one), or for a value of a wrong type
 */
export function checkOptions(op: string, options: unknown, kinds: OptionTable): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw noOptions(op, options, kinds);
  }
  let isEmpty = true;
  for (const name in options) {
    const check = kinds[name];
    if (check === undefined) throw unknownOption(op, options, name, kinds);
    isEmpty = false;
    const value = (options as Record<string, never>)[name];
    if (value !== undefined) check(op, name, value);
  }
  if (isEmpty && !isPlain(options)) throw noOptions(op, options, kinds);
}

function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || prototype.constructor === Object;
}

/**
 * The error for another value in place of options, such as a tensor or an axis; suggests options it could be.
 */
function noOptions(op: string, value: unknown, kinds: OptionTable): TypeError {
  const fitting = Object.keys(kinds).filter((name) => fits(op, name, value, kinds[name]));
  const hint = fitting.length > 0 ? `; did you mean ${either(fitting.map((name) => `{ ${name} }`))}?` : '';
  return new TypeError(`${op}: expected an object of options, got ${describe(value)}${hint}`);
}

function fits(op: string, name: string, value: unknown, check: Kind<never>): boolean {
  if (value === undefined || value === null || check === anything) return false;
  try {
    check(op, name, value as never);
    return true;
  } catch {
    return false;
  }
}

function unknownOption(op: string, options: object, name: string, kinds: OptionTable): TypeError {
  if (!isPlain(options) && !Object.keys(options).some((own) => own in kinds)) {
    return noOptions(op, options, kinds);
  }
  const known = Object.keys(kinds);
  const nearest = nearestName(name, known);
  const hint = nearest === undefined ? `; known are ${known.join(', ')}` : `; did you mean ${nearest}?`;
  return new TypeError(`${op}: expected known options, got ${name}${hint}`);
}

function either(names: readonly string[]): string {
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`;
}
