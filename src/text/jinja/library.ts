/** Filters and tests by name, and those of them that take the name of another. */
import { asString } from './arguments.ts';
import { type Filter, filters, getter, otherFilters } from './filters.ts';
import { fail, step, unsupported } from './limits.ts';
import { type Test, tests } from './tests.ts';
import { hashKey, Iter, iterate, truthy, type Value } from './values.ts';

export function filterNamed(name: string): Filter {
  if (otherFilters.has(name)) unsupported(`the filter ${name}`);
  return allFilters.get(name) ?? fail(`No filter named '${name}'.`);
}

export function testNamed(name: string): Test {
  return allTests.get(name) ?? fail(`No test named '${name}'.`);
}

/**
 * A generator over a value. `prepare` runs when the first item is read, and returns what each item becomes.
 */
function lazily(value: Value, prepare: () => (one: Value) => readonly Value[]): Iter {
  function* items(): Generator<Value> {
    if (!truthy(value)) return;
    const change = prepare();
    for (const one of iterate(value)) {
      step();
      yield* change(one);
    }
  }
  return new Iter(items(), value);
}

function selection(name: string, wanted: boolean, byAttribute: boolean): Filter {
  return (value, args, keywords) =>
    lazily(value, () => {
      if (byAttribute && args.length === 0) fail(`${name}: expected the name of an attribute, got none`);
      const get = getter(byAttribute ? args[0] : null);
      const [test, ...rest] = args.slice(byAttribute ? 1 : 0);
      if (test === undefined) return (one) => (truthy(get(one)) === wanted ? [one] : []);
      const holds = testNamed(asString(name, test));
      return (one) => (holds(get(one), rest, keywords) === wanted ? [one] : []);
    });
}

const map: Filter = (value, args, keywords) =>
  lazily(value, () => {
    const path = keywords.get('attribute');
    if (args.length === 0 && path !== undefined) {
      const other = [...keywords.keys()].find((key) => key !== 'attribute' && key !== 'default');
      if (other !== undefined) fail(`map: got an unexpected argument '${other}'`);
      const get = getter(path, keywords.get('default'));
      return (one) => [get(one)];
    }
    const [name, ...rest] = args;
    if (name === undefined) fail('map: expected the name of a filter, got none');
    const filter = filterNamed(asString('map', name));
    return (one) => [filter(one, rest, keywords)];
  });

const allFilters: ReadonlyMap<string, Filter> = new Map([
  ...filters,
  ['map', map],
  ['reject', selection('reject', false, false)],
  ['rejectattr', selection('rejectattr', false, true)],
  ['select', selection('select', true, false)],
  ['selectattr', selection('selectattr', true, true)],
]);

/** Whether a value is the name of one; an unhashable value is an error, as in Python. */
const isNameIn =
  (...names: readonly { has(name: string): boolean }[]): Test =>
  (value) => {
    hashKey(value);
    return typeof value === 'string' && names.some((known) => known.has(value));
  };

const allTests: ReadonlyMap<string, Test> = new Map([
  ...tests,
  ['filter', isNameIn(allFilters, otherFilters)],
  ['test', (value, args, keywords) => isNameIn(allTests)(value, args, keywords)],
]);
