/** Python's rules for arguments: tables of functions by signature, and the checks of single arguments. */
import { fail, reserve } from './limits.ts';
import { defined, Fn, type Keywords, Markup, numeric, truthy, typeName, type Value } from './values.ts';

/** A function on a value, called with the arguments of a template. */
export type Bound<Self, Result> = (self: Self, args: readonly Value[], keywords: Keywords) => Result;

/**
 * Functions by name, from a table by signature.
 *
 * `d|default(default_value?, boolean?: bool)` has two names and two optional parameters. A function is called
 * with the value on its left, then one argument per parameter, undefined when not given. A parameter of type
 * `str` takes a string, `int` an integer (passed as a number), `bool` the truth of any value; with `| None`,
 * None counts as not given. After `/` at the end, no parameter may be given by name.
 */
export function bySignature<Self, Result>(
  table: Readonly<Record<string, (self: Self, ...args: never[]) => Result>>,
): ReadonlyMap<string, Bound<Self, Result>> {
  const out = new Map<string, Bound<Self, Result>>();
  for (const [signature, run] of Object.entries(table)) {
    const [names, list] = signature.slice(0, -1).split('(');
    const isPositional = list.endsWith(', /');
    const parameters = list === '' ? [] : list.replace(', /', '').split(', ').map(parameterOf);
    for (const name of names.split('|')) {
      out.set(name, (self, args, keywords) => {
        if (isPositional && keywords.size > 0) fail(`${name}() takes no keyword arguments`);
        return run(self, ...(bind(name, parameters, args, keywords) as never[]));
      });
    }
  }
  return out;
}

/** The method of a value, as `value.name` gives it; undefined when there is none. */
export function methodOf<Self>(
  self: Self,
  methods: ReadonlyMap<string, Bound<Self, Value>>,
  name: string,
): Fn | undefined {
  const run = methods.get(name);
  if (run === undefined) return undefined;
  return new Fn(name, (args, keywords) => {
    if (typeof self === 'string') reserve(self.length * 2);
    return run(self, args, keywords);
  });
}

interface Parameter {
  readonly name: string;
  readonly isOptional: boolean;
  readonly type: string | undefined;
  readonly takesNone: boolean;
}

function parameterOf(text: string): Parameter {
  const [, name, mark, type, none] = /^(\w+)(\?)?(?:: (\w+)( \| None)?)?$/.exec(text) as RegExpExecArray;
  return { name, isOptional: mark !== undefined, type, takesNone: none !== undefined };
}

/** The arguments in the order of the parameters. */
function bind(
  name: string,
  parameters: readonly Parameter[],
  args: readonly Value[],
  keywords: Keywords,
): unknown[] {
  if (args.length > parameters.length)
    fail(`${name}: expected at most ${parameters.length} arguments, got ${args.length}`);
  const bound: (Value | undefined)[] = parameters.map((_, i) => args[i]);
  for (const [key, value] of keywords) {
    const place = parameters.findIndex((parameter) => parameter.name === key);
    if (place < 0) fail(`${name}: got an unexpected argument '${key}'`);
    if (bound[place] !== undefined) fail(`${name}: got several values for '${key}'`);
    bound[place] = value;
  }
  return parameters.map((parameter, i) => {
    const value = bound[i];
    if (value === undefined && !parameter.isOptional)
      fail(`${name}: expected an argument '${parameter.name}', got none`);
    if (value === undefined || (value === null && parameter.takesNone)) return undefined;
    switch (parameter.type) {
      case 'str':
        return asString(name, value);
      case 'int':
        return Number(asInteger(name, value));
      case 'bool':
        return truthy(value);
    }
    return value;
  });
}

export function asString(name: string, value: Value): string {
  if (typeof value === 'string') return value;
  if (value instanceof Markup) fail(`${name} of a result of safe or escape is not supported`);
  defined(value);
  return fail(`${name}: expected a string, got '${typeName(value)}'`);
}

export function asInteger(name: string, value: Value): bigint {
  const number = numeric(defined(value));
  return typeof number === 'bigint' ? number : fail(`${name}: expected an int, got '${typeName(value)}'`);
}
