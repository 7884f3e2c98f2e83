/**
 * The last line of a terminal, which shows progress and is redrawn in place. Other output goes above it:
 * output.ts erases the line, writes, and draws it again.
 *
 * cli-progress is not used: it saves the cursor position at its start and returns to it at its end, which is
 * wrong once lines were written in between.
 */

import { writeSync } from 'node:fs';
import { printableLine } from '../arguments/printable.ts';

/** At most ten redraws a second, since a remote terminal is slow. */
const REDRAW_MS = 100;
const CLEAR = '\r\u001b[K';
/** Room for the ^C that a terminal echoes: if that wrapped the line, clearing would leave its first part. */
const CTRL_C_WIDTH = 2;

let text: string | undefined;
let drawnAt = Number.NEGATIVE_INFINITY;
let isDrawn = false;

/** Whether there is a terminal for a status line. */
export function hasStatusLine(): boolean {
  return process.stderr.isTTY === true;
}

/**
 * Usable columns of the terminal: one less than its width, since a full line wraps on some.
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

/** Removes the status line. */
export function clearStatus(): void {
  erase();
  text = undefined;
}

/** Erases the status line, runs `write`, and redraws the line below its output. */
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

// Write directly, not through the stream: after a Ctrl-C during a write, the stream waits for that write.
process.on('exit', () => {
  if (!isDrawn) return;
  try {
    writeSync(process.stderr.fd, CLEAR);
  } catch {
    // The terminal is closed.
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
