/** Parsers of option values. They reject invalid values before any file is touched. */
import { InvalidArgumentError, Option } from 'commander';

type Parse<T> = (text: string) => T;

function numberIn(expected: string, accept: (value: number) => boolean): Parse<number> {
  return (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    if (!accept(value)) throw new InvalidArgumentError(`Expected ${expected}.`);
    return value;
  };
}

function wholeNumberFrom(least: number, most?: number): Parse<number> {
  const range = most === undefined ? `of at least ${least}` : `from ${least} to ${most}`;
  const parse = numberIn(
    `a whole number ${range}`,
    (v) => Number.isInteger(v) && v >= least && v <= (most ?? v),
  );
  return (text) => {
    const value = parse(text);
    if (Number.isSafeInteger(value)) return value;
    throw new InvalidArgumentError('Expected a whole number below 2^53.');
  };
}

export const wholeNumber: Parse<number> = wholeNumberFrom(0);
export const positiveInteger: Parse<number> = wholeNumberFrom(1);
/** 0 = a free one. */
export const port: Parse<number> = wholeNumberFrom(0, 65535);
export const threadCount: Parse<number> = wholeNumberFrom(1, 64);
export const notNegative: Parse<number> = numberIn('a number of at least 0', (v) => v >= 0 && v < Infinity);
export const positiveNumber: Parse<number> = numberIn('a number above 0', (v) => v > 0 && v < Infinity);
export const penalty: Parse<number> = numberIn('a number from -2 to 2', (v) => v >= -2 && v <= 2);
export const probability: Parse<number> = numberIn('a number above 0 and up to 1', (v) => v > 0 && v <= 1);
export const fraction: Parse<number> = numberIn('a number from 0 to 1', (v) => v >= 0 && v <= 1);
export const belowOne: Parse<number> = numberIn('a number of at least 0 and below 1', (v) => v >= 0 && v < 1);
export const share: Parse<number> = numberIn('a number between 0 and 1', (v) => v > 0 && v < 1);

/** An option whose value is one of `choices`. @param initial its default; without one it is undefined */
export function oneOf(flag: string, help: string, choices: readonly string[], initial?: string): Option {
  return new Option(flag, help).choices(choices).default(initial);
}

/** An option whose value has another name than its flag: the one of the library's option, which errors name. */
export function named(flag: string, name: string, help: string, parse?: Parse<unknown>): Option {
  const option = Object.assign(new Option(flag, help), { attributeName: () => name });
  return parse === undefined ? option : option.argParser(parse);
}

const UNITS: Readonly<Record<string, number>> = { B: 0, K: 1, M: 2, G: 3, T: 4 };

/** Bytes from a size with its unit: `24GiB` is 24 * 2^30, `24GB` 24 * 10^9. */
export function memorySize(text: string): number {
  const [, number, prefix, binary] = /^\s*(\d+(?:\.\d+)?)\s*(?:([KMGT])(i)?)?B\s*$/i.exec(text) ?? [];
  const power = UNITS[(prefix ?? 'B').toUpperCase()];
  const bytes = Math.floor(Number(number) * (binary ? 1024 : 1000) ** power);
  if (!Number.isSafeInteger(bytes)) {
    throw new InvalidArgumentError('Expected a size with its unit, such as 24GiB or 24GB.');
  }
  return bytes;
}

/** Bytes per second: `100GB/s`. A small `b` is refused, since `Gb/s` are bits. */
export function bandwidth(text: string): number {
  const bytes = /^([\d.]+\s*(?:[KMGT]i?)?B)\/s$/.exec(text.trim())?.[1];
  const perSecond = bytes === undefined ? 0 : memorySize(bytes);
  if (perSecond > 0) return perSecond;
  throw new InvalidArgumentError('Expected bytes per second above 0, such as 100GB/s.');
}

/** Floating-point operations per second: `30T`, `30TFLOP/s`. */
export function flops(text: string): number {
  const [, number, prefix] = /^\s*(\d+(?:\.\d+)?)\s*([GTP])(?:FLOPS?|FLOP\/s)?\s*$/i.exec(text) ?? [];
  const power = { G: 3, T: 4, P: 5 }[prefix?.toUpperCase() as 'G' | 'T' | 'P'];
  const value = Number(number) * 1000 ** power;
  if (value > 0) return value;
  throw new InvalidArgumentError('Expected operations per second, such as 30T.');
}

/** A path, not empty: an unset shell variable gives '', which some calls take for the current folder. */
export function path(text: string): string {
  if (text === '') throw new InvalidArgumentError('Expected a path of at least one character.');
  return text;
}

/** Appends a text, which must not be empty, to those given before. */
export function moreText(text: string, before: readonly string[] = []): readonly string[] {
  if (text === '') throw new InvalidArgumentError('Expected a text of at least one character.');
  return [...before, text];
}
