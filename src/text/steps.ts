/**
 * Shared by the normalizers, pre-tokenizers and decoders of a tokenizer.json: reading options, finding
 * patterns, and limits on the growth of a text. Unknown options are refused by name, because ignoring one
 * would silently change ids.
 */
import { Regex } from './regex.ts';
import type { Step } from './tokenizer-json.ts';

/** Starts and ends of the matches in a text, alternating. */
export type Finder = (text: string) => number[];

/** Maximum number of steps in one pipeline. */
const maxSteps = 100;

/** @throws RangeError */
export function refuse(what: string, got: unknown): never {
  throw new RangeError(`tokenizer: expected ${what}, got ${JSON.stringify(got)?.slice(0, 200) ?? 'none'}`);
}

/** The components of one kind by type: the names of their options, separated by spaces, and their makers. */
export type Components<T> = Readonly<Record<string, readonly [options: string, make: (step: Step) => T]>>;

/** @throws RangeError for an unknown component or option */
export function makeComponent<T>(kind: string, components: Components<T>, step: Step): T {
  if (!Object.hasOwn(components, step.type))
    refuse(`a ${kind} among Sequence, ${Object.keys(components).join(', ')}`, step.type);
  const [options, make] = components[step.type];
  checkKeys(step, step.type, options);
  return make(step);
}

/** @throws RangeError for an unknown option */
export function checkKeys(component: Readonly<Record<string, unknown>>, name: string, known: string): void {
  const names = ['type', ...known.split(' ')];
  const other = Object.keys(component).find((key) => !names.includes(key));
  if (other !== undefined)
    refuse(known === '' ? `${name} without options` : `options of ${name} among ${known}`, other);
}

export function option<T extends 'string' | 'boolean' | 'number'>(
  component: Readonly<Record<string, unknown>>,
  key: string,
  kind: T,
  fallback: { string: string; boolean: boolean; number: number }[T],
): { string: string; boolean: boolean; number: number }[T] {
  const value = component[key] ?? fallback;
  if (typeof value !== kind) refuse(`${component.type}'s ${key} to be a ${kind}`, value);
  return value as { string: string; boolean: boolean; number: number }[T];
}

/** The steps of a pipeline, with nested sequences flattened. */
export function flatten(step: Step | null | undefined, list: string, depth = 0): Step[] {
  if (step === null || step === undefined) return [];
  if (typeof step !== 'object' || typeof step.type !== 'string')
    refuse(`a step of ${list} to have a type`, step);
  if (step.type !== 'Sequence') return [step];
  checkKeys(step, 'Sequence', list);
  const inner = step[list];
  if (!Array.isArray(inner)) refuse(`Sequence's ${list} to be a list`, inner);
  if (depth > 10) refuse('at most 10 nested sequences', depth);
  const steps = (inner as Step[]).flatMap((each) => flatten(each, list, depth + 1));
  if (steps.length > maxSteps) refuse(`at most ${maxSteps} ${list}`, steps.length);
  return steps;
}

/** `{ "String": … }` or `{ "Regex": … }` of a file. */
export function finder(pattern: unknown, name: string): Finder {
  const { String: text, Regex: regex } = (pattern ?? {}) as { String?: unknown; Regex?: unknown };
  if (typeof regex === 'string') {
    const compiled = new Regex(regex);
    return (input) => compiled.matches(input);
  }
  if (typeof text !== 'string' || text === '') refuse(`${name}'s pattern to be a String or a Regex`, pattern);
  return (input) => {
    const found: number[] = [];
    for (let at = input.indexOf(text); at >= 0; at = input.indexOf(text, at + text.length))
      found.push(at, at + text.length);
    return found;
  };
}

/** Replaces every match by `content`. */
export function replacer(step: Step): (text: string) => string {
  const find = finder(step.pattern, 'Replace');
  const content = option(step, 'content', 'string', '');
  return (text) => {
    const found = find(text);
    if (found.length === 0) return text;
    checkLength(text.length + (found.length / 2) * content.length, text.length);
    let out = '';
    let end = 0;
    for (let i = 0; i < found.length; i += 2) {
      out += text.slice(end, found[i]) + content;
      end = found[i + 1];
    }
    return out + text.slice(end);
  };
}

/** The largest known growth is that of compatibility forms: ﷺ becomes 18 letters. */
const maxGrowth = 32;

/** @throws RangeError when steps would grow a text beyond the limit */
export function checkLength(length: number, original: number): void {
  const limit = 1024 + maxGrowth * original;
  if (length > limit) {
    throw new RangeError(
      `tokenizer: expected normalizers and decoders to turn ${original} characters into at most ${limit}, got ${length}`,
    );
  }
}
