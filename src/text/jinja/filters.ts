/**
 * Jinja's filters, with transformers' `tojson`; those that apply other filters and tests are in library.ts.
 * Filters for HTML and random ones are refused by name.
 *
 * Source: jinja2 3.1.6, filters.py.
 */

import { asInteger, asString, type Bound, bySignature } from './arguments.ts';
import { attribute, item } from './attributes.ts';
import { compare, equal } from './comparison.ts';
import { pad, percentFormat, whole } from './format.ts';
import { toJson } from './json.ts';
import { fail, reserve, reserveItems, step, unsupported } from './limits.ts';
import { parseFloatText, parseIntegerText, roundFloat, sumOf } from './numbers.ts';
import { escaped, integer, negate, slice, toFloat } from './operators.ts';
import { joined, replaceText } from './string-methods.ts';
import { capitalize, SPACE, splitLines, strip } from './text.ts';
import {
  codePointLength,
  codePoints,
  Dict,
  defined,
  Group,
  Iter,
  iterate,
  lengthOf,
  listOf,
  Markup,
  numeric,
  Tuple,
  textFor,
  truthy,
  tryIterate,
  typeName,
  Undefined,
  type Value,
  View,
} from './values.ts';

export type Filter = Bound<Value, Value>;

/** Jinja's `attribute` argument: keys separated by dots, numbers as indices. */
export function getter(path: Value = null, otherwise: Value = null): (value: Value) => Value {
  if (path === null) return (value) => value;
  const parts: Value[] =
    typeof path === 'string'
      ? path.split('.').map((part) => (/^\d+$/.test(part) ? BigInt(part) : part))
      : [path];
  return (value) => {
    let found = value;
    for (const part of parts) {
      step();
      found = item(found, part);
      if (otherwise !== null && found instanceof Undefined) found = otherwise;
    }
    return found;
  };
}

const ignoreCase = (value: Value): Value => {
  if (value instanceof Markup) return value.text.toLowerCase();
  if (typeof value !== 'string') return value;
  reserve(value.length);
  return value.toLowerCase();
};

function keyed(path: Value | undefined, caseSensitive = false): (value: Value) => Value {
  const get = getter(path);
  return caseSensitive ? get : (value) => ignoreCase(get(value));
}

/** Stable sort by key, also with `reverse`. */
function sorted(values: Value[], key: (value: Value) => Value, reverse = false): Value[] {
  const rows = values.map((value) => [key(value), value] as const);
  rows.sort(([a], [b]) => (reverse ? compare(b, a) : compare(a, b)));
  return rows.map(([, value]) => value);
}

function extreme(sign: number) {
  return (value: Value, caseSensitive?: boolean, path?: Value): Value => {
    const key = keyed(path, caseSensitive);
    let best: readonly [Value, Value] | undefined;
    for (const one of listOf(value)) {
      const rank = key(one);
      if (best === undefined || sign * compare(rank, best[0]) < 0) best = [rank, one];
    }
    return best === undefined ? new Undefined('No aggregated item, sequence was empty.') : best[1];
  };
}

function* pairs(value: Value): Generator<Value> {
  if (value instanceof Undefined) return;
  if (!(value instanceof Dict)) fail('Can only get item pairs from a mapping.');
  yield* new View('items', value).items();
}

function* uniqueItems(value: Value, key: (one: Value) => Value): Generator<Value> {
  const seen = new Dict();
  for (const one of iterate(value)) {
    step();
    const rank = key(one);
    if (seen.has(rank)) continue;
    seen.set(rank, true);
    yield one;
  }
}

function* batches(value: Value, size: number, fill: Value): Generator<Value> {
  let batch: Value[] = [];
  for (const one of iterate(value)) {
    step();
    if (batch.length === size) {
      reserveItems(size);
      yield batch;
      batch = [];
    }
    batch.push(one);
  }
  if (batch.length === 0) return;
  if (fill !== null && batch.length < size) {
    reserveItems(size);
    while (batch.length < size) batch.push(fill);
  }
  yield batch;
}

function* slices(value: Value, count: number, fill: Value): Generator<Value> {
  const items = listOf(value);
  const size = Math.floor(items.length / count);
  const longer = items.length % count;
  if (count === 0) fail('integer division or modulo by zero');
  for (let i = 0, at = 0; i < count; i++) {
    reserveItems(size + 1);
    const end = at + size + (i < longer ? 1 : 0);
    yield [...items.slice(at, end), ...(fill !== null && i >= longer ? [fill] : [])];
    at = end;
  }
}

