/** `'%s' % value` and `'{}'.format(value)`. */
import { fail, reserve, unsupported } from './limits.ts';
import { fixed } from './literals.ts';
import {
  codePointLength,
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
  const out = template.replace(PERCENT, (_, name, flags: string, width, precision, type: string) => {
    if (type === '%') return '%';
    if (width === '*' || precision === '*') unsupported('* as the width in a % format');
    let argument: Value;
    if (name === undefined) argument = next();
    else {
      if (!(value instanceof Dict)) fail('format requires a mapping');
      argument = either(value.get(name), () => fail(`format: expected a key '${name}', got none`));
      named = true;
    }
    const body = percentBody(type, argument, flags, precision === undefined ? undefined : Number(precision));
    const align = flags.includes('-') ? '<' : flags.includes('0') && !'sr'.includes(type) ? '=' : '>';
    return pad(body, Number(width ?? 0), align, align === '=' ? '0' : ' ');
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

function percentBody(type: string, value: Value, flags: string, precision: number | undefined): string {
  const plus = flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : '';
  switch (type) {
    case 's':
    case 'r': {
      const text = type === 's' ? textFor(value) : reprOf(value);
      return precision === undefined ? text : Array.from(text).slice(0, precision).join('');
    }
    case 'd':
    case 'i':
    case 'u': {
      const number = numeric(value);
      if (number === undefined)
        return fail(`%${type} format: a real number is required, not ${typeName(value)}`);
      if (precision !== undefined) unsupported(`a precision in %${type}`);
      return signed(typeof number === 'bigint' ? number.toString() : whole(number).toString(), plus);
    }
    case 'f':
    case 'F': {
      const number = numeric(value);
      if (number === undefined) return fail(`must be real number, not ${typeName(value)}`);
      return signed(fixedText(Number(number), precision ?? 6), plus);
    }
    case 'x':
    case 'X':
    case 'o': {
      const number = numeric(value);
      if (typeof number !== 'bigint')
        return fail(`%${type} format: an integer is required, not ${typeName(value)}`);
      if (flags.includes('#') || precision !== undefined) unsupported(`'#' or a precision in %${type}`);
      const text = number.toString(type === 'o' ? 8 : 16);
      return signed(type === 'X' ? text.toUpperCase() : text, plus);
    }
  }
  return type === '' ? fail('incomplete format') : unsupported(`%${type} in a format`);
}

/** The integer part of a float. */
export function whole(value: number): bigint {
  if (!Number.isFinite(value)) fail('cannot convert float infinity or NaN to integer');
  return BigInt(Math.trunc(value));
}

function signed(text: string, plus: string): string {
  return text.startsWith('-') ? text : plus + text;
}

function fixedText(value: number, places: number): string {
  if (!Number.isFinite(value) || Math.abs(value) >= 1e21 || places > 100)
    unsupported(`a float such as ${value} with ${places} places`);
  return Object.is(value, -0) || (value < 0 && Number(fixed(value, places)) === 0)
    ? `-${fixed(Math.abs(value), places)}`
    : fixed(value, places);
}

/** `=` puts the padding after the sign. */
function pad(text: string, width: number, align: string, fill: string): string {
  const room = width - codePointLength(text);
  if (room <= 0) return text;
  reserve(width);
  if (align === '<') return text + fill.repeat(room);
  if (align === '^') return fill.repeat(Math.floor(room / 2)) + text + fill.repeat(Math.ceil(room / 2));
  const sign = align === '=' ? (/^[-+ ]/.exec(text)?.[0] ?? '') : '';
  return sign + fill.repeat(room) + text.slice(sign.length);
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
    const [, first, rest] = /^([^.[]*)(.*)$/s.exec(path) ?? ['', '', ''];
    let value: Value | undefined;
    if (first === '') value = args[automatic++];
    else value = /^[0-9]+$/.test(first) ? args[Number(first)] : keywords.get(first);
    if (value === undefined) fail(`format: expected an argument for {${body}}, got none`);
    for (const [step, name, key] of rest.matchAll(/\.([^.[]+)|\[([^\]]+)\]|./gs)) {
      if (name === undefined && key === undefined) fail(`format: expected .name or [key], got '${step}'`);
      value = defined(lookup(value, name ?? key, name !== undefined));
    }
    if (conversion === 'r') value = reprOf(value);
    else if (conversion === 's') value = textFor(value);
    else if (conversion !== undefined) unsupported(`!${conversion} in a format`);
    return formatted(value, specification);
  };
  const out = template.replace(
    /\{\{|\}\}|\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}|[{}]/g,
    (match, body?: string) => {
      if (match === '{{' || match === '}}') return match[0];
      return body === undefined
        ? fail(`format: expected pairs of braces, got a single '${match}'`)
        : field(body);
    },
  );
  reserve(out.length);
  return out;
}

function formatted(value: Value, specification: string): string {
  if (specification === '') return textFor(value);
  const parts = /^(?:(.)?([<>=^]))?([-+ ])?(#)?(0)?([0-9]+)?([,_])?(?:\.([0-9]+))?([a-zA-Z%])?$/su.exec(
    specification,
  );
  if (parts === null) return fail(`format: invalid format specifier '${specification}'`);
  const [, fill, align, sign, sharp, zero, width, group, precision, type] = parts;
  if (sharp !== undefined || group === '_') unsupported(`'${specification}' in a format`);
  const outer = (text: string, usual: string): string =>
    pad(text, Number(width ?? 0), align ?? (zero ? '=' : usual), fill ?? (zero ? '0' : ' '));
  if (typeof value === 'string') {
    if (type !== undefined && type !== 's')
      fail(`format: unknown format code '${type}' for object of type 'str'`);
    if (sign !== undefined || group !== undefined)
      fail(`format: invalid format specifier '${specification}'`);
    return outer(
      precision === undefined ? value : Array.from(value).slice(0, Number(precision)).join(''),
      '<',
    );
  }
  const number = value instanceof Undefined ? undefined : numeric(value);
  if (number === undefined || (typeof value === 'boolean' && type === undefined)) {
    unsupported(`'${specification}' in the format of a ${typeName(value)}`);
  }
  let text: string;
  if (type === 'f' || type === 'F') text = fixedText(Number(number), Number(precision ?? 6));
  else if (type === '%') text = `${fixedText(Number(number) * 100, Number(precision ?? 6))}%`;
  else if (typeof number === 'bigint' && (type === undefined || type === 'd') && precision === undefined)
    text = number.toString();
  else if (typeof number === 'bigint' && /^[xXob]$/.test(type ?? '') && precision === undefined) {
    text = number.toString({ x: 16, X: 16, o: 8, b: 2 }[type as 'x']);
    if (type === 'X') text = text.toUpperCase();
  } else return unsupported(`'${specification}' in the format of a ${typeName(value)}`);
  if (group !== undefined) {
    if (zero !== undefined) unsupported(`'${specification}' in a format`);
    text = text.replace(/^(-?[0-9]+)/, (digits) => digits.replace(/\B(?=(?:[0-9]{3})+$)/g, ','));
  }
  return outer(signed(text, sign === undefined || sign === '-' ? '' : sign), '>');
}
