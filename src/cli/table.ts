/**
 * Tables that a terminal shows aligned and `grep` and `awk` can read. Where a table is wider than the
 * terminal, its cells stand below each other instead.
 */
import { stripVTControlCharacters } from 'node:util';
import Table from 'cli-table3';
import { printableLine } from '../arguments/printable.ts';
import { broken, outColors } from './output.ts';
import { terminalWidth } from './status-line.ts';

type Cells = readonly string[];

/** Names of cli-table3's border characters. */
const BORDERS =
  'top top-mid top-left top-right bottom bottom-mid bottom-left bottom-right left left-mid mid mid-mid right right-mid';

/**
 * Columns aligned by spaces, without lines around them.
 * @param head names of the columns; '' where a value needs none
 * @param cells as text, one for each name
 * @param rightAligned columns that hold numbers, counted from 0
 */
export function table(head: Cells, cells: readonly Cells[], rightAligned: readonly number[] = []): string {
  const rows = cells.map((row) => row.map(printableLine));
  const width = terminalWidth(process.stdout);
  const aligned = columns([head.map(outColors.bold), ...rows], rightAligned);
  return widthOf(aligned) <= width ? aligned : rows.map((row) => record(head, row, width)).join('\n');
}

/** Rows of a name, a value and an optional note. */
export function facts(cells: readonly (readonly [name: string, value: string, note?: string])[]): string {
  const rows = cells.map((row) => row.map((cell = '') => printableLine(cell)));
  const width = terminalWidth(process.stdout);
  const aligned = columns(
    rows.map(([name, value, note = '']) => [outColors.bold(name), value, outColors.dim(note)]),
  );
  if (widthOf(aligned) <= width) return aligned;
  const indent = 2 + Math.max(...rows.map(([name]) => name.length));
  const indented = (text: string) => broken(text, width - indent).replaceAll('\n', `\n${' '.repeat(indent)}`);
  return rows
    .map(([name, value, note = '']) => {
      const start = `${outColors.bold(name)}${' '.repeat(indent - name.length)}${indented(value)}`;
      if (note === '') return start;
      return start.length + 2 + note.length <= width
        ? `${start}  ${outColors.dim(note)}`
        : `${start}\n${' '.repeat(indent)}${outColors.dim(indented(note))}`;
    })
    .join('\n');
}

/**
 * A row as its first cell (named where it is a number) and, below it, the others with their names, as many to
 * a line as fit.
 */
function record(head: Cells, row: Cells, width: number): string {
  const items = row
    .map((cell, column) => (head[column] === '' ? cell : `${head[column]} ${cell}`))
    .filter((_, column) => column > 0 && row[column] !== '');
  const lines: string[] = [];
  let line = ' ';
  for (const item of items) {
    if (line !== ' ' && line.length + 2 + item.length > width) {
      lines.push(line);
      line = ' ';
    }
    line += line === ' ' ? ` ${item}` : `  ${item}`;
  }
  const title = /^[\d.,]+$/.test(row[0]) ? `${head[0]} ${row[0]}` : row[0];
  return [outColors.bold(title), ...lines, line].join('\n');
}

function columns(rows: readonly Cells[], rightAligned: readonly number[] = []): string {
  const none = BORDERS.split(' ').map((name) => [name, '']);
  const made = new Table({
    chars: { ...Object.fromEntries(none), middle: '  ' },
    colAligns: (rows[0] ?? []).map((_, column) => (rightAligned.includes(column) ? 'right' : 'left')),
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  for (const row of rows) made.push([...row]);
  return made
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

function widthOf(text: string): number {
  return Math.max(
    ...stripVTControlCharacters(text)
      .split('\n')
      .map((line) => line.length),
  );
}
