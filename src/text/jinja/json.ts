/** transformers' `tojson`: Python's `json.dumps` with `ensure_ascii=False`. */
import { compare } from './comparison.ts';
import { fail, nest, reserve } from './limits.ts';
import { floatText } from './literals.ts';
import { Dict, Markup, sequence, typeName, type Value } from './values.ts';

interface Settings {
  readonly ascii: boolean;
  /** Indentation of one level; undefined for a single line. */
  readonly indent: string | undefined;
  readonly between: string;
  readonly colon: string;
  readonly sorted: boolean;
}

export function toJson(
  value: Value,
  ascii = false,
  indent: Value = null,
  separators: Value = null,
  sorted = false,
): string {
  const pair = separators === null ? [indent === null ? ', ' : ',', ': '] : sequence(separators);
  if (pair?.length !== 2 || pair.some((part) => typeof part !== 'string'))
    fail(`tojson: expected two separators, got a '${typeName(separators)}'`);
  const [between, colon] = pair as readonly string[];
  return write(value, { ascii, indent: indentText(indent), between, colon, sorted }, 0);
}

function indentText(indent: Value): string | undefined {
  if (indent === null) return undefined;
  if (typeof indent === 'string') return indent;
  if (typeof indent === 'boolean') return indent ? ' ' : '';
  if (typeof indent !== 'bigint')
    return fail(`tojson: expected an int or a string as indent, got '${typeName(indent)}'`);
  const width = indent < 0n ? 0 : Number(indent);
  reserve(width);
  return ' '.repeat(width);
}

function write(value: Value, settings: Settings, depth: number): string {
  nest(depth);
  if (value === null) return 'null';
  if (typeof value === 'boolean') return String(value);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'number') return jsonFloat(value);
  if (typeof value === 'string') return quoted(value, settings.ascii);
  if (value instanceof Markup) return quoted(value.text, settings.ascii);
  const items = sequence(value)?.map((item) => write(item, settings, depth + 1));
  if (items !== undefined) return container('[', items, ']', settings, depth);
  if (!(value instanceof Dict)) return fail(`Object of type ${typeName(value)} is not JSON serializable`);
  const entries = Array.from(value.entries());
  if (settings.sorted) entries.sort(([a], [b]) => compare(a, b));
  const members = entries.map(
    ([key, item]) => quoted(keyText(key), settings.ascii) + settings.colon + write(item, settings, depth + 1),
  );
  return container('{', members, '}', settings, depth);
}

function container(
  open: string,
  members: string[],
  close: string,
  settings: Settings,
  depth: number,
): string {
  if (members.length === 0) return open + close;
  const { indent, between } = settings;
  const line = (level: number): string => (indent === undefined ? '' : `\n${indent.repeat(level)}`);
  const size = between.length + (indent === undefined ? 0 : indent.length * (depth + 1) + 1);
  reserve(members.reduce((sum, member) => sum + member.length + size, 2 + size));
  return open + line(depth + 1) + members.join(between + line(depth + 1)) + line(depth) + close;
}

function jsonFloat(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  return Number.isFinite(value) ? floatText(value) : value < 0 ? '-Infinity' : 'Infinity';
}

function keyText(key: Value): string {
  if (typeof key === 'string') return key;
  if (key instanceof Markup) return key.text;
  if (key === null) return 'null';
  if (typeof key === 'number') return jsonFloat(key);
  if (typeof key === 'boolean' || typeof key === 'bigint') return String(key);
  return fail(`keys must be str, int, float, bool or None, not ${typeName(key)}`);
}

const SHORT: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
};

function quoted(text: string, ascii: boolean): string {
  reserve(text.length);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: JSON escapes them.
  const pattern = ascii ? /["\\]|[^ -~]/g : /["\\\x00-\x1f]/g;
  const body = text.replace(
    pattern,
    (unit) => SHORT[unit] ?? `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return `"${body}"`;
}
