/**
 * Converts JavaScript values to Python values. transformers passes plain JSON to templates; other values
 * become a placeholder that names their type. An integral number is an int, since JavaScript does not
 * distinguish 1 from 1.0; `TemplateFloat` and `parseJson` do.
 */
import { exceeded, limits } from './limits.ts';
import { Dict, type Value } from './values.ts';

/** An integral float: `new TemplateFloat(1)` prints as 1.0. */
export class TemplateFloat {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}

/** @param what name of the value in errors */
export function fromJavaScript(value: unknown, what: string, depth = 0): Value {
  if (depth > limits.depth) exceeded('depth', `nested lists and objects in ${what}`, depth);
  switch (typeof value) {
    case 'string':
    case 'boolean':
    case 'bigint':
      return value;
    case 'number':
      return Number.isInteger(value) && !Object.is(value, -0) ? BigInt(value) : value;
    case 'undefined':
      return null;
    case 'function':
    case 'symbol':
      throw new TypeError(
        `applyChatTemplate: expected ${what} of plain JSON values, got a ${typeof value} in it`,
      );
  }
  if (value === null) return null;
  if (Array.isArray(value)) return value.map((item) => fromJavaScript(item, what, depth + 1));
  if (value instanceof TemplateFloat) return value.value;
  const prototype = Object.getPrototypeOf(value);
  const entries =
    value instanceof Map
      ? [...value]
      : prototype === null || prototype === Object.prototype
        ? Object.entries(value as object)
        : undefined;
  if (entries === undefined) return `<${(prototype as object).constructor.name}>`;
  const dict = new Dict();
  for (const [key, item] of entries) {
    if (item !== undefined)
      dict.set(fromJavaScript(key, what, depth + 1), fromJavaScript(item, what, depth + 1));
  }
  return dict;
}

const NUMBER = /"(?:[^"\\]|\\.)*"|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/g;

/** Parses JSON as Python does: 1.0 is a float, and long integers keep all digits. */
export function parseJson(text: string): unknown {
  JSON.parse(text);
  const key = ' number';
  const marked = text.replace(NUMBER, (part) =>
    part.startsWith('"') || /^-?[0-9]{1,15}$/.test(part) ? part : JSON.stringify({ [key]: part }),
  );
  return JSON.parse(marked, (_, value: unknown) => {
    const digits =
      typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined;
    if (typeof digits !== 'string') return value;
    return /^-?[0-9]+$/.test(digits) ? BigInt(digits) : new TemplateFloat(Number(digits));
  });
}
