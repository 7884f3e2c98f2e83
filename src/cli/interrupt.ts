/**
 * Ctrl-C for every command: exits with code 130, or aborts the signal of the running work, which then stops.
 * The normal exit clears the status line.
 */
import { exitCode } from './errors.ts';

/** Under npm one Ctrl-C gives two signals: the terminal's, and npm's forwarded one. */
const ONE_PRESS_MS = 500;

/** Aborts the work that handles Ctrl-C itself. */
let stopping: AbortController | undefined;
let pressedAt = Number.NEGATIVE_INFINITY;

function interrupt(): void {
  if (stopping?.signal.aborted === false) {
    pressedAt = performance.now();
    stopping.abort();
  } else if (performance.now() - pressedAt > ONE_PRESS_MS) process.exit(exitCode.interrupted);
}

/** Installs the Ctrl-C handler. */
export function handleInterrupts(): void {
  process.on('SIGINT', interrupt);
}

/**
 * Runs work that stops when its signal is aborted, which the first Ctrl-C does; a second one ends the
 * process.
 * @param further signals to treat as Ctrl-C
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

/**
 * Runs work that throws when its signal is aborted, and leaves nothing half-written. Ctrl-C ends the command
 * with code 130 and without a message.
 * @returns undefined after Ctrl-C
 */
export function unlessInterrupted<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T | undefined> {
  return untilInterrupt(async (signal) => {
    try {
      return await work(signal);
    } catch (error) {
      if (!signal.aborted) throw error;
      process.exitCode = exitCode.interrupted;
      return undefined;
    }
  });
}
