/** Methods of `str`. Python's other methods are refused by name. */
import { asCount, asString, bind } from './arguments.ts';
import { braceFormat } from './format.ts';
import { fail, reserve, reserveItems, unsupported } from './limits.ts';
import { capitalize, isLower, isUpper, SPACE, splitLines, strip, title } from './text.ts';
import {
  codePointLength,
  codePoints,
  Dict,
  defined,
  iterate,
  type Keywords,
  Tuple,
  truthy,
  typeName,
  type Value,
} from './values.ts';

type Method = (text: string, args: readonly Value[], keywords: Keywords) => Value;
type Lookup = Parameters<typeof braceFormat>[3];

export function joined(parts: readonly string[], separator: string): string {
  reserve(parts.reduce((sum, part) => sum + part.length, separator.length * Math.max(0, parts.length - 1)));
  return parts.join(separator);
}

/** Splits the text at every `separator`, after counting the pieces. */
function piecesOf(text: string, separator: string): string[] {
  reserve(text.length);
  let count = 1;
  for (let at = text.indexOf(separator); at >= 0; at = text.indexOf(separator, at + separator.length))
    count++;
  reserveItems(count);
  return text.split(separator);
}

export function replaceText(text: string, old: string, by: string, count: number): string {
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

function splitAt(text: string, separator: string, most: number, fromRight: boolean): string[] {
  if (separator === '') fail('split: empty separator');
  const pieces = piecesOf(text, separator);
  if (most < 0 || pieces.length <= most + 1) return pieces;
  const cut = fromRight ? pieces.length - most : most;
  const [before, behind] = [pieces.slice(0, cut), pieces.slice(cut)];
  return fromRight ? [before.join(separator), ...behind] : [...before, behind.join(separator)];
}

function split(fromRight: boolean): Method {
  return (text, args, keywords) => {
    const [separator = null, most = -1n] = bind('split', ['sep', 'maxsplit'], 0, args, keywords);
    const cuts = asCount('split', most);
    reserve(text.length);
    const pieces =
      separator === null
        ? splitBlanks(text, cuts, fromRight)
        : splitAt(text, asString('split', separator), cuts, fromRight);
    return pieces;
  };
}

function partition(fromRight: boolean): Method {
  return (text, args, keywords) => {
    const [separator = null] = bind('partition', ['sep'], 1, args, keywords);
    const by = asString('partition', separator);
    if (by === '') fail('partition: empty separator');
    reserve(text.length * 2);
    const at = fromRight ? text.lastIndexOf(by) : text.indexOf(by);
    if (at < 0) return new Tuple(fromRight ? ['', '', text] : [text, '', '']);
    return new Tuple([text.slice(0, at), by, text.slice(at + by.length)]);
  };
}

function stripped(name: string, ends: { left?: boolean; right?: boolean }): Method {
  return (text, args, keywords) => {
    const [characters = null] = bind(name, ['chars'], 0, args, keywords);
    reserve(text.length);
    return strip(text, characters === null ? undefined : asString(name, characters), ends);
  };
}

/** The part between two optional indices, and where it starts in UTF-16 units. */
function window(
  name: string,
  text: string,
  start: Value | undefined,
  stop: Value | undefined,
): [string, number] {
  if ((start ?? null) === null && (stop ?? null) === null) return [text, 0];
  const points = codePoints(text);
  const place = (value: Value | undefined, otherwise: number): number => {
    if (value === undefined || value === null) return otherwise;
    const at = asCount(name, value);
    return at < 0 ? Math.max(0, at + points.length) : at;
  };
  const from = place(start, 0);
  if (from > points.length) return ['', -1];
  const to = place(stop, points.length);
  return [points.slice(from, Math.max(from, to)).join(''), points.slice(0, from).join('').length];
}

function affix(name: 'startsWith' | 'endsWith'): Method {
  return (text, args, keywords) => {
    const [given = null, start, stop] = bind(
      name.toLowerCase(),
      ['prefix', 'start', 'end'],
      1,
      args,
      keywords,
    );
    const [part, at] = window(name, text, start, stop);
    const affixes = given instanceof Tuple ? given.items : [given];
    reserve(part.length);
    return affixes.some((one) => part[name](asString(name.toLowerCase(), one)) && at >= 0);
  };
}

function find(name: string, last: boolean, throws: boolean): Method {
  return (text, args, keywords) => {
    const [given = null, start, stop] = bind(name, ['sub', 'start', 'end'], 1, args, keywords);
    const [part, from] = window(name, text, start, stop);
    reserve(part.length);
    const sub = asString(name, given);
    const at = from < 0 ? -1 : last ? part.lastIndexOf(sub) : part.indexOf(sub);
    if (at >= 0) return BigInt(codePointLength(text.slice(0, from + at)));
    return throws ? fail(`${name}: substring not found`) : -1n;
  };
}

/** Whether the text is not empty and all characters match `kind`. Characters of `unsure` are refused. */
function every(name: string, kind: RegExp, unsure?: RegExp): Method {
  return (text) => {
    const rest = codePoints(text).filter((character) => !kind.test(character));
    const odd = unsure && rest.find((character) => unsure.test(character));
    if (odd !== undefined) unsupported(`${name} of '${odd}'`);
    return text !== '' && rest.length === 0;
  };
}

function aligned(name: string, place: (room: number, width: number) => number): Method {
  return (text, args, keywords) => {
    const [given = null, filler = ' '] = bind(name, ['width', 'fillchar'], 1, args, keywords);
    const width = asCount(name, given);
    const fill = asString(name, filler);
    if (codePointLength(fill) !== 1) fail(`${name}: expected one character to fill with, got '${fill}'`);
    const room = width - codePointLength(text);
    if (room <= 0) return text;
    reserve(width * fill.length);
    const left = place(room, width);
    return fill.repeat(left) + text + fill.repeat(room - left);
  };
}

/** Left padding of Python's `center`, which places an odd blank. */
export function centerLeft(room: number, width: number): number {
  return Math.floor(room / 2) + (room & width & 1);
}

function plain(name: string, change: (text: string) => Value): Method {
  return (text, args, keywords) => {
    bind(name, [], 0, args, keywords);
    reserve(text.length * 2);
    return change(text);
  };
}

const methods: Readonly<Record<string, Method>> = {
  upper: plain('upper', (text) => text.toUpperCase()),
  lower: plain('lower', (text) => text.toLowerCase()),
  title: plain('title', title),
  capitalize: plain('capitalize', capitalize),
  strip: stripped('strip', { left: true, right: true }),
  lstrip: stripped('lstrip', { left: true }),
  rstrip: stripped('rstrip', { right: true }),
  startswith: affix('startsWith'),
  endswith: affix('endsWith'),
  split: split(false),
  rsplit: split(true),
  partition: partition(false),
  rpartition: partition(true),
  splitlines: (text, args, keywords) => {
    const [keep = false] = bind('splitlines', ['keepends'], 0, args, keywords);
    if (truthy(keep)) unsupported('splitlines with keepends');
    reserve(text.length);
    return splitLines(text);
  },
  replace: (text, args, keywords) => {
    const [old = null, by = null, count = -1n] = bind('replace', ['old', 'new', 'count'], 2, args, keywords);
    return replaceText(text, asString('replace', old), asString('replace', by), asCount('replace', count));
  },
  removeprefix: (text, args, keywords) => {
    const [given = null] = bind('removeprefix', ['prefix'], 1, args, keywords);
    const prefix = asString('removeprefix', given);
    reserve(text.length);
    return text.startsWith(prefix) ? text.slice(prefix.length) : text;
  },
  removesuffix: (text, args, keywords) => {
    const [given = null] = bind('removesuffix', ['suffix'], 1, args, keywords);
    const suffix = asString('removesuffix', given);
    reserve(text.length);
    return suffix !== '' && text.endsWith(suffix) ? text.slice(0, -suffix.length) : text;
  },
  find: find('find', false, false),
  rfind: find('rfind', true, false),
  index: find('index', false, true),
  rindex: find('rindex', true, true),
  count: (text, args, keywords) => {
    const [given = null, start, stop] = bind('count', ['sub', 'start', 'end'], 1, args, keywords);
    const [part, from] = window('count', text, start, stop);
    const sub = asString('count', given);
    reserve(part.length);
    if (sub === '') return from < 0 ? 0n : BigInt(codePointLength(part) + 1);
    return BigInt(piecesOf(part, sub).length - 1);
  },
  join: (text, args, keywords) => {
    const [given = null] = bind('join', ['iterable'], 1, args, keywords);
    const parts = Array.from(iterate(defined(given)), (item) => asString('join', item));
    return joined(parts, text);
  },
  isalpha: every('isalpha', /\p{L}/u),
  isdecimal: every('isdecimal', /\p{Nd}/u),
  isdigit: every('isdigit', /\p{Nd}/u, /\p{No}/u),
  isnumeric: every('isnumeric', /\p{N}/u, /\p{Lo}/u),
  isalnum: every('isalnum', /[\p{L}\p{N}]/u),
  isspace: every('isspace', new RegExp(SPACE)),
  isascii: plain('isascii', (text) => !/[\x80-\uffff]/.test(text)),
  islower: plain('islower', isLower),
  isupper: plain('isupper', isUpper),
  isidentifier: plain('isidentifier', (text) => /^[\p{XIDS}_]\p{XIDC}*$/u.test(text)),
  center: aligned('center', centerLeft),
  ljust: aligned('ljust', () => 0),
  rjust: aligned('rjust', (room) => room),
  zfill: (text, args, keywords) => {
    const [given = null] = bind('zfill', ['width'], 1, args, keywords);
    const width = asCount('zfill', given);
    const room = width - codePointLength(text);
    if (room <= 0) return text;
    reserve(width);
    const sign = /^[+-]/.test(text) ? text[0] : '';
    return sign + '0'.repeat(room) + text.slice(sign.length);
  },
};

/** Other attributes of Python's strings, refused by name. */
const OTHER_ATTRIBUTES = new Set(
  'casefold encode expandtabs isprintable istitle maketrans swapcase translate'.split(' '),
);

/** @returns undefined when strings have no such method */
export function stringMethod(name: string, lookup: Lookup): Method | undefined {
  if (name === 'format') {
    return (text, args, keywords) => braceFormat(text, args, keywords, lookup);
  }
  if (name === 'format_map') {
    return (text, args) => {
      const [mapping = null] = args;
      if (!(mapping instanceof Dict)) fail(`format_map: expected a dict, got '${typeName(mapping)}'`);
      const keywords = new Map<string, Value>();
      for (const [key, value] of mapping.entries()) if (typeof key === 'string') keywords.set(key, value);
      return braceFormat(text, [], keywords, lookup);
    };
  }
  if (OTHER_ATTRIBUTES.has(name)) unsupported(`the method ${name} of a string`);
  return Object.hasOwn(methods, name) ? methods[name] : undefined;
}
