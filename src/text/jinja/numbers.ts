/** Parsing, rounding and summing numbers as in Python. */
import { fail, reserve, unsupported } from './limits.ts';
import { fixed } from './literals.ts';
import { binary, toFloat } from './operators.ts';
import { strip } from './text.ts';
import { defined, numeric, typeName, type Value } from './values.ts';

function trimmed(text: string): string {
  reserve(text.length * 4);
  const inner = strip(text);
  if (/(?![0-9])\p{Nd}/u.test(inner)) unsupported(`digits such as those of '${inner.slice(0, 20)}'`);
  return inner;
}

/** `int(text)`, undefined where it raises ValueError. */
export function parseIntegerText(text: string): bigint | undefined {
  const inner = trimmed(text);
  if (inner.length > 4300 || !/^[+-]?[0-9]+(_[0-9]+)*$/.test(inner)) return undefined;
  const digits = BigInt(inner.replace(/[+\-_]/g, ''));
  return inner.startsWith('-') ? -digits : digits;
}

/** `float(text)`, undefined where it raises ValueError. */
export function parseFloatText(text: string): number | undefined {
  const inner = trimmed(text);
  const special = /^([+-]?)(inf|infinity|nan)$/i.exec(inner);
  if (special)
    return special[2].toLowerCase() === 'nan' ? Number.NaN : special[1] === '-' ? -Infinity : Infinity;
  const digits = '[0-9]+(?:_[0-9]+)*';
  const pattern = new RegExp(
    `^[+-]?(?:${digits}(?:\\.(?:${digits})?)?|\\.${digits})(?:e[+-]?${digits})?$`,
    'i',
  );
  return pattern.test(inner) ? Number(inner.replaceAll('_', '')) : undefined;
}

/** The filter `round`: a float stays a float; ties round to even. */
export function roundFloat(value: Value, precision: number, method: Value): Value {
  if (method !== 'common' && method !== 'ceil' && method !== 'floor')
    fail('method must be common, ceil or floor');
  const number = numeric(value) ?? fail(`type ${typeName(value)} doesn't define __round__ method`);
  if (method !== 'common') {
    if (precision < 0) unsupported('round with a negative precision');
    const scale = 10 ** precision;
    const scaled = toFloat(number) * scale;
    if (!Number.isFinite(scaled) || scale > 1e15 || Math.abs(scaled) > 2 ** 53)
      unsupported(`round of ${value} with precision ${precision}`);
    return (method === 'ceil' ? Math.ceil(scaled) : Math.floor(scaled)) / scale + 0;
  }
  if (typeof number === 'bigint') {
    if (precision < 0) unsupported('round with a negative precision');
    return number;
  }
  if (!Number.isFinite(number)) return number;
  if (precision < 0 || precision > 90 || Math.abs(number) >= 1e21)
    unsupported(`round of ${number} with precision ${precision}`);
  const rounded = Number(fixed(Math.abs(number), precision));
  return number < 0 || Object.is(number, -0) ? -rounded : rounded;
}

/** `sum()`: integers exactly, floats with compensated summation (Python 3.12 and later). */
export function sumOf(values: readonly Value[], start: Value): Value {
  let total = start;
  let carried = 0;
  let compensating = false;
  for (const value of values) {
    const number = numeric(defined(value));
    if (typeof total === 'number' && number !== undefined && (compensating || typeof number === 'number')) {
      compensating = true;
      const next = toFloat(number);
      if (typeof number === 'bigint') {
        total += next;
        continue;
      }
      const sum: number = total + next;
      carried += Math.abs(total) >= Math.abs(next) ? total - sum + next : next - sum + total;
      total = sum;
    } else total = binary('+', total, value);
  }
  return compensating && typeof total === 'number' && Number.isFinite(carried) && carried !== 0
    ? total + carried
    : total;
}
