/**
 * Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. A failure is one line `gqa: …` on stderr,
 * without a stack unless GQA_DEBUG=1.
 */

import { RunConflictError } from '../train/run-identity.ts';
import { writeNote } from './output.ts';

export const exitCode = { done: 0, failed: 1, wrongUsage: 2, interrupted: 130 } as const;

/** A wrong option or argument: ends with exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Joins the lines of a message into one. */
export function oneLine(message: string): string {
  return message.trim().replace(/\s*\n\s*/g, ' ');
}

/** Error codes of the file system in words. Node's message has the path last: `EACCES: …, scandir 'x'`. */
const FILE_ERRORS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EROFS: 'the file system is read-only',
  ENOSPC: 'no space left on the disk',
  EDQUOT: 'the disk quota is used up',
  ENOENT: 'no such file or folder',
  ENOTDIR: 'a file where a folder was expected',
  EISDIR: 'a folder where a file was expected',
  EMFILE: 'too many open files',
  ELOOP: 'symbolic links in a circle',
  ENAMETOOLONG: 'the name is too long',
  EIO: 'the disk cannot be read or written',
};

/** Replaces options in a library's error, `{ force: true }` or `{ steps }`, by the command's flags. */
function withFlags(message: string): string {
  return message.replace(
    /\{ (\w+)(: true)? \}/g,
    (_, name: string) => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
  );
}

/** `path: cannot open: permission denied (EACCES)` for a file system error; other messages unchanged. */
function messageOf(error: Error): string {
  const { code, syscall, path, dest } = error as NodeJS.ErrnoException & { readonly dest?: string };
  const reason = FILE_ERRORS[code ?? ''];
  // Keep the library's own message, which says more.
  if (reason === undefined || syscall === undefined || !error.message.startsWith(`${code}:`)) {
    return error.message || error.name;
  }
  const action = ACTIONS[syscall] ?? syscall;
  // Files are written under a temporary name and renamed: show the requested name.
  const place = (dest ?? path)?.replace(/(^|\/)\.([^/]+)\.\d+-[\w-]+\.tmp(\/.*)?$/, '$1$2');
  return `${place === undefined ? '' : `${place}: `}cannot ${action}: ${reason} (${code})`;
}

const ACTIONS: Readonly<Record<string, string>> = {
  access: 'write there',
  stat: 'open',
  lstat: 'open',
  realpath: 'follow the link',
  scandir: 'read the folder',
  mkdir: 'make the folder',
  rmdir: 'remove the folder',
  unlink: 'remove the file',
  copyfile: 'copy a file there',
};

/**
 * Prints the error of a failed command.
 * @returns the exit code that goes with it
 */
export function reportFailure(error: unknown): number {
  const message = error instanceof Error ? messageOf(error) : String(error);
  const stack = process.env.GQA_DEBUG === '1' && error instanceof Error ? error.stack : undefined;
  writeNote(`gqa: ${stack ?? oneLine(withFlags(message))}`);
  return error instanceof UsageError || error instanceof RunConflictError
    ? exitCode.wrongUsage
    : exitCode.failed;
}
