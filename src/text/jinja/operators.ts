/** Python's operators, subscripts and slices. */

import { compare, equal } from './comparison.ts';
import { percentFormat } from './format.ts';
import { exceeded, fail, limits, reserve, reserveItems, step, unsupported } from './limits.ts';
import {
  codePoints,
  Dict,
  defined,
  hasSurrogates,
  isHashable,
  listOf,
  Markup,
  numeric,
  Range,
  Tuple,
  textFor,
  tryIterate,
  typeName,
  type Value,
  View,
} from './values.ts';

export function integer(value: bigint): bigint {
  if (value < SMALL && value > -SMALL) return value;
  const bits = value.toString(16).length * 4;
  if (bits > limits.integerBits) exceeded('integerBits', 'bits in a whole number', bits);
  return value;
}
const SMALL = 2n ** 1024n;

export function toFloat(value: bigint | number): number {
  const float = Number(value);
  if (typeof value === 'bigint' && !Number.isFinite(float)) fail('int too large to convert to float');
  return float;
}

export function binary(operator: string, left: Value, right: Value): Value {
  step();
  defined(left);
  if (operator === '%' && typeof left === 'string') return percentFormat(left, right);
  defined(right);
  const a = numeric(left);
  const b = numeric(right);
  if (a !== undefined && b !== undefined) {
    return typeof a === 'bigint' && typeof b === 'bigint'
      ? integers(operator, a, b)
      : floats(operator, toFloat(a), toFloat(b));
  }
  if (left instanceof Markup || right instanceof Markup) {
    if (operator !== '+') unsupported(`'${operator}' on a result of safe or escape`);
    if (isText(left) && isText(right)) return new Markup(concatenate(escaped(left), escaped(right)));
  }
  if (operator === '+') {
    if (typeof left === 'string' && typeof right === 'string') return concatenate(left, right);
    if (Array.isArray(left) && Array.isArray(right)) {
      reserveItems(left.length + right.length);
      return [...left, ...right];
    }
    if (left instanceof Tuple && right instanceof Tuple) {
      reserveItems(left.items.length + right.items.length);
      return new Tuple([...left.items, ...right.items]);
    }
  }
  if (left instanceof View || right instanceof View) unsupported(`'${operator}' on a view of a dict`);
  if (operator === '*') {
    if (typeof b === 'bigint') return repeat(left, b);
    if (typeof a === 'bigint') return repeat(right, a);
  }
  return fail(`unsupported operand type(s) for ${operator}: '${typeName(left)}' and '${typeName(right)}'`);
}

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  "'": '&#39;',
  '"': '&#34;',
};

