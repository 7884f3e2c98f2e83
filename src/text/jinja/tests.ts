/** Jinja's tests (`is defined`). */
import { bind } from './arguments.ts';
import type { Library } from './filters.ts';
import { fail, unsupported } from './limits.ts';
import { binary, contains } from './operators.ts';
import { isLower, isUpper } from './text.ts';
import {
  compare,
  Dict,
  equal,
  Fn,
  hashKey,
  type Keywords,
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

export type Test = (value: Value, args: readonly Value[], keywords: Keywords) => boolean;

function ordered(sign: string, holds: (order: number) => boolean): Test {
  return (value, args, keywords) => {
    const [other = null] = bind(sign, ['b'], 1, args, keywords);
    return holds(compare(value, other, sign));
  };
}

function remainder(value: Value, by: Value): Value {
  return binary('%', value, by);
}

const equals: Test = (value, args) =>
  args.length === 1 ? equal(value, args[0]) : fail(`eq: expected one argument, got ${args.length}`);
const differs: Test = (value, args, keywords) => !equals(value, args, keywords);
const isIn: Test = (value, [container = null]) => contains(container, value);
const less = ordered('<', (order) => order < 0);
const lessOrEqual = ordered('<=', (order) => order <= 0);
const greater = ordered('>', (order) => order > 0);
const greaterOrEqual = ordered('>=', (order) => order >= 0);

const sameAs: Test = (value, args, keywords) => {
  const [other = null] = bind('sameas', ['other'], 1, args, keywords);
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
};

export function makeTests(library: Library): ReadonlyMap<string, Test> {
  const isNameOf =
    (kind: 'filter' | 'test'): Test =>
    (value) => {
      hashKey(value);
      return typeof value === 'string' && library.has(kind, value);
    };
  return new Map<string, Test>([
    ['!=', differs],
    ['<', less],
    ['<=', lessOrEqual],
    ['==', equals],
    ['>', greater],
    ['>=', greaterOrEqual],
    ['boolean', (value) => typeof value === 'boolean'],
    [
      'callable',
      (value) =>
        value instanceof Fn ||
        value instanceof Undefined ||
        (value instanceof Native && value.call !== undefined),
    ],
    ['defined', (value) => !(value instanceof Undefined)],
    [
      'divisibleby',
      (value, args, keywords) => {
        const [by = null] = bind('divisibleby', ['num'], 1, args, keywords);
        return equal(remainder(value, by), 0n);
      },
    ],
    ['eq', equals],
    ['equalto', equals],
    ['escaped', (value) => value instanceof Markup],
    ['even', (value) => equal(remainder(value, 2n), 0n)],
    ['false', (value) => value === false],
    ['filter', isNameOf('filter')],
    ['float', (value) => typeof value === 'number'],
    ['ge', greaterOrEqual],
    ['greaterthan', greater],
    ['gt', greater],
    ['in', isIn],
    ['integer', (value) => typeof value === 'bigint'],
    ['iterable', (value) => typeof value === 'string' || tryIterate(value) !== undefined],
    ['le', lessOrEqual],
    ['lessthan', less],
    ['lower', (value) => isLower(textFor(value))],
    ['lt', less],
    ['mapping', (value) => value instanceof Dict],
    ['ne', differs],
    ['none', (value) => value === null],
    ['number', (value) => numeric(value) !== undefined],
    ['odd', (value) => equal(remainder(value, 2n), 1n)],
    ['sameas', sameAs],
    ['sequence', (value) => lengthOf(value) !== undefined && !(value instanceof View)],
    ['string', (value) => typeof value === 'string' || value instanceof Markup],
    ['test', isNameOf('test')],
    ['true', (value) => value === true],
    ['undefined', (value) => value instanceof Undefined],
    ['upper', (value) => isUpper(textFor(value))],
  ]);
}