function groups(value: Value, path: Value, otherwise?: Value, caseSensitive = false): Value {
  const get = getter(path, otherwise);
  const key = (one: Value): Value => (caseSensitive ? get(one) : ignoreCase(get(one)));
  const out: Group[] = [];
  let last: Value | undefined;
  let members: Value[] = [];
  for (const one of sorted(listOf(value), key)) {
    const rank = key(one);
    if (last === undefined || !equal(last, rank)) {
      members = [];
      out.push(new Group([get(one), members]));
      last = rank;
    }
    members.push(one);
  }
  return out;
}

function sortedPairs(value: Value, caseSensitive = false, by: Value = 'key', reverse = false): Value {
  if (!(value instanceof Dict)) return fail(`dictsort: expected a dict, got '${typeName(defined(value))}'`);
  if (by !== 'key' && by !== 'value') fail('You can only sort by either "key" or "value"');
  const key = (pair: Value): Value => {
    const part = (pair as Tuple).items[by === 'key' ? 0 : 1];
    return caseSensitive ? part : ignoreCase(part);
  };
  return sorted(listOf(new View('items', value)), key, reverse);
}

function indented(value: Value, width: Value = 4n, first = false, blank = false): Value {
  const text = asString('indent', value);
  const size = typeof width === 'string' ? 0 : Math.max(0, Number(asInteger('indent', width)));
  reserve(text.length + size);
  const by = typeof width === 'string' ? width : ' '.repeat(size);
  const lines = splitLines(`${text}\n`);
  return joined(
    lines.map((line, i) => ((i === 0 ? first : blank || line !== '') ? by : '') + line),
    '\n',
  );
}

function truncated(value: Value, size = 255, killWords = false, end = '...', leeway = 5): Value {
  const spare = size - codePointLength(end);
  if (spare < 0) fail(`truncate: expected a length of at least ${codePointLength(end)}, got ${size}`);
  if (leeway < 0) fail(`truncate: expected a leeway of at least 0, got ${leeway}`);
  if ((lengthOf(value) ?? Infinity) <= size + leeway) return value;
  const points = codePoints(asString('truncate', value));
  const cut = points.slice(0, spare).join('');
  const space = cut.lastIndexOf(' ');
  return (killWords || space < 0 ? cut : cut.slice(0, space)) + end;
}

function toInteger(value: Value, otherwise: Value = 0n, base: Value = 10n): Value {
  const number = numeric(defined(value));
  if (typeof number === 'bigint') return number;
  if (number !== undefined) return Number.isNaN(number) ? otherwise : whole(number);
  if (value instanceof Markup) unsupported('int of a result of safe or escape');
  if (typeof value !== 'string') return otherwise;
  if (base !== 10n) unsupported(`int with base ${textFor(base)}`);
  const parsed = parseIntegerText(value);
  if (parsed !== undefined) return integer(parsed);
  const float = parseFloatText(value);
  return float === undefined || !Number.isFinite(float) ? otherwise : whole(float);
}

function toFloatOr(value: Value, otherwise: Value = 0): Value {
  const number = numeric(defined(value));
  if (number !== undefined) return toFloat(number);
  if (value instanceof Markup) unsupported('float of a result of safe or escape');
  return (typeof value === 'string' ? parseFloatText(value) : undefined) ?? otherwise;
}

/** The items of a value that Python's `reversed()` accepts. */
function reversible(value: Value): Value[] {
  return value instanceof Iter ? fail("'generator' object is not reversible") : listOf(value);
}

function reversed(value: Value): Value {
  if (typeof value === 'string') return slice(value, [null, null, -1n]);
  if (tryIterate(value) === undefined) fail('argument must be iterable');
  const items = listOf(value).reverse();
  return value instanceof Iter ? items : new Iter(items[Symbol.iterator]());
}

/** The first of some items, or an undefined value. */
function firstOf(which: string, items: Iterable<Value>): Value {
  for (const one of items) return one;
  return new Undefined(`No ${which} item, sequence was empty.`);
}

function absolute(value: Value): Value {
  const number = numeric(defined(value)) ?? fail(`bad operand type for abs(): '${typeName(value)}'`);
  return number < 0 || Object.is(number, -0) ? negate(number) : number;
}

/** The attribute of a value, never a key of a dict. */
function attributeOnly(value: Value, name: string): Value {
  const found = attribute(value, name);
  return value instanceof Dict && value.has(name) && found === value.get(name)
    ? new Undefined(`'dict object' has no attribute '${name}'`)
    : found;
}

