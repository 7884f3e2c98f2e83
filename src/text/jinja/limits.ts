/**
 * Limits of a template. A chat template is untrusted code from a checkpoint, so a render counts the
 * expressions and statements evaluated and the characters read and made, and throws an error that names the
 * limit. Rendering is synchronous, so one global count is enough.
 */

/** An error in a template, raised by a template (`raise_exception`), or for an unsupported feature. */
export class TemplateError extends Error {
  override name = 'TemplateError';
}

export function fail(message: string): never {
  throw new TemplateError(`chat template: ${message}`);
}

/** Throws for a Jinja feature that this interpreter lacks, so that no other text is rendered silently. */
export function unsupported(what: string): never {
  fail(`${what} is not supported`);
}

type Limit = 'source' | 'steps' | 'characters' | 'nesting' | 'depth' | 'range' | 'integerBits';

export const limits: Readonly<Record<Limit, number>> = {
  /** Characters of a template's source. */
  source: 2 ** 20,
  /** Expressions and statements evaluated, plus items of loops and lists, in one render. */
  steps: 2 ** 24,
  /** Total characters of strings read or made in one render; a list item counts as sixteen. */
  characters: 2 ** 27,
  /** Nesting of brackets and blocks in the source. */
  nesting: 100,
  /** Nesting of evaluated expressions and macros, and of lists and dicts. */
  depth: 400,
  /** Items of a range, as in Jinja's sandbox. */
  range: 100_000,
  /** Bits of an integer: Python's limit for printing (4,300 digits). */
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

/** Counts one step at a depth of lists and dicts. */
export function nest(depth: number): void {
  step();
  if (depth > limits.depth) exceeded('depth', 'nested lists and dicts', depth);
}

/** Counts text that is read or about to be created. */
export function reserve(count: number): void {
  characters += count;
  if (characters > limits.characters)
    exceeded('characters', 'characters processed in one render', characters);
}

/** Counts a list that is about to be created, or items added to one. */
export function reserveItems(count: number): void {
  step(count);
  reserve(count * 16 + 16);
}
