/** Python's white space and case conversion. */
import { reserve, reserveItems, unsupported } from './limits.ts';

/** `str.isspace()` and `\s` of Python's regular expressions, as a class. */
export const SPACE =
  '[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]';
const SPACES = new RegExp(`^${SPACE}$`);

export function isSpace(unit: number): boolean {
  if (unit < 0x80) return unit === 0x20 || (unit >= 9 && unit <= 13) || (unit >= 0x1c && unit <= 0x1f);
  return SPACES.test(String.fromCharCode(unit));
}

/** `str.strip(chars)`, or only at one side. */
export function strip(text: string, characters?: string, side?: 'left' | 'right'): string {
  const isAstral = characters !== undefined && /[\ud800-\udfff]/.test(characters + text);
  const units = isAstral ? Array.from(text) : text;
  const set = characters === undefined ? undefined : new Set(characters);
  const drops = (at: number): boolean => (set ? set.has(units[at]) : isSpace(text.charCodeAt(at)));
  let start = 0;
  let end = units.length;
  while (side !== 'right' && start < end && drops(start)) start++;
  while (side !== 'left' && end > start && drops(end - 1)) end--;
  const kept = units.slice(start, end);
  return typeof kept === 'string' ? kept : kept.join('');
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: Python ends lines there too.
const LINE_END = /\r\n|[\n-\r\x1c-\x1e\x85\u2028\u2029]/g;

/** `str.splitlines()` */
export function splitLines(text: string): string[] {
  const lines: string[] = [];
  let from = 0;
  for (const { 0: end, index } of text.matchAll(LINE_END)) {
    reserveItems(1);
    lines.push(text.slice(from, index));
    from = index + end.length;
  }
  if (from < text.length) lines.push(text.slice(from));
  return lines;
}

/** Titlecase letters that differ from the uppercase ones. */
const TITLE: ReadonlyMap<string, string> = new Map([
  ['ŉ', 'ʼN'],
  ...['ǅ', 'ǈ', 'ǋ', 'ǲ'].flatMap((title): [string, string][] =>
    [title, title.toLowerCase(), title.toUpperCase()].map((letter) => [letter, title]),
  ),
]);

/** Unicode's titlecase of one character. */
function titleCase(character: string): string {
  const known = TITLE.get(character);
  if (known !== undefined) return known;
  const code = character.codePointAt(0) ?? 0;
  // Georgian uses capitals only for whole words.
  if (code >= 0x10d0 && code <= 0x10ff) return character;
  if (code >= 0x1f80 && code <= 0x1fff && character.toUpperCase().length > 1)
    unsupported(`titlecase of ${character}`);
  const [first, ...rest] = character.toUpperCase();
  return first + rest.join('').toLowerCase();
}

/** `str.capitalize()`. */
export function capitalize(text: string): string {
  const [first = ''] = text;
  if (first === '') return '';
  // The whole text is lower-cased at once: a final sigma depends on the letter before it.
  return titleCase(first) + text.toLowerCase().slice(first.toLowerCase().length);
}

/** `str.title()`: a capital after each character without case. */
export function title(text: string): string {
  reserve(text.length * 8);
  let behindCased = false;
  let out = '';
  const lower = text.toLowerCase();
  const same = lower.length === text.length;
  let at = 0;
  for (const character of text) {
    out += behindCased
      ? same
        ? lower.slice(at, at + character.length)
        : character.toLowerCase()
      : titleCase(character);
    behindCased = /\p{Cased}/u.test(character);
    at += character.length;
  }
  return out;
}

/** `str.islower()`: at least one lower-case letter, and no other cased letter. */
export function isLower(text: string): boolean {
  return /\p{Lowercase}/u.test(text) && !/[\p{Uppercase}\p{Lt}]/u.test(text);
}

/** `str.isupper()` */
export function isUpper(text: string): boolean {
  return /\p{Uppercase}/u.test(text) && !/[\p{Lowercase}\p{Lt}]/u.test(text);
}