const valueFilters = bySignature<Value, Value>({
  'abs()': absolute,
  'attr(name: str)': attributeOnly,
  'batch(linecount: int, fill_with?)': (value, size: number, fill: Value = null) =>
    new Iter(batches(value, size, fill), value),
  'd|default(default_value?, boolean?: bool)': (value, otherwise: Value = '', boolean = false) =>
    value instanceof Undefined || (boolean && !truthy(value)) ? otherwise : value,
  'dictsort(case_sensitive?: bool, by?, reverse?: bool)': sortedPairs,
  'e|escape()': (value) => new Markup(escaped(value)),
  'first()': (value) => firstOf('first', iterate(value)),
  'float(default?)': toFloatOr,
  'groupby(attribute, default?, case_sensitive?: bool)': groups,
  'indent(width?, first?: bool, blank?: bool)': indented,
  'int(default?, base?)': toInteger,
  'items()': (value) => new Iter(pairs(value)),
  'join(d?, attribute?)': (value, by: Value = '', path?: Value) => {
    const get = getter(path);
    const texts = listOf(value).map((one) => textFor(get(one)));
    return joined(texts, textFor(by));
  },
  'last()': (value) => firstOf('last', reversible(value).slice(-1)),
  'length|count()': (value) =>
    BigInt(lengthOf(value) ?? fail(`object of type '${typeName(value)}' has no len()`)),
  'list()': listOf,
  'max(case_sensitive?: bool, attribute?)': extreme(-1),
  'min(case_sensitive?: bool, attribute?)': extreme(1),
  'replace(old, new, count?: int | None)': (value, old: Value, by: Value, count?: number) =>
    replaceText(textFor(value), textFor(old), textFor(by), count),
  'reverse()': reversed,
  'round(precision?: int, method?)': (value, precision = 0, method: Value = 'common') =>
    roundFloat(defined(value), precision, method),
  'safe()': (value) => (value instanceof Markup ? value : new Markup(textFor(value))),
  'slice(slices: int, fill_with?)': (value, count: number, fill: Value = null) =>
    new Iter(slices(value, count, fill)),
  'sort(reverse?: bool, case_sensitive?: bool, attribute?)': (
    value,
    reverse?: boolean,
    caseSensitive?: boolean,
    path?: Value,
  ) => {
    const paths = typeof path === 'string' ? path.split(',') : [path];
    const keys = paths.map((one) => keyed(one, caseSensitive));
    return sorted(listOf(value), (one) => keys.map((key) => key(one)), reverse);
  },
  'string()': (value) => (value instanceof Markup ? value : textFor(value)),
  'sum(attribute?, start?)': (value, path?: Value, start: Value = 0n) => {
    if (typeof start === 'string') fail("sum() can't sum strings [use ''.join(seq) instead]");
    return sumOf(listOf(value).map(getter(path)), start);
  },
  'tojson(ensure_ascii?: bool, indent?, separators?, sort_keys?: bool)': toJson,
  'truncate(length?: int, killwords?: bool, end?: str, leeway?: int | None)': truncated,
  'unique(case_sensitive?: bool, attribute?)': (value, caseSensitive?: boolean, path?: Value) =>
    new Iter(uniqueItems(value, keyed(path, caseSensitive)), value),
});

/** The words that `title` capitalizes. */
const WORDS = new RegExp(`[^-({[<${SPACE.slice(1)}+`, 'g');

/** Filters of a text; other values are converted to one first, as in Jinja. */
const textFilters = bySignature<string, Value>({
  'capitalize()': capitalize,
  'center(width?: int)': (text, width = 80) => pad(text, width, 'center'),
  'lower()': (text) => text.toLowerCase(),
  'title()': (text) =>
    text.replace(WORDS, (word) => {
      const [first] = word;
      return first.toUpperCase() + word.slice(first.length).toLowerCase();
    }),
  'trim(chars?: str | None)': (text, characters?: string) => strip(text, characters),
  'upper()': (text) => text.toUpperCase(),
  'wordcount()': (text) => BigInt(text.match(/[\p{L}\p{N}_]+/gu)?.length ?? 0),
});

function softText(name: string, value: Value): string {
  if (value instanceof Markup) unsupported(`${name} of a result of safe or escape`);
  const text = textFor(value);
  reserve(text.length);
  return text;
}

export const filters: ReadonlyMap<string, Filter> = new Map<string, Filter>([
  ...valueFilters,
  ...Array.from(textFilters, ([name, run]): [string, Filter] => [
    name,
    (value, args, keywords) => run(softText(name, value), args, keywords),
  ]),
  [
    'format',
    (value, args, keywords) => {
      if (args.length > 0 && keywords.size > 0)
        fail("can't handle positional and keyword arguments at the same time");
      return percentFormat(
        softText('format', value),
        keywords.size > 0 ? new Dict(keywords) : new Tuple(args),
      );
    },
  ],
]);

/** Jinja's other filters, refused by name. */
export const otherFilters: ReadonlySet<string> = new Set(
  'filesizeformat forceescape pprint random striptags urlencode urlize wordwrap xmlattr'.split(' '),
);
