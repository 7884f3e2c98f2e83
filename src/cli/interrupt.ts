/**
 * Ctrl-C, for every command: it ends the process with exit code 130, or stops the work that says how to.
 * Since the process then exits by itself, the status line is taken away.
 */
import { exitCode } from './errors.ts';

/** npm passes on the Ctrl-C that the terminal has sent as well: two signals for one press. */
const ONE_PRESS_MS = 500;

/** Of the work that stops by itself. */
let stopping: AbortController | undefined;
let pressedAt = Number.NEGATIVE_INFINITY;

function interrupt(): void {
  if (stopping?.signal.aborted === false) {
    pressedAt = performance.now();
    stopping.abort();
  } else if (performance.now() - pressedAt > ONE_PRESS_MS) process.exit(exitCode.interrupted);
}

/** Begins to handle Ctrl-C. */
export function handleInterrupts(): void {
  process.on('SIGINT', interrupt);
}

/**
 * Runs work that stops when its signal is aborted, which the first Ctrl-C does; a second one ends the
 * process.
 * @param signals that count as Ctrl-C too
 */
export async function untilInterrupt<T>(
  work: (signal: AbortSignal) => Promise<T>,
  ...signals: readonly NodeJS.Signals[]
): Promise<T> {
  stopping = new AbortController();
  for (const name of signals) process.on(name, interrupt);
  try {
    return await work(stopping.signal);
  } finally {
    for (const name of signals) process.off(name, interrupt);
    stopping = undefined;
  }
}
