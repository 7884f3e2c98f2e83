/**
 * What a template may use. A chat template is a program that comes with a checkpoint, so that it is bounded: a render counts the
 * expressions and statements it evaluates and the characters it reads and makes, and ends with an error that names the bound.
 * Rendering is synchronous, so one count at a time is enough.
 */

/** An error in a template, of a template (`raise_exception`), or of what a template asks for. */
export class TemplateError extends Error {
  override name = 'TemplateError';
}

export function fail(message: string): never {
  throw new TemplateError(`chat template: ${message}`);
}

/** For what Jinja has and this interpreter has not: never other text in silence. */
export function unsupported(what: string): never {
  fail(`${what} is not supported`);
}

type Limit = 'source' | 'steps' | 'characters' | 'nesting' | 'depth' | 'range' | 'integerBits';

export const limits: Readonly<Record<Limit, number>> = {
  /** Characters of a template's source. */
  source: 2 ** 20,
  /** Expressions and statements evaluated, and items of loops and lists, in one render. */
  steps: 2 ** 24,
  /** Characters that strings read or made have together in one render; an item of a list counts as sixteen. */
  characters: 2 ** 27,
  /** Brackets and blocks inside one another in the source. */
  nesting: 100,
  /** Expressions and macros being evaluated at once; lists and dicts inside one another. */
  depth: 400,
  /** Items of a range, as in Jinja's sandbox. */
  range: 100_000,
  /** Bits of a whole number: what Python prints (4,300 digits). */
  integerBits: 14_284,
};

export function exceeded(rule: Limit, what: string, got: number | bigint): never {
  throw new RangeError(`chat template: expected at most ${limits[rule]} ${what}, got ${got}`);
}

let steps = 0;
let characters = 0;

export function beginRender(): void {
  steps = 0;
  characters = 0;
}

export function step(count = 1): void {
  steps += count;
  if (steps > limits.steps) exceeded('steps', 'steps in one render', steps);
}

/** Counts text that is read or about to be made. */
export function reserve(count: number): void {
  characters += count;
  if (characters > limits.characters)
    exceeded('characters', 'characters worked on in one render', characters);
}

/** Counts a list that is about to be made, or items added to one. */
export function reserveItems(count: number): void {
  step(count);
  reserve(count * 16 + 16);
}
