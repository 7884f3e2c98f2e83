/**
 * The global functions of templates: Jinja's, with transformers' `raise_exception`, `strftime_now`, `dict`
 * and `namespace`.
 */
import { asInteger, bySignature } from './arguments.ts';
import { fail, step, TemplateError, unsupported } from './limits.ts';
import { unpack } from './operators.ts';
import { strftime } from './strftime.ts';
import { Dict, Fn, iterate, type Keywords, Namespace, Native, Range, textFor, type Value } from './values.ts';

/** `dict(pairs, **names)` */
function makeDict(args: readonly Value[], keywords: Keywords): Dict {
  const dict = new Dict();
  if (args.length > 1) fail(`dict: expected at most 1 argument, got ${args.length}`);
  for (const source of args) {
    if (source instanceof Dict) for (const [key, value] of source.entries()) dict.set(key, value);
    else {
      for (const pair of iterate(source)) {
        step();
        const [key, value] = unpack(pair, 2);
        dict.set(key, value);
      }
    }
  }
  for (const [key, value] of keywords) dict.set(key, value);
  return dict;
}

export function setMember(namespace: Namespace, name: Value, value: Value): void {
  const key = textFor(name);
  if (key.startsWith('_')) {
    fail(`expected a namespace attribute that does not start with an underscore, got '${key}'`);
  }
  namespace.values.set(key, value);
}

function cycler(args: readonly Value[]): Native {
  if (args.length === 0) fail('cycler: at least one item has to be provided');
  let at = 0;
  const next = new Fn('next', () => {
    const value = args[at];
    at = (at + 1) % args.length;
    return value;
  });
  const reset = new Fn('reset', () => {
    at = 0;
    return null;
  });
  return new Native('Cycler', {
    next: () => next,
    reset: () => reset,
    current: () => args[at],
    pos: () => BigInt(at),
  });
}

function joiner(separator: Value = ', '): Native {
  let used = false;
  const call = (): Value => {
    const text = used ? separator : '';
    used = true;
    return text;
  };
  const attributes: Readonly<Record<string, () => Value>> = { sep: () => separator, used: () => used };
  return new Native('Joiner', attributes, call);
}

const functions: Readonly<Record<string, Fn['call']>> = {
  range: (args, keywords) => {
    if (keywords.size > 0 || args.length === 0 || args.length > 3)
      fail(`range: expected 1 to 3 arguments, got ${args.length}`);
    const [first, second, by = 1n] = args.map((value) => asInteger('range', value));
    if (by === 0n) fail('range() arg 3 must not be zero');
    return second === undefined ? new Range(0n, first, 1n) : new Range(first, second, by);
  },
  dict: makeDict,
  namespace: (args, keywords) => {
    const namespace = new Namespace();
    for (const [key, value] of makeDict(args, keywords).entries()) setMember(namespace, key, value);
    return namespace;
  },
  cycler,
  lipsum: () => unsupported('lipsum'),
};

const withSignatures = bySignature<null, Value>({
  'joiner(sep?)': (_, separator?: Value) => joiner(separator),
  'raise_exception(message)': (_, message: Value) => {
    throw new TemplateError(textFor(message));
  },
  'strftime_now(format: str)': (_, format: string) => strftime(new Date(), format),
});

export const globals: ReadonlyMap<string, Value> = new Map<string, Value>([
  ...Object.entries(functions).map(([name, call]) => [name, new Fn(name, call)] as const),
  ...Array.from(
    withSignatures,
    ([name, run]) => [name, new Fn(name, (...args) => run(null, ...args))] as const,
  ),
]);
