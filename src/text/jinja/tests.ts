/** Jinja's tests (`is defined`) on values; those on names of filters and tests are in library.ts. */

import { type Bound, bySignature } from './arguments.ts';
import { equal } from './comparison.ts';
import { unsupported } from './limits.ts';
import { binary, contains, holds } from './operators.ts';
import { isLower, isUpper } from './text.ts';
import {
  Dict,
  Fn,
  lengthOf,
  Markup,
  Native,
  numeric,
  textFor,
  tryIterate,
  typeName,
  Undefined,
  type Value,
  View,
} from './values.ts';

export type Test = Bound<Value, boolean>;

function sameAs(value: Value, other: Value): boolean {
  const isSmall = (one: Value): boolean => typeof one !== 'bigint' || (one >= -5n && one <= 256n);
  const hasIdentity = (one: Value): boolean => !['string', 'number'].includes(typeof one) && isSmall(one);
  if (
    typeName(value) === typeName(other) &&
    equal(value, other) &&
    !(hasIdentity(value) && hasIdentity(other))
  ) {
    unsupported(`sameas of two ${typeName(value)}`);
  }
  return value === other;
}

const isDivisible = (value: Value, by: Value): boolean => equal(binary('%', value, by), 0n);

export const tests: ReadonlyMap<string, Test> = bySignature<Value, boolean>({
  '==|eq|equalto(b)': (value, other: Value) => equal(value, other),
  '!=|ne(b)': (value, other: Value) => !equal(value, other),
  '<|lt|lessthan(b)': (value, other: Value) => holds('<', value, other),
  '<=|le(b)': (value, other: Value) => holds('<=', value, other),
  '>|gt|greaterthan(b)': (value, other: Value) => holds('>', value, other),
  '>=|ge(b)': (value, other: Value) => holds('>=', value, other),
  'boolean()': (value) => typeof value === 'boolean',
  'callable()': (value) =>
    value instanceof Fn ||
    value instanceof Undefined ||
    (value instanceof Native && value.call !== undefined),
  'defined()': (value) => !(value instanceof Undefined),
  'divisibleby(num)': isDivisible,
  'escaped()': (value) => value instanceof Markup,
  'even()': (value) => isDivisible(value, 2n),
  'false()': (value) => value === false,
  'float()': (value) => typeof value === 'number',
  'in(seq)': (value, container: Value) => contains(container, value),
  'integer()': (value) => typeof value === 'bigint',
  'iterable()': (value) => typeof value === 'string' || tryIterate(value) !== undefined,
  'lower()': (value) => isLower(textFor(value)),
  'mapping()': (value) => value instanceof Dict,
  'none()': (value) => value === null,
  'number()': (value) => numeric(value) !== undefined,
  'odd()': (value) => equal(binary('%', value, 2n), 1n),
  'sameas(other)': sameAs,
  'sequence()': (value) => lengthOf(value) !== undefined && !(value instanceof View),
  'string()': (value) => typeof value === 'string' || value instanceof Markup,
  'true()': (value) => value === true,
  'undefined()': (value) => value instanceof Undefined,
  'upper()': (value) => isUpper(textFor(value)),
});
