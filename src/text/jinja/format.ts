/** `'%s' % value` and `'{}'.format(value)`. */
import { fail, reserve, unsupported } from './limits.ts';
import { fixed } from './literals.ts';
import {
  codePointLength,
  codePoints,
  Dict,
  defined,
  either,
  type Keywords,
  numeric,
  Range,
  reprOf,
  Tuple,
  textFor,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

const PERCENT = /%(?:\(([^)]*)\))?([-+ 0#]*)(\*|[0-9]+)?(?:\.(\*|[0-9]*))?[hlL]?(.|$)/gs;

export function percentFormat(template: string, value: Value): string {
  reserve(template.length);
  const list = value instanceof Tuple ? value.items : [value];
  let used = 0;
  let named = false;
  const next = (): Value =>
    used < list.length ? list[used++] : fail('not enough arguments for format string');
  const out = template.replace(PERCENT, (code, name, flags: string, width, places, type: string) => {
    if (type === '%') return '%';
    if (type === '') fail('incomplete format');
    if (width === '*' || places === '*' || flags.includes('#')) unsupported(`${code} as a format`);
    let argument: Value;
    if (name === undefined) argument = next();
    else {
      if (!(value instanceof Dict)) fail('format requires a mapping');
      argument = either(value.get(name), () => fail(`format: expected a key '${name}', got none`));
      named = true;
    }
    const body = percentBody(code, type, argument, places === undefined ? undefined : Number(places));
    if (type === 's' || type === 'r') return pad(body, Number(width ?? 0), flags.includes('-') ? '<' : '>');
    const plus = flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : '';
    const align = flags.includes('-') ? '<' : flags.includes('0') ? '=' : '>';
    return pad(signed(body, plus), Number(width ?? 0), align, align === '=' ? '0' : ' ');
  });
  // Unused arguments are allowed for lists and dicts, but not for tuples and strings.
  const isMapping =
    Array.isArray(value) || value instanceof Dict || value instanceof Range || value instanceof Undefined;
  if (!named && used < list.length && !isMapping) {
    fail('not all arguments converted during string formatting');
  }
  reserve(out.length);
  return out;
}

function percentBody(code: string, type: string, value: Value, places: number | undefined): string {
  if (type === 's' || type === 'r') return shortened(type === 's' ? textFor(value) : reprOf(value), places);
  const number = numeric(value);
  if (!'diufFxXo'.includes(type)) unsupported(`${code} as a format`);
  if (number === undefined || ('xXo'.includes(type) && typeof number !== 'bigint'))
    return fail(`%${type} format: a number is required, not ${typeName(value)}`);
  if (!'diu'.includes(type)) return numberText(number, type, places, code);
  return numberText(typeof number === 'bigint' ? number : whole(number), 'd', places, code);
}

function shortened(text: string, length: number | undefined): string {
  return length === undefined ? text : codePoints(text).slice(0, length).join('');
}

/** The integer part of a float. */
export function whole(value: number): bigint {
  if (!Number.isFinite(value)) fail('cannot convert float infinity or NaN to integer');
  return BigInt(Math.trunc(value));
}

/** A number in the notation `type`. */
function numberText(
  number: bigint | number,
  type: string,
  places: number | undefined,
  format: string,
): string {
  if (type === 'f' || type === 'F') return fixedText(Number(number), places ?? 6);
  if (type === '%') return `${fixedText(Number(number) * 100, places ?? 6)}%`;
  const base = { d: 10, x: 16, X: 16, o: 8, b: 2 }[type];
  if (typeof number !== 'bigint' || base === undefined || places !== undefined)
    return unsupported(`${format} as the format of a ${typeName(number)}`);
  return type === 'X' ? number.toString(base).toUpperCase() : number.toString(base);
}

function signed(text: string, plus: string): string {
  return text.startsWith('-') ? text : plus + text;
}

function fixedText(value: number, places: number): string {
  if (!Number.isFinite(value) || Math.abs(value) >= 1e21 || places > 100)
    unsupported(`formatting ${value} with ${places} decimal places`);
  return value < 0 || Object.is(value, -0) ? `-${fixed(-value, places)}` : fixed(value, places);
}

/**
 * Pads to `width` characters: after the text (`<`), before it (`>`), after its sign (`=`), or on both sides
 * (`^`; `center` as in `str.center`, which places an odd blank by the width).
 */
export function pad(text: string, width: number, align: string, fill = ' '): string {
  if (codePointLength(fill) !== 1) fail(`expected one character to fill with, got '${fill}'`);
  const room = width - codePointLength(text);
  if (room <= 0) return text;
  reserve(width * fill.length);
  const sign = align === '=' ? (/^[-+ ]/.exec(text)?.[0] ?? '') : '';
  const half = Math.floor(room / 2) + (align === 'center' ? room & width & 1 : 0);
  const left = align === '<' ? 0 : align === '^' || align === 'center' ? half : room;
  return sign + fill.repeat(left) + text.slice(sign.length) + fill.repeat(room - left);
}

/** Looks up `.name` and `[key]` of a field, as templates do. */
type Lookup = (object: Value, name: string, isAttribute: boolean) => Value;

/** `str.format`. */
export function braceFormat(
  template: string,
  args: readonly Value[],
  keywords: Keywords,
  lookup: Lookup,
): string {
  reserve(template.length);
  let automatic = 0;
  const field = (body: string): string => {
    const [, path, conversion, specification = ''] =
      /^([^!:]*)(?:!([^:]*))?(?::(.*))?$/s.exec(body) ?? fail(`format: expected a field, got {${body}}`);
    if (/[{}]/.test(specification)) unsupported('a field inside the format of a field');
    const [, first, rest] = /^([^.[]*)(.*)$/s.exec(path) as RegExpExecArray;
    const index = first === '' ? automatic++ : /^[0-9]+$/.test(first) ? Number(first) : undefined;
    let value = index === undefined ? keywords.get(first) : args[index];
    if (value === undefined) fail(`format: expected an argument for {${body}}, got none`);
    for (const [step, name, key] of rest.matchAll(/\.([^.[]+)|\[([^\]]+)\]|./gs)) {
      if (name === undefined && key === undefined) fail(`format: expected .name or [key], got '${step}'`);
      value = defined(lookup(value, name ?? key, name !== undefined));
    }
    if (conversion === 'r') value = reprOf(value);
    else if (conversion === 's') value = textFor(value);
    else if (conversion !== undefined) unsupported(`!${conversion} in a format`);
    return specification === '' ? textFor(value) : formatted(value, specification);
  };
  const pattern = /\{\{|\}\}|\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}|[{}]/g;
  const out = template.replace(pattern, (match, body?: string) => {
    if (match === '{{' || match === '}}') return match[0];
    return body === undefined
      ? fail(`format: expected pairs of braces, got a single '${match}'`)
      : field(body);
  });
  reserve(out.length);
  return out;
}

function formatted(value: Value, specification: string): string {
  const parts =
    /^(?:(.)?([<>=^]))?([-+ ])?(#)?(0)?([0-9]+)?([,_])?(?:\.([0-9]+))?([a-zA-Z%])?$/su.exec(specification) ??
    fail(`format: invalid format specifier '${specification}'`);
  const [, fill, align, sign = '-', sharp, zero, width = 0, group, precision, type] = parts;
  const refuse = (): never => unsupported(`'${specification}' as the format of a ${typeName(value)}`);
  if (sharp !== undefined || group === '_') refuse();
  const places = precision === undefined ? undefined : Number(precision);
  const outer = (text: string, usual: string): string =>
    pad(text, Number(width), align ?? (zero ? '=' : usual), fill ?? (zero ? '0' : ' '));
  if (typeof value === 'string') {
    if ((type ?? 's') !== 's') fail(`format: unknown format code '${type}' for object of type 'str'`);
    if (parts[3] !== undefined || group !== undefined)
      fail(`format: invalid format specifier '${specification}'`);
    return outer(shortened(value, places), '<');
  }
  const number = numeric(value);
  if (number === undefined || (typeof value === 'boolean' && type === undefined)) return refuse();
  let text = numberText(number, type ?? 'd', places, `'${specification}'`);
  if (group !== undefined) {
    if (zero !== undefined) refuse();
    text = text.replace(/^(-?[0-9]+)/, (digits) => digits.replace(/\B(?=(?:[0-9]{3})+$)/g, ','));
  }
  return outer(signed(text, sign === '-' ? '' : sign), '>');
}
