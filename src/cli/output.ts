/** Output of all commands: results on stdout, everything else on stderr; numbers with units. */
import pc from 'picocolors';
import { grouped } from '../arguments/inspect.ts';
import { printable, printableJson } from '../arguments/printable.ts';
import { aboveStatus, terminalWidth } from './status-line.ts';

type Colors = ReturnType<typeof pc.createColors>;

function colorsOf(stream: NodeJS.WriteStream): Colors {
  const wanted = stream.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
  return pc.createColors(wanted);
}

/** Colours for stdout: none unless it is a terminal. */
export const outColors: Colors = colorsOf(process.stdout);
/** Colours for stderr: none unless it is a terminal. */
export const errColors: Colors = colorsOf(process.stderr);

/** A whole number with thousands separators: `134,515,008`. */
export const count: (value: number) => string = grouped;

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

/** The same beside a column of exact bytes: '' where it would repeat them. */
export function besideBytes(bytes: number): string {
  return bytes < 1024 ? '' : binarySize(bytes);
}

/** A size as a part of another that is `times` as large: `1/4`, `1`, or `4.5 times`. */
export function partOf(times: number): string {
  const rounded = (value: number) => Number(value.toPrecision(3));
  if (rounded(times) === 1) return '1';
  return times > 1 ? `1/${rounded(times)}` : `${rounded(1 / times)} times`;
}

/** One number, or the smallest and the largest: `8`, `4 to 16`. */
export function rangeText(values: readonly number[]): string {
  return [...new Set([Math.min(...values), Math.max(...values)])].map(count).join(' to ');
}

/** A fraction as a percentage: `12 %`, `3.4 %`. */
export function percent(share: number): string {
  const value = 100 * share;
  return `${value < 9.95 ? Number(value.toFixed(1)) : value.toFixed(0)} %`;
}

/** A duration in a readable unit: `45 s`, `12 min`, `2.5 h`. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/**
 * A text in lines of at most 80 characters, or what the terminal has room for.
 * @param indent before each line
 */
export function wrapped(text: string, indent = ''): string {
  const width = Math.min(80, terminalWidth(process.stdout)) - indent.length;
  const lines = broken(text.trim().replaceAll(/\n+/g, '\n'), width).split('\n');
  return lines.map((line) => indent + line).join('\n');
}

/** A command, continued over lines in a narrow terminal; a flag and its value stay together. */
export function shellLines(command: string): string {
  const words = command.replace(/"[^"]*"/g, (text) => text.replaceAll(' ', '\u00a0'));
  const whole = words.replace(/(--\S+) (?!--)/g, '$1\u00a0');
  const lines = broken(whole, terminalWidth(process.stdout) - 6);
  return lines.replaceAll('\n', ' \\\n    ').replaceAll('\u00a0', ' ');
}

/**
 * The text below the options of a help, wrapped to the terminal's width: paragraphs, and examples, which are
 * the lines that begin with spaces.
 */
export function helpEnd(text: string): () => string {
  const lines = text.replace(/(\S)\n(?=\S)/g, '$1 ').split('\n');
  const fitted = (line: string) => (line.startsWith('  ') ? `  ${shellLines(line.trim())}` : wrapped(line));
  return () => lines.map(fitted).join('\n');
}

/** Wraps lines between words; a word longer than the width stays whole. */
export function broken(text: string, width: number): string {
  const lines: string[] = [];
  for (const paragraph of text.split('\n')) {
    let line: string | undefined;
    for (const word of paragraph.split(' ')) {
      if (line !== undefined && line.length + 1 + word.length > width) {
        lines.push(line);
        line = word;
      } else line = line === undefined ? word : `${line} ${word}`;
    }
    lines.push(line ?? '');
  }
  return lines.join('\n');
}

/** The colours of this command line (bold, dim, red to white): the only escapes that reach a terminal. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: colours begin with one
const OWN_COLORS = /(\x1b\[(?:[12]|22|3[0-79])m)/;

/** Removes control characters, so that text from files and models cannot control the terminal. */
function shown(text: string, { isColorSupported }: Colors): string {
  if (!isColorSupported) return printable(text);
  return text
    .split(OWN_COLORS)
    .map((part, i) => (i % 2 === 1 ? part : printable(part)))
    .join('');
}

/** Writes a line of the result. */
export function writeResult(text: string): void {
  aboveStatus(() => process.stdout.write(`${shown(text, outColors)}\n`));
}

/**
 * Writes a piece of generated text: unchanged to a file or a pipe, without control characters to a terminal.
 */
export function writePiece(text: string): void {
  process.stdout.write(process.stdout.isTTY === true ? printable(text) : text);
}

/** Writes a line to stderr, wrapped between words on a terminal. */
export function writeNote(text: string): void {
  aboveStatus(() =>
    process.stderr.write(`${shown(broken(text, terminalWidth(process.stderr)), errColors)}\n`),
  );
}

/** Writes the result of `--json`: one object on one line. */
export function writeJson(value: object): void {
  aboveStatus(() => process.stdout.write(`${printableJson(JSON.stringify(value))}\n`));
}
