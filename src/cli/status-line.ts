/**
 * The last line of a terminal, which says how far work has come and changes in place. What else is written
 * goes above it: output.ts takes it away before, and puts it back.
 *
 * Written here because the kept progress bars save the cursor's place on the screen at their start and return
 * to it at their end: once lines were written in between, that is a place above them.
 */

import { writeSync } from 'node:fs';
import { printableLine } from '../arguments/printable.ts';

/** At most ten times a second: a terminal far away is slow. */
const REDRAW_MS = 100;
const CLEAR = '\r\u001b[K';
/** A terminal writes ^C behind the line. If it broke the line there, clearing would leave the first part. */
const CTRL_C_WIDTH = 2;

let text: string | undefined;
let drawnAt = Number.NEGATIVE_INFINITY;
let isDrawn = false;

/** Whether there is a terminal for a status line. */
export function hasStatusLine(): boolean {
  return process.stderr.isTTY === true;
}

/**
 * Characters that a line of the terminal has room for; one column stays free, since a full line wraps on
 * some.
 */
export function terminalWidth(stream: NodeJS.WriteStream): number {
  return stream.isTTY === true ? Math.max(20, (stream.columns || 80) - 1) : Number.POSITIVE_INFINITY;
}

/** Shows `parts` as the status line, two spaces apart; those at the end that do not fit are left out. */
export function showStatus(parts: readonly string[]): void {
  if (!hasStatusLine()) return;
  const width = terminalWidth(process.stderr) - CTRL_C_WIDTH;
  let line = parts[0].slice(0, width);
  for (const part of parts.slice(1)) {
    if (line.length + 2 + part.length > width) break;
    line += `  ${part}`;
  }
  text = printableLine(line);
  if (performance.now() - drawnAt >= REDRAW_MS) draw();
}

/** Takes the status line away for good. */
export function clearStatus(): void {
  erase();
  text = undefined;
}

/** Writes something else in place of the status line, which comes back below it. */
export function aboveStatus(write: () => void): void {
  erase();
  write();
  if (text !== undefined) draw();
}

/** `█████░░░░░`. @param share 0 to 1 */
export function bar(share: number, size: number): string {
  const filled = Math.round(size * Math.min(1, Math.max(0, share)));
  return '█'.repeat(filled) + '░'.repeat(size - filled);
}

// Past the stream: a Ctrl-C amid one of its writes leaves it waiting for the end of that write.
process.on('exit', () => {
  if (!isDrawn) return;
  try {
    writeSync(process.stderr.fd, CLEAR);
  } catch {
    // The terminal is gone.
  }
});

function draw(): void {
  process.stderr.write(`${CLEAR}${text}`);
  drawnAt = performance.now();
  isDrawn = true;
}

function erase(): void {
  if (isDrawn) process.stderr.write(CLEAR);
  isDrawn = false;
}
