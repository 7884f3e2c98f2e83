/** Python's `==` and `<`. */
import { fail, nest, reserve, unsupported } from './limits.ts';
import {
  Dict,
  defined,
  numeric,
  Range,
  sequence,
  textOf,
  typeName,
  Undefined,
  type Value,
  View,
} from './values.ts';

export function equal(left: Value, right: Value, depth = 0): boolean {
  nest(depth);
  const a = numeric(left);
  const b = numeric(right);
  // biome-ignore lint/suspicious/noDoubleEquals: a bigint and a number of the same value are equal.
  if (a !== undefined && b !== undefined) return a == b;
  const text = textOf(left);
  if (text !== undefined) {
    const other = textOf(right);
    if (other?.length === text.length) reserve(text.length);
    return text === other;
  }
  if (left instanceof Undefined) return right instanceof Undefined;
  const one = sequence(left);
  const other = sequence(right);
  if (one && other && Array.isArray(left) === Array.isArray(right))
    return one.length === other.length && one.every((item, i) => equal(item, other[i], depth + 1));
  if (left instanceof Dict && right instanceof Dict) {
    if (left.size !== right.size) return false;
    for (const [key, value] of left.entries()) {
      const other = right.get(key);
      if (other === undefined || !equal(value, other, depth + 1)) return false;
    }
    return true;
  }
  if (left instanceof View || left instanceof Range) {
    if (left.constructor === right?.constructor) unsupported(`comparing two ${typeName(left)}`);
  }
  return left === right;
}

/** Compares by code points, whose order differs from UTF-16 units. */
function compareText(a: string, b: string): number {
  reserve(Math.min(a.length, b.length));
  const end = Math.min(a.length, b.length);
  for (let i = 0; i < end; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    const isHigh = (unit: number): boolean => unit >= 0xd800 && unit <= 0xdfff;
    return isHigh(x) === isHigh(y) ? x - y : isHigh(x) ? 1 : -1;
  }
  return a.length - b.length;
}

/** Negative, zero or positive; NaN when a float is NaN. `sign` is the operator, for errors. */
export function compare(left: Value, right: Value, sign = '<', depth = 0): number {
  nest(depth);
  defined(left);
  defined(right);
  const a = numeric(left);
  const b = numeric(right);
  if (a !== undefined && b !== undefined) {
    return a < b ? -1 : a > b ? 1 : Number.isNaN(a) || Number.isNaN(b) ? Number.NaN : 0;
  }
  const text = textOf(left);
  const otherText = textOf(right);
  if (text !== undefined && otherText !== undefined) return compareText(text, otherText);
  const one = sequence(left);
  const other = sequence(right);
  if (one && other && Array.isArray(left) === Array.isArray(right)) {
    for (let i = 0; i < Math.min(one.length, other.length); i++) {
      if (!equal(one[i], other[i])) return compare(one[i], other[i], sign, depth + 1);
    }
    return one.length - other.length;
  }
  if (left instanceof View && right instanceof View) unsupported(`comparing two ${typeName(left)}`);
  return fail(`'${sign}' not supported between instances of '${typeName(left)}' and '${typeName(right)}'`);
}
