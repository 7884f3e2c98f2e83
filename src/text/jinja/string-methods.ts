/** Methods of `str`. Python's other methods are refused by name. */
import { asString, type Bound, bySignature } from './arguments.ts';
import { pad } from './format.ts';
import { fail, reserve, reserveItems, unsupported } from './limits.ts';
import { capitalize, isLower, isUpper, SPACE, splitLines, strip, title } from './text.ts';
import { codePointLength, codePoints, defined, iterate, Tuple, type Value } from './values.ts';

export function joined(parts: readonly string[], separator: string): string {
  reserve(parts.reduce((sum, part) => sum + part.length, separator.length * Math.max(0, parts.length - 1)));
  return parts.join(separator);
}

/** Splits the text at every `separator`, after counting the pieces. */
function piecesOf(text: string, separator: string): string[] {
  let count = 1;
  for (let at = text.indexOf(separator); at >= 0; at = text.indexOf(separator, at + separator.length))
    count++;
  reserveItems(count);
  return text.split(separator);
}

export function replaceText(text: string, old: string, by: string, count = -1): string {
  reserve(text.length);
  const pieces = old === '' ? ['', ...codePoints(text), ''] : piecesOf(text, old);
  const times = count < 0 ? pieces.length - 1 : Math.min(count, pieces.length - 1);
  return joined([joined(pieces.slice(0, times + 1), by), ...pieces.slice(times + 1)], old);
}

const WORDS = new RegExp(`${SPACE.replace('[', '[^')}+`, 'g');

/** At most `most` splits, all when negative; blanks after the last split are kept, as in Python. */
function splitBlanks(text: string, most: number, fromRight: boolean): string[] {
  const words: RegExpExecArray[] = [];
  for (const word of text.matchAll(WORDS)) {
    reserveItems(4);
    words.push(word);
  }
  if (most < 0 || words.length <= most) return words.map(([word]) => word);
  if (!fromRight) return [...words.slice(0, most).map(([word]) => word), text.slice(words[most].index)];
  const kept = words.length - most;
  const last = words[kept - 1];
  return [text.slice(0, last.index + last[0].length), ...words.slice(kept).map(([word]) => word)];
}

function splitter(fromRight: boolean): (text: string, separator?: string, most?: number) => string[] {
  return (text, separator, most = -1) => {
    if (separator === undefined) return splitBlanks(text, most, fromRight);
    if (separator === '') fail('split: empty separator');
    const pieces = piecesOf(text, separator);
    if (most < 0 || pieces.length <= most + 1) return pieces;
    const cut = fromRight ? pieces.length - most : most;
    const [before, behind] = [pieces.slice(0, cut), pieces.slice(cut)];
    return fromRight ? [before.join(separator), ...behind] : [...before, behind.join(separator)];
  };
}

function partition(text: string, by: string, at: number, otherwise: readonly string[]): Tuple {
  if (by === '') fail('partition: empty separator');
  return new Tuple(at < 0 ? otherwise : [text.slice(0, at), by, text.slice(at + by.length)]);
}

/** The part between two optional indices, and where it starts in UTF-16 units; -1 after the end. */
function between(text: string, start?: number, stop?: number): [string, number] {
  if (start === undefined && stop === undefined) return [text, 0];
  const points = codePoints(text);
  const [from, to] = [start ?? 0, stop ?? points.length].map((at) =>
    at < 0 ? Math.max(0, at + points.length) : at,
  );
  if (from > points.length) return ['', -1];
  return [points.slice(from, Math.max(from, to)).join(''), points.slice(0, from).join('').length];
}

function affix(method: 'startsWith' | 'endsWith') {
  return (text: string, given: Value, start?: number, stop?: number): boolean => {
    const [part, at] = between(text, start, stop);
    const affixes = given instanceof Tuple ? given.items : [given];
    return affixes.some((one) => part[method](asString(method.toLowerCase(), one)) && at >= 0);
  };
}

function finder(method: 'indexOf' | 'lastIndexOf', required: boolean) {
  return (text: string, sub: string, start?: number, stop?: number): bigint => {
    const [part, from] = between(text, start, stop);
    const at = from < 0 ? -1 : part[method](sub);
    if (at >= 0) return BigInt(codePointLength(text.slice(0, from + at)));
    return required ? fail('substring not found') : -1n;
  };
}

