/**
 * Jinja's filters, with transformers' `tojson`. Filters for HTML and random ones are refused by name.
 *
 * Source: jinja2 3.1.6, filters.py.
 */
import { asCount, asString, bind } from './arguments.ts';
import { attribute, item } from './attributes.ts';
import { percentFormat, whole } from './format.ts';
import { toJson } from './json.ts';
import { fail, reserve, reserveItems, step, unsupported } from './limits.ts';
import { parseFloatText, parseIntegerText, roundFloat, sumOf } from './numbers.ts';
import { escaped, integer, negate, slice } from './operators.ts';
import { centerLeft, joined, replaceText } from './string-methods.ts';
import { capitalize, SPACE, splitLines, strip } from './text.ts';
import {
  codePointLength,
  codePoints,
  compare,
  Dict,
  defined,
  equal,
  Group,
  Iter,
  iterate,
  type Keywords,
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

export type Filter = (value: Value, args: readonly Value[], keywords: Keywords) => Value;

/** Filters and tests by name, for `map` and `select`. */
export interface Library {
  has(kind: 'filter' | 'test', name: string): boolean;
  filter(name: string): Filter;
  test(name: string): (value: Value, args: readonly Value[], keywords: Keywords) => boolean;
}

/** A filter with named arguments. */
function named(
  name: string,
  names: readonly string[],
  required: number,
  run: (value: Value, args: (Value | undefined)[]) => Value,
): Filter {
  return (value, args, keywords) => run(value, bind(name, names, required, args, keywords));
}

/** A string filter without arguments; other values are converted to strings first, as in Jinja. */
function ofText(name: string, run: (text: string) => Value): Filter {
  return named(name, [], 0, (value) => run(softText(name, value)));
}

function softText(name: string, value: Value): string {
  if (value instanceof Markup) unsupported(`${name} of what safe or escape gave`);
  const text = textFor(value);
  reserve(text.length);
  return text;
}

/** Jinja's `attribute` argument: keys separated by dots, numbers as indices. */
function getter(path: Value | undefined, otherwise: Value = null): (value: Value) => Value {
  if (path === undefined || path === null) return (value) => value;
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

function keyed(path: Value | undefined, caseSensitive: Value | undefined): (value: Value) => Value {
  const get = getter(path);
  return truthy(caseSensitive ?? false) ? get : (value) => ignoreCase(get(value));
}

/** Stable sort by key, also with `reverse`. */
function sorted(values: Value[], key: (value: Value) => Value, reverse: boolean): Value[] {
  const rows = values.map((value) => [key(value), value] as const);
  rows.sort(([a], [b]) => (reverse ? compare(b, a) : compare(a, b)));
  return rows.map(([, value]) => value);
}

function extreme(name: string, sign: number): Filter {
  return named(name, ['case_sensitive', 'attribute'], 0, (value, [caseSensitive, path]) => {
    const key = keyed(path, caseSensitive);
    let best: readonly [Value, Value] | undefined;
    for (const one of listOf(value)) {
      const rank = key(one);
      if (best === undefined || sign * compare(rank, best[0]) < 0) best = [rank, one];
    }
    return best === undefined ? new Undefined('No aggregated item, sequence was empty.') : best[1];
  });
}

function* filtered(value: Value, keep: () => (one: Value) => boolean): Generator<Value> {
  if (!truthy(value)) return;
  const test = keep();
  for (const one of iterate(value)) {
    step();
    if (test(one)) yield one;
  }
}

function selection(library: Library, name: string, wanted: boolean, byAttribute: boolean): Filter {
  return (value, args, keywords) => {
    const keep = (): ((one: Value) => boolean) => {
      if (byAttribute && args.length === 0) fail(`${name}: expected the name of an attribute, got none`);
      const get = byAttribute ? getter(args[0]) : (one: Value) => one;
      const rest = byAttribute ? args.slice(1) : args;
      if (rest.length === 0) return (one) => truthy(get(one)) === wanted;
      const test = library.test(asString(name, rest[0]));
      return (one) => test(get(one), rest.slice(1), keywords) === wanted;
    };
    return new Iter(filtered(value, keep), value);
  };
}

function* mapped(
  library: Library,
  value: Value,
  args: readonly Value[],
  keywords: Keywords,
): Generator<Value> {
  if (!truthy(value)) return;
  let change: (one: Value) => Value;
  if (args.length === 0 && keywords.has('attribute')) {
    const [path, otherwise] = bind('map', ['attribute', 'default'], 1, [], keywords);
    change = getter(path, otherwise);
  } else {
    if (args.length === 0) fail('map: expected the name of a filter, got none');
    const filter = library.filter(asString('map', args[0]));
    change = (one) => filter(one, args.slice(1), keywords);
  }
  for (const one of iterate(value)) {
    step();
    yield change(one);
  }
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

function groups(value: Value, args: (Value | undefined)[]): Value {
  const [path, otherwise = null, caseSensitive = false] = args;
  const get = getter(path, otherwise);
  const key = (one: Value): Value => (truthy(caseSensitive) ? get(one) : ignoreCase(get(one)));
  const out: Group[] = [];
  let last: Value | undefined;
  let members: Value[] = [];
  for (const one of sorted(listOf(value), key, false)) {
    const rank = key(one);
    if (last === undefined || !equal(last, rank)) {
      members = [];
      out.push(new Group([truthy(caseSensitive) ? rank : get(one), members]));
      last = rank;
    }
    members.push(one);
  }
  return out;
}

function indented(value: Value, [width = 4n, first = false, blank = false]: (Value | undefined)[]): Value {
  const text = asString('indent', value);
  const size = typeof width === 'string' ? 0 : Math.max(0, asCount('indent', width));
  reserve(text.length + size);
  const by = typeof width === 'string' ? width : ' '.repeat(size);
  const lines = splitLines(`${text}\n`);
  const changed = lines.map((line, i) => [
    (i === 0 ? truthy(first) : truthy(blank) || line !== '') ? by : '',
    line,
  ]);
  reserve(changed.reduce((sum, [margin, line]) => sum + margin.length + line.length + 1, 0));
  return changed.map(([margin, line]) => margin + line).join('\n');
}

function truncated(
  value: Value,
  [length = 255n, killWords = false, end = '...', leeway = 5n]: (Value | undefined)[],
): Value {
  const size = asCount('truncate', length);
  const tail = asString('truncate', end);
  const spare = size - codePointLength(tail);
  if (spare < 0) fail(`truncate: expected a length of at least ${codePointLength(tail)}, got ${size}`);
  if (leeway !== null && asCount('truncate', leeway) < 0)
    fail(`truncate: expected a leeway of at least 0, got ${leeway}`);
  const most = size + (leeway === null ? 5 : asCount('truncate', leeway));
  const items = lengthOf(value);
  if (items !== undefined && items <= most) return value;
  const points = codePoints(asString('truncate', value));
  if (points.length <= most) return value;
  const cut = points.slice(0, spare).join('');
  const space = cut.lastIndexOf(' ');
  return (truthy(killWords) || space < 0 ? cut : cut.slice(0, space)) + tail;
}

function toInteger(value: Value, [otherwise = 0n, base = 10n]: (Value | undefined)[]): Value {
  if (value instanceof Undefined) defined(value);
  const number = numeric(value);
  if (typeof number === 'bigint') return number;
  if (number !== undefined)
    return Number.isFinite(number)
      ? whole(number)
      : Number.isNaN(number)
        ? otherwise
        : fail('cannot convert float infinity to integer');
  if (typeof value !== 'string')
    return value instanceof Markup ? unsupported('int of what safe or escape gave') : otherwise;
  if (base !== 10n) unsupported(`int with base ${textFor(base)}`);
  const parsed = parseIntegerText(value);
  if (parsed !== undefined) return integer(parsed);
  const float = parseFloatText(value);
  return float === undefined || !Number.isFinite(float) ? otherwise : whole(float);
}

function toFloatValue(value: Value, [otherwise = 0]: (Value | undefined)[]): Value {
  const number = numeric(defined(value));
  if (number !== undefined) {
    const float = Number(number);
    return Number.isFinite(float) || typeof number === 'number'
      ? float
      : fail('int too large to convert to float');
  }
  if (value instanceof Markup) unsupported('float of what safe or escape gave');
  return (typeof value === 'string' ? parseFloatText(value) : undefined) ?? otherwise;
}

function lastOf(value: Value): Value {
  const items = reversible('last', value);
  return items.length === 0
    ? new Undefined('No last item, sequence was empty.')
    : (items[items.length - 1] as Value);
}

/** The types that Python's `reversed()` accepts. */
function reversible(name: string, value: Value): readonly Value[] {
  if (value instanceof Iter) return fail(`${name}: 'generator' object is not reversible`);
  return listOf(value);
}

const escapeHtml: Filter = (value) => new Markup(escaped(value));

const lengthFilter: Filter = (value) => {
  const length = lengthOf(value);
  return length === undefined ? fail(`object of type '${typeName(value)}' has no len()`) : BigInt(length);
};

const orDefault = named(
  'default',
  ['default_value', 'boolean'],
  0,
  (value, [otherwise = '', boolean = false]) =>
    value instanceof Undefined || (truthy(boolean) && !truthy(value)) ? otherwise : value,
);

/** The words that `title` capitalizes. */
const WORDS = new RegExp(`[^-({[<${SPACE.slice(1)}+`, 'g');

export function makeFilters(library: Library): ReadonlyMap<string, Filter> {
  return new Map<string, Filter>([
    [
      'abs',
      (value) => {
        const number = numeric(defined(value)) ?? fail(`bad operand type for abs(): '${typeName(value)}'`);
        return number < 0 || Object.is(number, -0) ? negate(number) : number;
      },
    ],
    [
      'attr',
      named('attr', ['name'], 1, (value, [name = null]) => {
        const key = asString('attr', name);
        // Keys are not attributes.
        const found = attribute(value, key);
        return value instanceof Dict && value.has(key) && found === value.get(key)
          ? new Undefined(`'dict object' has no attribute '${key}'`)
          : found;
      }),
    ],
    [
      'batch',
      named(
        'batch',
        ['linecount', 'fill_with'],
        1,
        (value, [size = null, fill = null]) => new Iter(batches(value, asCount('batch', size), fill), value),
      ),
    ],
    ['capitalize', ofText('capitalize', capitalize)],
    [
      'center',
      named('center', ['width'], 0, (value, [given = 80n]) => {
        const text = softText('center', value);
        const width = asCount('center', given);
        const room = width - codePointLength(text);
        if (room <= 0) return text;
        reserve(width);
        const left = centerLeft(room, width);
        return ' '.repeat(left) + text + ' '.repeat(room - left);
      }),
    ],
    ['count', lengthFilter],
    ['d', orDefault],
    ['default', orDefault],
    [
      'dictsort',
      named(
        'dictsort',
        ['case_sensitive', 'by', 'reverse'],
        0,
        (value, [caseSensitive = false, by = 'key', reverse = false]) => {
          if (!(value instanceof Dict))
            return fail(`dictsort: expected a dict, got '${typeName(defined(value))}'`);
          if (by !== 'key' && by !== 'value') fail('You can only sort by either "key" or "value"');
          const key = (pair: Value): Value => {
            const part = (pair as Tuple).items[by === 'key' ? 0 : 1];
            return truthy(caseSensitive) ? part : ignoreCase(part);
          };
          return sorted(listOf(new View('items', value)), key, truthy(reverse));
        },
      ),
    ],
    ['e', escapeHtml],
    ['escape', escapeHtml],
    [
      'first',
      (value) => {
        for (const one of iterate(value)) return one;
        return new Undefined('No first item, sequence was empty.');
      },
    ],
    ['float', named('float', ['default'], 0, toFloatValue)],
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
    ['groupby', named('groupby', ['attribute', 'default', 'case_sensitive'], 1, groups)],
    ['indent', named('indent', ['width', 'first', 'blank'], 0, indented)],
    ['int', named('int', ['default', 'base'], 0, toInteger)],
    ['items', (value) => new Iter(pairs(value))],
    [
      'join',
      named('join', ['d', 'attribute'], 0, (value, [by = '', path]) => {
        const get = getter(path);
        return joined(
          listOf(value).map((one) => textFor(get(one))),
          textFor(by),
        );
      }),
    ],
    ['last', lastOf],
    ['length', lengthFilter],
    ['list', (value) => listOf(value)],
    ['lower', ofText('lower', (text) => text.toLowerCase())],
    ['map', (value, args, keywords) => new Iter(mapped(library, value, args, keywords), value)],
    ['max', extreme('max', -1)],
    ['min', extreme('min', 1)],
    ['reject', selection(library, 'reject', false, false)],
    ['rejectattr', selection(library, 'rejectattr', false, true)],
    [
      'replace',
      named('replace', ['old', 'new', 'count'], 2, (value, [old = null, by = null, count]) =>
        replaceText(
          textFor(value),
          textFor(old),
          textFor(by),
          (count ?? null) === null ? -1 : asCount('replace', count as Value),
        ),
      ),
    ],
    [
      'reverse',
      (value) => {
        if (typeof value === 'string') return slice(value, [null, null, -1n]);
        if (tryIterate(value) === undefined) fail('argument must be iterable');
        if (value instanceof Iter) return listOf(value).reverse();
        return new Iter([...reversible('reverse', value)].reverse()[Symbol.iterator]());
      },
    ],
    [
      'round',
      named('round', ['precision', 'method'], 0, (value, [precision = 0n, method = 'common']) =>
        roundFloat(defined(value), asCount('round', precision), method),
      ),
    ],
    ['safe', (value) => (value instanceof Markup ? value : new Markup(textFor(value)))],
    ['select', selection(library, 'select', true, false)],
    ['selectattr', selection(library, 'selectattr', true, true)],
    [
      'slice',
      named(
        'slice',
        ['slices', 'fill_with'],
        1,
        (value, [count = null, fill = null]) => new Iter(slices(value, asCount('slice', count), fill)),
      ),
    ],
    [
      'sort',
      named(
        'sort',
        ['reverse', 'case_sensitive', 'attribute'],
        0,
        (value, [reverse = false, caseSensitive, path]) => {
          const paths = typeof path === 'string' ? path.split(',') : [path];
          const keys = paths.map((one) => keyed(one, caseSensitive));
          return sorted(listOf(value), (one) => keys.map((key) => key(one)), truthy(reverse));
        },
      ),
    ],
    ['string', (value) => (value instanceof Markup ? value : textFor(value))],
    [
      'sum',
      named('sum', ['attribute', 'start'], 0, (value, [path, start = 0n]) => {
        if (typeof start === 'string') fail("sum() can't sum strings [use ''.join(seq) instead]");
        return sumOf(listOf(value).map(getter(path)), start);
      }),
    ],
    [
      'title',
      ofText('title', (text) =>
        text.replace(WORDS, (word) => {
          const [first] = word;
          return first.toUpperCase() + word.slice(first.length).toLowerCase();
        }),
      ),
    ],
    ['tojson', (value, args, keywords) => toJson(value, args, keywords)],
    [
      'trim',
      named('trim', ['chars'], 0, (value, [chars = null]) =>
        strip(softText('trim', value), chars === null ? undefined : asString('trim', chars), {
          left: true,
          right: true,
        }),
      ),
    ],
    ['truncate', named('truncate', ['length', 'killwords', 'end', 'leeway'], 0, truncated)],
    [
      'unique',
      named(
        'unique',
        ['case_sensitive', 'attribute'],
        0,
        (value, [caseSensitive, path]) => new Iter(uniqueItems(value, keyed(path, caseSensitive)), value),
      ),
    ],
    ['upper', ofText('upper', (text) => text.toUpperCase())],
    ['wordcount', ofText('wordcount', (text) => BigInt(text.match(/[\p{L}\p{N}_]+/gu)?.length ?? 0))],
  ]);
}

/** Jinja's other filters, refused by name. */
export const otherFilters: ReadonlySet<string> = new Set(
  'filesizeformat forceescape pprint random striptags urlencode urlize wordwrap xmlattr'.split(' '),
);
