/**
 * The one error of everything that reads a file: which file, where in it, what was expected there.
 * A class of its own because callers branch on it (a damaged download is not a bug).
 */

import { printable } from '../arguments/printable.ts';

/** Characters of a message; what a file holds may be longer. */
const LONGEST = 1000;

/** A file does not hold what its format says. One line: `file: at byte N: expected …, got …`. */
export class FormatError extends Error {
  override readonly name = 'FormatError';
  /** The path, URL or name of the source. */
  readonly file: string;
  /** Bytes from the start of the file, or undefined where a value and not a place is wrong (a key of config.json). */
  readonly byteOffset: number | undefined;

  /**
   * @param file the path, URL or name of the source
   * @param byteOffset bytes from the start of the file, or undefined when no single place is at fault
   * @param detail `expected …, got …`, without the file and the place
   */
  constructor(file: string, byteOffset: number | undefined, detail: string, options?: ErrorOptions) {
    const place = byteOffset === undefined ? file : `${file}: at byte ${byteOffset}`;
    // Names and values of the file stand in it: they may be long, and hold what a terminal obeys.
    const text = String(detail);
    const shown = text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
    super(printable(`${place}: ${shown}`), options);
    this.file = file;
    this.byteOffset = byteOffset;
  }
}