/** Whether the text is not empty and all characters match `kind`. Characters of `unsure` are refused. */
function every(kind: RegExp, unsure?: RegExp): (text: string) => boolean {
  return (text) => {
    const rest = codePoints(text).filter((character) => !kind.test(character));
    const odd = unsure && rest.find((character) => unsure.test(character));
    if (odd !== undefined) unsupported(`testing whether '${odd}' is a digit or number`);
    return text !== '' && rest.length === 0;
  };
}

export const stringMethods: ReadonlyMap<string, Bound<string, Value>> = bySignature<string, Value>({
  'upper()': (text) => text.toUpperCase(),
  'lower()': (text) => text.toLowerCase(),
  'title()': title,
  'capitalize()': capitalize,
  'strip(chars?: str | None, /)': (text, chars?: string) => strip(text, chars),
  'lstrip(chars?: str | None, /)': (text, chars?: string) => strip(text, chars, 'left'),
  'rstrip(chars?: str | None, /)': (text, chars?: string) => strip(text, chars, 'right'),
  'startswith(prefix, start?: int | None, end?: int | None, /)': affix('startsWith'),
  'endswith(suffix, start?: int | None, end?: int | None, /)': affix('endsWith'),
  'split(sep?: str | None, maxsplit?: int)': splitter(false),
  'rsplit(sep?: str | None, maxsplit?: int)': splitter(true),
  'partition(sep: str, /)': (text, by: string) => partition(text, by, text.indexOf(by), [text, '', '']),
  'rpartition(sep: str, /)': (text, by: string) => partition(text, by, text.lastIndexOf(by), ['', '', text]),
  'splitlines(keepends?: bool)': (text, keep?: boolean) =>
    keep ? unsupported('splitlines with keepends') : splitLines(text),
  'replace(old: str, new: str, count?: int)': replaceText,
  'removeprefix(prefix: str, /)': (text, prefix: string) =>
    text.startsWith(prefix) ? text.slice(prefix.length) : text,
  'removesuffix(suffix: str, /)': (text, suffix: string) =>
    text.endsWith(suffix) ? text.slice(0, text.length - suffix.length) : text,
  'find(sub: str, start?: int | None, end?: int | None, /)': finder('indexOf', false),
  'rfind(sub: str, start?: int | None, end?: int | None, /)': finder('lastIndexOf', false),
  'index(sub: str, start?: int | None, end?: int | None, /)': finder('indexOf', true),
  'rindex(sub: str, start?: int | None, end?: int | None, /)': finder('lastIndexOf', true),
  'count(sub: str, start?: int | None, end?: int | None, /)': (
    text,
    sub: string,
    start?: number,
    stop?: number,
  ) => {
    const [part, from] = between(text, start, stop);
    if (sub === '') return from < 0 ? 0n : BigInt(codePointLength(part) + 1);
    return BigInt(piecesOf(part, sub).length - 1);
  },
  'join(iterable, /)': (text, list: Value) =>
    joined(
      Array.from(iterate(defined(list)), (item) => asString('join', item)),
      text,
    ),
  'isalpha()': every(/\p{L}/u),
  'isdecimal()': every(/\p{Nd}/u),
  'isdigit()': every(/\p{Nd}/u, /\p{No}/u),
  'isnumeric()': every(/\p{N}/u, /\p{Lo}/u),
  'isalnum()': every(/[\p{L}\p{N}]/u),
  'isspace()': every(new RegExp(SPACE)),
  'isascii()': (text) => !/[\x80-\uffff]/.test(text),
  'islower()': isLower,
  'isupper()': isUpper,
  'isidentifier()': (text) => /^[\p{XIDS}_]\p{XIDC}*$/u.test(text),
  'center(width: int, fillchar?: str, /)': (text, width: number, fill?: string) =>
    pad(text, width, 'center', fill),
  'ljust(width: int, fillchar?: str, /)': (text, width: number, fill?: string) => pad(text, width, '<', fill),
  'rjust(width: int, fillchar?: str, /)': (text, width: number, fill?: string) => pad(text, width, '>', fill),
  'zfill(width: int, /)': (text, width: number) => pad(text, width, /^[+-]/.test(text) ? '=' : '>', '0'),
});
