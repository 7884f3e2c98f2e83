/** `strftime_now`: Python's `datetime.now().strftime`, with the names and forms of the C locale. */
import { reserve, unsupported } from './limits.ts';

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const MONTHS = 'January February March April May June July August September October November December'.split(
  ' ',
);

type Field = (date: Date) => number;
const hour12: Field = (date) => date.getHours() % 12 || 12;
const dayOfYear: Field = (date) =>
  Math.round(
    (Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) - Date.UTC(date.getFullYear(), 0, 1)) /
      864e5,
  ) + 1;
const isoDay: Field = (date) => date.getDay() || 7;

/** Weeks of the year that start on Sunday (0) or Monday (1). */
const week =
  (first: number): Field =>
  (date) =>
    Math.floor((dayOfYear(date) + 6 - ((date.getDay() + 7 - first) % 7)) / 7);

/** ISO 8601 year and week, which are those of the week's Thursday. */
function isoWeek(date: Date): [number, number] {
  const thursday = new Date(date.getFullYear(), date.getMonth(), date.getDate() + 4 - isoDay(date));
  return [thursday.getFullYear(), Math.ceil(dayOfYear(thursday) / 7)];
}

/** Numeric fields: value, width and padding. */
const NUMBERS: Readonly<Record<string, readonly [Field, number, string]>> = {
  C: [(date) => Math.floor(date.getFullYear() / 100), 2, '0'],
  d: [(date) => date.getDate(), 2, '0'],
  e: [(date) => date.getDate(), 2, ' '],
  f: [(date) => date.getMilliseconds() * 1000, 6, '0'],
  g: [(date) => isoWeek(date)[0] % 100, 2, '0'],
  G: [(date) => isoWeek(date)[0], 4, '0'],
  H: [(date) => date.getHours(), 2, '0'],
  I: [hour12, 2, '0'],
  j: [dayOfYear, 3, '0'],
  k: [(date) => date.getHours(), 2, ' '],
  l: [hour12, 2, ' '],
  m: [(date) => date.getMonth() + 1, 2, '0'],
  M: [(date) => date.getMinutes(), 2, '0'],
  S: [(date) => date.getSeconds(), 2, '0'],
  u: [isoDay, 1, '0'],
  U: [week(0), 2, '0'],
  V: [(date) => isoWeek(date)[1], 2, '0'],
  w: [(date) => date.getDay(), 1, '0'],
  W: [week(1), 2, '0'],
  y: [(date) => date.getFullYear() % 100, 2, '0'],
  Y: [(date) => date.getFullYear(), 4, '0'],
};

const TEXTS: Readonly<Record<string, string | ((date: Date) => string)>> = {
  a: (date) => DAYS[date.getDay()].slice(0, 3),
  A: (date) => DAYS[date.getDay()],
  b: (date) => MONTHS[date.getMonth()].slice(0, 3),
  B: (date) => MONTHS[date.getMonth()],
  c: '%a %b %e %H:%M:%S %Y',
  D: '%m/%d/%y',
  F: '%Y-%m-%d',
  h: '%b',
  n: () => '\n',
  p: (date) => (date.getHours() < 12 ? 'AM' : 'PM'),
  P: (date) => (date.getHours() < 12 ? 'am' : 'pm'),
  r: '%I:%M:%S %p',
  R: '%H:%M',
  t: () => '\t',
  T: '%H:%M:%S',
  x: '%m/%d/%y',
  X: '%H:%M:%S',
  // Empty for a local time without a time zone.
  z: () => '',
  Z: () => '',
  '%': () => '%',
};

export function strftime(date: Date, format: string): string {
  // A format code costs as much as many characters.
  reserve(format.length * 64);
  return format.replace(/%(-?)(.|$)/gs, (code, flag: string, letter: string) => {
    const text = TEXTS[letter];
    if (text !== undefined && flag === '')
      return typeof text === 'string' ? strftime(date, text) : text(date);
    const number = NUMBERS[letter];
    if (number === undefined || (flag !== '' && letter === 'f'))
      return unsupported(`${code} in strftime_now`);
    const [field, width, fill] = number;
    return flag === '-' ? String(field(date)) : String(field(date)).padStart(width, fill);
  });
}
