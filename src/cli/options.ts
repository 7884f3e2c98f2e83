/** Parsers of option values. They reject invalid values before any file is touched. */
import { InvalidArgumentError } from 'commander';

type Parse<T> = (text: string) => T;

function numberIn(expected: string, accept: (value: number) => boolean): Parse<number> {
  return (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    if (!accept(value)) throw new InvalidArgumentError(`Expected ${expected}.`);
    return value;
  };
}

export const positiveInteger: Parse<number> = numberIn(
  'a whole number of at least 1',
  (v) => isWhole(v) && v >= 1,
);
export const wholeNumber: Parse<number> = numberIn(
  'a whole number of at least 0',
  (v) => isWhole(v) && v >= 0,
);
export const notNegative: Parse<number> = numberIn(
  'a number of at least 0',
  (v) => v >= 0 && Number.isFinite(v),
);
export const probability: Parse<number> = numberIn('a number above 0 and up to 1', (v) => v > 0 && v <= 1);
export const fraction: Parse<number> = numberIn('a number from 0 to 1', (v) => v >= 0 && v <= 1);
export const belowOne: Parse<number> = numberIn('a number of at least 0 and below 1', (v) => v >= 0 && v < 1);
export const share: Parse<number> = numberIn('a number between 0 and 1', (v) => v > 0 && v < 1);
export const threadCount: Parse<number> = numberIn(
  'a whole number from 1 to 64',
  (v) => isWhole(v) && v >= 1 && v <= 64,
);

const UNITS: Readonly<Record<string, number>> = { B: 0, K: 1, M: 2, G: 3, T: 4 };

/** Bytes from a size with its unit: `24GiB` is 24 * 2^30, `24GB` 24 * 10^9. */
export function memorySize(text: string): number {
  const [, number, prefix, binary] = /^\s*(\d+(?:\.\d+)?)\s*(?:([KMGT])(i)?)?B\s*$/i.exec(text) ?? [];
  const power = UNITS[(prefix ?? 'B').toUpperCase()];
  const bytes = Math.floor(Number(number) * (binary ? 1024 : 1000) ** power);
  if (!Number.isSafeInteger(bytes)) {
    throw new InvalidArgumentError(
      'Expected a size with its unit, such as 24GiB (2^30 bytes) or 24GB (10^9).',
    );
  }
  return bytes;
}

/**
 * A path that is not empty: an unset shell variable gives an empty one, which some calls take for the current
 * folder.
 */
export function path(text: string): string {
  if (text === '') throw new InvalidArgumentError('Expected a path of at least one character.');
  return text;
}

/** Appends a text, which must not be empty, to those given before. */
export function moreText(text: string, before: readonly string[] = []): readonly string[] {
  if (text === '') throw new InvalidArgumentError('Expected a text of at least one character.');
  return [...before, text];
}

function isWhole(value: number): boolean {
  return Number.isSafeInteger(value);
}
