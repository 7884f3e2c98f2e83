/**
 * Python's values in JavaScript: an int is a bigint, a float a number, None null, a list an array; other
 * types are classes here. Truth, equality, order, hashing and printing are Python's.
 */
import { exceeded, fail, limits, nest, reserve, reserveItems, unsupported } from './limits.ts';
import { floatText, stringLiteral } from './literals.ts';

export type Value =
  | null
  | boolean
  | bigint
  | number
  | string
  | Value[]
  | Tuple
  | Dict
  | View
  | Range
  | Iter
  | Undefined
  | Markup
  | Namespace
  | Fn
  | Native;

export class Tuple {
  readonly items: readonly Value[];
  constructor(items: readonly Value[]) {
    this.items = items;
  }
}

/** An item of `groupby`: a named pair. */
export class Group extends Tuple {}

/** A dict in order of insertion; 1, 1.0 and True are one key, as in Python. */
export class Dict {
  readonly #entries = new Map<unknown, [Value, Value]>();

  constructor(entries: Iterable<readonly [Value, Value]> = []) {
    for (const [key, value] of entries) this.set(key, value);
  }
  get size(): number {
    return this.#entries.size;
  }
  get(key: Value): Value | undefined {
    return this.#entries.get(hashKey(key))?.[1];
  }
  has(key: Value): boolean {
    return this.#entries.has(hashKey(key));
  }
  set(key: Value, value: Value): void {
    const hash = hashKey(key);
    const entry = this.#entries.get(hash);
    if (entry) entry[1] = value;
    else this.#entries.set(hash, [key, value]);
  }
  entries(): Iterable<[Value, Value]> {
    return this.#entries.values();
  }
  *keys(): Generator<Value> {
    for (const [key] of this.#entries.values()) yield key;
  }
}

/** `dict.keys()`, `.values()` or `.items()`. */
export class View {
  readonly kind: 'keys' | 'values' | 'items';
  readonly dict: Dict;
  constructor(kind: View['kind'], dict: Dict) {
    this.kind = kind;
    this.dict = dict;
  }
  *items(): Generator<Value> {
    for (const [key, value] of this.dict.entries()) {
      yield this.kind === 'keys' ? key : this.kind === 'values' ? value : new Tuple([key, value]);
    }
  }
}

export class Range {
  readonly start: bigint;
  readonly stop: bigint;
  readonly step: bigint;
  readonly length: number;
  constructor(start: bigint, stop: bigint, step: bigint) {
    this.start = start;
    this.stop = stop;
    this.step = step;
    const span = step > 0n ? stop - start : start - stop;
    const size = step > 0n ? step : -step;
    const length = span <= 0n ? 0n : (span + size - 1n) / size;
    if (length > BigInt(limits.range)) exceeded('range', 'items in a range', length);
    this.length = Number(length);
  }
  *items(): Generator<Value> {
    for (let i = 0, at = this.start; i < this.length; i++, at += this.step) yield at;
  }
}

/** A generator, as returned by `map` and `select`: it can be read once. */
export class Iter {
  readonly iterator: Iterator<Value>;
  readonly #depth: number;
  /** @param source the value it reads from; nested generators are limited */
  constructor(iterator: Iterator<Value>, source: Value = null) {
    this.iterator = iterator;
    this.#depth = source instanceof Iter ? source.#depth + 1 : 1;
    if (this.#depth > limits.nesting) exceeded('nesting', 'nested generators', this.#depth);
  }
  [Symbol.iterator](): Iterator<Value> {
    return { next: () => this.iterator.next() };
  }
}

/** A missing name or attribute. It prints as an empty string; any other use throws its error. */
export class Undefined {
  readonly message: string;
  constructor(message: string) {
    this.message = message;
  }
}

/** The result of `safe` and `escape`: text that is not escaped again. It may be printed and compared. */
export class Markup {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

export class Namespace {
  readonly values: Map<string, Value> = new Map();
}

export type Keywords = ReadonlyMap<string, Value>;

export class Fn {
  readonly name: string;
  readonly call: (args: readonly Value[], keywords: Keywords) => Value;
  constructor(name: string, call: Fn['call']) {
    this.name = name;
    this.call = call;
  }
}

/** An object with attributes and optionally callable: `loop`, a macro, `cycler`. */
export class Native {
  readonly name: string;
  readonly attributes: Readonly<Record<string, () => Value>>;
  readonly call: Fn['call'] | undefined;
  readonly text: (() => string) | undefined;
  constructor(name: string, attributes: Native['attributes'], call?: Fn['call'], text?: () => string) {
    this.name = name;
    this.attributes = attributes;
    this.call = call;
    this.text = text;
  }
}

export function typeName(value: Value): string {
  if (value === null) return 'NoneType';
  if (Array.isArray(value)) return 'list';
  switch (typeof value) {
    case 'boolean':
      return 'bool';
    case 'bigint':
      return 'int';
    case 'number':
      return 'float';
    case 'string':
      return 'str';
  }
  if (value instanceof Tuple) return 'tuple';
  if (value instanceof Dict) return 'dict';
  if (value instanceof View) return `dict_${value.kind}`;
  if (value instanceof Range) return 'range';
  if (value instanceof Iter) return 'generator';
  if (value instanceof Namespace) return 'Namespace';
  if (value instanceof Fn) return 'function';
  if (value instanceof Native) return value.name;
  return value instanceof Markup ? 'Markup' : 'Undefined';
}

/** `value`, or `otherwise()` when undefined. Not `??`, which would also replace None (null). */
export function either<T>(value: T | undefined, otherwise: () => T): T {
  return value === undefined ? otherwise() : value;
}

/** Throws when the value is undefined. */
export function defined<T extends Value>(value: T): Exclude<T, Undefined> {
  if (value instanceof Undefined) fail(value.message);
  return value as Exclude<T, Undefined>;
}

export function truthy(value: Value): boolean {
  if (value === null || value instanceof Undefined) return false;
  if (Array.isArray(value)) return value.length > 0;
  if (typeof value !== 'object') return typeof value === 'number' ? value !== 0 : Boolean(value);
  if (value instanceof Tuple) return value.items.length > 0;
  if (value instanceof Dict) return value.size > 0;
  if (value instanceof View) return value.dict.size > 0;
  if (value instanceof Range) return value.length > 0;
  if (value instanceof Markup) return value.text !== '';
  return true;
}

const SURROGATE = /[\ud800-\udfff]/;

/** The code points of a text. */
export function codePoints(text: string): string[] {
  reserveItems(text.length);
  return SURROGATE.test(text) ? Array.from(text) : text.split('');
}

/** Whether UTF-16 indices differ from code point indices. */
export function hasSurrogates(text: string): boolean {
  reserve(text.length);
  return SURROGATE.test(text);
}

export function codePointLength(text: string): number {
  reserve(text.length);
  if (!SURROGATE.test(text)) return text.length;
  let count = 0;
  for (const _ of text) count++;
  return count;
}

/** @returns undefined when it cannot be iterated over */
export function tryIterate(value: Value): Iterable<Value> | undefined {
  if (typeof value === 'string') return codePoints(value);
  if (Array.isArray(value)) return value;
  if (value instanceof Tuple) return value.items;
  if (value instanceof Dict) return value.keys();
  if (value instanceof View || value instanceof Range) return value.items();
  if (value instanceof Iter) return value;
  if (value instanceof Undefined) return [];
  if (value instanceof Markup) return codePoints(value.text);
  return undefined;
}

export function iterate(value: Value): Iterable<Value> {
  return tryIterate(value) ?? fail(`'${typeName(value)}' object is not iterable`);
}

/** The items of an iterable as a list, counted towards the limits. */
export function listOf(value: Value): Value[] {
  const out: Value[] = [];
  for (const item of iterate(value)) {
    reserveItems(1);
    out.push(item);
  }
  return out;
}

/** @returns undefined for values without a length */
export function lengthOf(value: Value): number | undefined {
  if (typeof value === 'string') return codePointLength(value);
  if (Array.isArray(value)) return value.length;
  if (value instanceof Tuple) return value.items.length;
  if (value instanceof Dict) return value.size;
  if (value instanceof View) return value.dict.size;
  if (value instanceof Range) return value.length;
  if (value instanceof Markup) return codePointLength(value.text);
  return value instanceof Undefined ? 0 : undefined;
}

/** A numeric value as bigint or number, else undefined. */
export function numeric(value: Value): bigint | number | undefined {
  if (typeof value === 'boolean') return value ? 1n : 0n;
  return typeof value === 'bigint' || typeof value === 'number' ? value : undefined;
}

/** Whether Python can hash a value: not a list, dict or view, nor a tuple containing one. */
export function isHashable(value: Value, depth = 0): boolean {
  nest(depth);
  if (value instanceof Tuple) return value.items.every((item) => isHashable(item, depth + 1));
  return !(
    Array.isArray(value) ||
    value instanceof Dict ||
    (value instanceof View && value.kind !== 'values')
  );
}

/** @throws TemplateError for an unhashable value */
export function hashKey(value: Value): unknown {
  const number = numeric(value);
  if (number !== undefined) {
    if (typeof number === 'bigint') return number;
    return Number.isInteger(number) ? BigInt(number) : number;
  }
  const text = textOf(value);
  if (text !== undefined) {
    reserve(text.length);
    return text;
  }
  if (value === null) return null;
  if (value instanceof Undefined) return Undefined;
  if (!isHashable(value)) fail(`unhashable type: '${typeName(value)}'`);
  if (value instanceof Tuple) return `\0tuple ${hashText(value)}`;
  return value;
}

/** A string that is equal exactly for equal items of tuples. */
function hashText(value: Value): string {
  if (value instanceof Tuple) {
    const text = `(${value.items.map(hashText).join()})`;
    reserve(text.length);
    return text;
  }
  const key = hashKey(value);
  if (typeof key === 'string') return JSON.stringify(key);
  return typeof key === 'number' || typeof key === 'bigint' ? String(key) : reprOf(value);
}

/** The text of a string or of `safe`. */
export function textOf(value: Value): string | undefined {
  return typeof value === 'string' ? value : value instanceof Markup ? value.text : undefined;
}

/** The items of a list or tuple. */
export function sequence(value: Value): readonly Value[] | undefined {
  return Array.isArray(value) ? value : value instanceof Tuple ? value.items : undefined;
}

/** Python's `str()`, used for output. */
export function textFor(value: Value): string {
  if (typeof value === 'string') return value;
  if (value instanceof Undefined) return '';
  if (value instanceof Markup) return value.text;
  return reprOf(value);
}

/** Python's `repr()`. */
export function reprOf(value: Value, depth = 0): string {
  nest(depth);
  const inner = (item: Value): string => reprOf(item, depth + 1);
  const pair = ([key, item]: readonly [Value, Value]): string => `${inner(key)}: ${inner(item)}`;
  const made = (text: string): string => {
    reserve(text.length);
    return text;
  };
  if (value === null) return 'None';
  if (Array.isArray(value)) return made(`[${value.map(inner).join(', ')}]`);
  switch (typeof value) {
    case 'boolean':
      return value ? 'True' : 'False';
    case 'bigint':
      return made(value.toString());
    case 'number':
      return floatText(value);
    case 'string':
      reserve(value.length * 8);
      return made(stringLiteral(value));
  }
  if (value instanceof Tuple) {
    return made(`(${value.items.map(inner).join(', ')}${value.items.length === 1 ? ',' : ''})`);
  }
  if (value instanceof Dict) return made(`{${Array.from(value.entries(), pair).join(', ')}}`);
  if (value instanceof View)
    return made(`dict_${value.kind}([${Array.from(value.items(), inner).join(', ')}])`);
  if (value instanceof Range) {
    return `range(${value.start}, ${value.stop}${value.step === 1n ? '' : `, ${value.step}`})`;
  }
  if (value instanceof Undefined) return 'Undefined';
  if (value instanceof Native && value.text) return value.text();
  return unsupported(`printing a ${typeName(value)}`);
}
