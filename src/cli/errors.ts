/**
 * How the command line ends: exit code 0 done, 1 failed, 2 wrong usage, 130 interrupted; a failure is one line
 * `gqa: …` on stderr, without a stack unless GQA_DEBUG=1.
 */

import { RunConflictError } from '../train/training-run.ts';

export const exitCode = { done: 0, failed: 1, wrongUsage: 2, interrupted: 130 } as const;

/** The user asked for something that cannot be meant: ends with exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** A message as one line: what a library or a template wrote over several is joined. */
export function oneLine(message: string): string {
  return message.trim().replace(/\s*\n\s*/g, ' ');
}

/**
 * Prints why a command failed.
 * @returns the exit code that goes with it
 */
export function reportFailure(error: unknown): number {
  const message = error instanceof Error ? error.message || error.name : String(error);
  const debug = process.env.GQA_DEBUG === '1' && error instanceof Error && error.stack !== undefined;
  process.stderr.write(`gqa: ${debug ? error.stack : oneLine(message)}\n`);
  return error instanceof UsageError || error instanceof RunConflictError
    ? exitCode.wrongUsage
    : exitCode.failed;
}
