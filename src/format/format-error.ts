/**
 * The error of everything that reads files: the file, the place in it, and what was expected there. It is a
 * class of its own because callers branch on it (a damaged download is not a bug).
 */

import { printable } from '../arguments/printable.ts';

/** Most characters of a message: texts from a file can be longer. */
const MAX_LENGTH = 1000;

/** A file does not hold what its format says. One line: `file: at byte N: expected …, got …`. */
export class FormatError extends Error {
  override readonly name = 'FormatError';
  /** The path, URL or name of the source. */
  readonly file: string;
  /**
   * Bytes from the start of the file; undefined where a value is wrong and not a place (a key of
   * config.json).
   */
  readonly byteOffset: number | undefined;

  /**
   * @param file the path, URL or name of the source
   * @param byteOffset bytes from the start of the file; undefined when the fault has no single place
   * @param detail `expected …, got …`, without the file and the place
   */
  constructor(file: string, byteOffset: number | undefined, detail: string, options?: ErrorOptions) {
    const place = byteOffset === undefined ? file : `${file}: at byte ${byteOffset}`;
    // It can contain names and values from the file: long ones, and ones with control characters.
    const text = String(detail);
    const shown = text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH)}…` : text;
    super(printable(`${place}: ${shown}`), options);
    this.file = file;
    this.byteOffset = byteOffset;
  }
}
