/**
 * What every command prints with: results on stdout, everything else on stderr; numbers with their units; tables that
 * a terminal shows aligned and `grep` and `awk` can read.
 */
import Table from 'cli-table3';
import pc from 'picocolors';

type Colors = ReturnType<typeof pc.createColors>;

function colorsOf(stream: NodeJS.WriteStream): Colors {
  const wanted = stream.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
  return pc.createColors(wanted);
}

/** Colours for stdout: none unless it is a terminal. */
export const outColors: Colors = colorsOf(process.stdout);
/** Colours for stderr, likewise. */
export const errColors: Colors = colorsOf(process.stderr);

/** A whole number with thousands apart: `134,515,008`. */
export function count(value: number): string {
  return value.toLocaleString('en-US');
}

/** Bytes in the largest binary unit that leaves at least 1: `45.0 KiB`. */
export function binarySize(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? `${count(bytes)} bytes` : `${value.toFixed(1)} ${units[unit]}`;
}

/** Bytes exactly and in a binary unit: `46,080 bytes (45.0 KiB)`. */
export function exactSize(bytes: number): string {
  return bytes < 1024 ? binarySize(bytes) : `${count(bytes)} bytes (${binarySize(bytes)})`;
}

/** A share: `12 %`, `3.4 %`. */
export function percent(share: number): string {
  const value = 100 * share;
  return `${value < 9.95 ? Number(value.toFixed(1)) : value.toFixed(0)} %`;
}

/** A text in lines of at most 80 characters. @param indent before each line */
export function wrapped(text: string, indent = ''): string {
  const lines: string[] = [];
  for (const paragraph of text.trim().split(/\n+/)) {
    let line = '';
    for (const word of paragraph.split(' ')) {
      if (line !== '' && indent.length + line.length + 1 + word.length > 80) {
        lines.push(line);
        line = word;
      } else line = line === '' ? word : `${line} ${word}`;
    }
    lines.push(line);
  }
  return lines.map((line) => indent + line).join('\n');
}

/** Writes a line of the result. */
export function writeResult(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Writes a line that is not part of the result. */
export function writeNote(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Writes the result of `--json`: one object on one line. */
export function writeJson(value: object): void {
  writeResult(JSON.stringify(value));
}

/**
 * Columns aligned by spaces, without lines around them.
 * @param rows cells as text; all rows equally long
 * @param rightAligned columns that hold numbers, counted from 0
 */
export function columns(rows: readonly (readonly string[])[], rightAligned: readonly number[] = []): string {
  const none = [
    'top',
    'top-mid',
    'top-left',
    'top-right',
    'bottom',
    'bottom-mid',
    'bottom-left',
    'bottom-right',
  ]
    .concat(['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid'])
    .map((name) => [name, '']);
  const table = new Table({
    chars: { ...Object.fromEntries(none), middle: '  ' },
    colAligns: (rows[0] ?? []).map((_, column) => (rightAligned.includes(column) ? 'right' : 'left')),
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  for (const row of rows) table.push([...row]);
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}