/** Text with HTML characters escaped, unless already marked as safe. */
export function escaped(value: Value): string {
  if (value instanceof Markup) return value.text;
  const text = textFor(value);
  reserve(text.length);
  return text.replace(/[&<>'"]/g, (character) => ESCAPES[character]);
}

function isText(value: Value): boolean {
  return typeof value === 'string' || value instanceof Markup;
}

export function concatenate(left: string, right: string): string {
  reserve(left.length + right.length);
  return left + right;
}

function repeat(value: Value, count: bigint): Value {
  if (count > 2n ** 63n) fail(`expected a count that fits an index, got ${count}`);
  const times = count < 0n ? 0 : Number(count);
  if (typeof value === 'string') {
    reserve(value.length * times);
    return value.repeat(value === '' ? 0 : times);
  }
  const items = Array.isArray(value) ? value : value instanceof Tuple ? value.items : undefined;
  if (items === undefined) fail(`can't multiply sequence by non-int of type '${typeName(value)}'`);
  reserveItems(items.length * times);
  const out =
    items.length === 0 ? [] : Array.from({ length: items.length * times }, (_, i) => items[i % items.length]);
  return Array.isArray(value) ? out : new Tuple(out);
}

function integers(operator: string, a: bigint, b: bigint): Value {
  if (b === 0n && ['/', '//', '%'].includes(operator)) fail('division by zero');
  switch (operator) {
    case '+':
      return integer(a + b);
    case '-':
      return integer(a - b);
    case '*':
      return integer(a * b);
    case '//':
      return a / b - (a % b !== 0n && a < 0n !== b < 0n ? 1n : 0n);
    case '%':
      return a - b * (integers('//', a, b) as bigint);
    case '/': {
      const exact = 2n ** 53n;
      if (a > exact || a < -exact || b > exact || b < -exact) unsupported('division of integers beyond 2^53');
      return Number(a) / Number(b);
    }
  }
  return power(a, b);
}

/** Integer powers are exact; others depend on the platform's `pow` and are refused. */
function power(a: bigint, b: bigint): Value {
  if (b < 0n) {
    if (a === 0n) fail('0.0 cannot be raised to a negative power');
    const whole = power(a, -b) as bigint;
    const isExact = (whole & (whole - 1n)) === 0n || (-whole & (-whole - 1n)) === 0n;
    if (!isExact) unsupported('a negative exponent of a base other than a power of two');
    return 1 / toFloat(whole);
  }
  const bits = BigInt((a < 0n ? -a : a).toString(2).length);
  if (a > 1n || a < -1n) {
    if ((bits - 1n) * b > BigInt(limits.integerBits))
      exceeded('integerBits', 'bits in a whole number', (bits - 1n) * b);
  }
  return integer(a ** b);
}

function floats(operator: string, a: number, b: number): Value {
  if (b === 0 && ['/', '//', '%'].includes(operator)) fail('division by zero');
  switch (operator) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '/':
      return a / b;
    case '%':
      return floatModulo(a, b);
    case '//': {
      const quotient = (a - floatModulo(a, b)) / b;
      const floor = Math.floor(quotient);
      return quotient - floor > 0.5 ? floor + 1 : floor;
    }
  }
  const whole = Number.isInteger(a) && Number.isInteger(b) && b >= 0 && b < 1024;
  const result = a ** b;
  if (!whole || Math.abs(result) > 2 ** 53)
    unsupported('a power of floats that is not a whole number below 2^53');
  return result;
}

function floatModulo(a: number, b: number): number {
  const rest = a % b;
  if (rest === 0) return b < 0 ? -0 : 0;
  return rest < 0 !== b < 0 ? rest + b : rest;
}

export function negate(value: Value): Value {
  const number = numeric(defined(value));
  return number === undefined ? fail(`bad operand type for unary -: '${typeName(value)}'`) : -number;
}

export function positive(value: Value): Value {
  return numeric(defined(value)) ?? fail(`bad operand type for unary +: '${typeName(value)}'`);
}

/** A comparison such as `left <= right` or `left in right`. */
export function holds(sign: string, left: Value, right: Value): boolean {
  switch (sign) {
    case '==':
      return equal(left, right);
    case '!=':
      return !equal(left, right);
    case 'in':
      return contains(right, left);
    case 'not in':
      return !contains(right, left);
  }
  const order = compare(left, right, sign);
  return sign === '<' ? order < 0 : sign === '<=' ? order <= 0 : sign === '>' ? order > 0 : order >= 0;
}

/** `value in container`. */
export function contains(container: Value, value: Value): boolean {
  if (typeof container === 'string' || container instanceof Markup) {
    const text = container instanceof Markup ? container.text : container;
    const part = value instanceof Markup ? value.text : value;
    if (typeof part !== 'string') {
      defined(value);
      fail(`'in <string>' requires string as left operand, not ${typeName(value)}`);
    }
    reserve(text.length);
    return text.includes(part);
  }
  if (container instanceof Dict) return container.has(value);
  const items = tryIterate(container) ?? fail(`argument of type '${typeName(container)}' is not iterable`);
  for (const item of items) if (equal(item, value)) return true;
  return false;
}

/**
 * `object[index]`; undefined where Python raises TypeError or LookupError; Jinja then looks up an attribute.
 */
export function subscript(object: Value, index: Value): Value | undefined {
  if (object instanceof Dict) {
    return isHashable(index) ? object.get(index) : undefined;
  }
  const at = numeric(index);
  if (typeof at !== 'bigint') return undefined;
  const position = Number(at);
  if (typeof object === 'string') {
    return hasSurrogates(object) ? codePoints(object).at(position) : object.at(position);
  }
  if (Array.isArray(object)) return object.at(position);
  if (object instanceof Tuple) return object.items.at(position);
  if (object instanceof Range) {
    const from = position < 0 ? position + object.length : position;
    return from >= 0 && from < object.length ? object.start + BigInt(from) * object.step : undefined;
  }
  if (object instanceof Markup) unsupported('an index into a result of safe or escape');
  return undefined;
}

export function slice(object: Value, bounds: readonly Value[]): Value {
  defined(object);
  const [start, stop, stride = null] = bounds.map((bound) => {
    const number = bound === null ? null : numeric(defined(bound));
    if (number !== null && typeof number !== 'bigint') fail('slice indices must be integers or None');
    return number;
  });
  if (stride === 0n) fail('slice step cannot be zero');
  const cut = <T>(items: readonly T[]): T[] => {
    const size = items.length;
    const by = Number(stride ?? 1n);
    const low = by > 0 ? 0 : -1;
    const high = by > 0 ? size : size - 1;
    const place = (bound: bigint | null | undefined, otherwise: number): number => {
      if (bound === null || bound === undefined) return otherwise;
      const at = Number(bound);
      return Math.max(low, Math.min(high, at < 0 ? at + size : at));
    };
    const from = place(start, by > 0 ? 0 : size - 1);
    const to = place(stop, by > 0 ? size : -1);
    if (by === 1) return items.slice(from, Math.max(from, to));
    const out: T[] = [];
    for (let i = from; by > 0 ? i < to : i > to; i += by) out.push(items[i]);
    return out;
  };
  if (typeof object === 'string') {
    if ((stride ?? 1n) !== 1n || hasSurrogates(object)) return cut(codePoints(object)).join('');
    return object.slice(Number(start ?? 0n), stop === null || stop === undefined ? undefined : Number(stop));
  }
  if (Array.isArray(object)) {
    reserveItems(object.length);
    return cut(object);
  }
  if (object instanceof Tuple) {
    reserveItems(object.items.length);
    return new Tuple(cut(object.items));
  }
  if (object instanceof Range || object instanceof Markup) unsupported(`a slice of a ${typeName(object)}`);
  return fail(`'${typeName(object)}' object is not subscriptable`);
}

/** Unpacks an iterable into `size` values, for tuple targets. */
export function unpack(value: Value, size: number): Value[] {
  const items = listOf(value);
  if (items.length < size) fail(`not enough values to unpack (expected ${size}, got ${items.length})`);
  if (items.length > size) fail(`too many values to unpack (expected ${size}, got ${items.length})`);
  return items;
}
