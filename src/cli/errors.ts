/**
 * Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. A value of a flag that the model cannot have is
 * wrong usage too. A failure is one line `gqa: …` on stderr,
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

/** The flag of each option that an error of the library may name: `numKeyValueHeads` is `--kv-heads`. */
export type FlagNames = ReadonlyMap<string, string>;

/** Replaces options in a library's error, `{ force: true }` or `{ steps }`, by the command's flags. */
function withFlags(message: string, flags: FlagNames): string {
  return message.replace(
    /\{ (\w+)(: true)? \}/g,
    (_, name: string) =>
      flags.get(name) ?? `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
  );
}

/**
 * The same for options without braces, in errors about arguments: those of more than one word, and any after
 * `expected`. A name that is part of a path stays.
 */
function withNamedFlags(message: string, flags: FlagNames): string {
  return message.replace(
    /(?<![\w./\\-])(expected )?([a-z]+([A-Z]\w*)?)(?![\w/\\-]|\.\w)/g,
    (found, expected: string | undefined, name: string, more: string | undefined) => {
      const flag = expected !== undefined || more !== undefined ? flags.get(name) : undefined;
      return flag === undefined ? found : `${expected ?? ''}${flag}`;
    },
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
 * @param flags of the command: a wrong value of an option that has one is wrong usage
 * @returns the exit code that goes with it
 */
export function reportFailure(error: unknown, flags: FlagNames = new Map()): number {
  const message = withFlags(error instanceof Error ? messageOf(error) : String(error), flags);
  const isConflict = error instanceof RunConflictError;
  const isArgument = error instanceof RangeError || error instanceof TypeError;
  const named = isConflict || isArgument ? withNamedFlags(message, flags) : message;
  const stack = process.env.GQA_DEBUG === '1' && error instanceof Error ? error.stack : undefined;
  writeNote(`gqa: ${stack ?? oneLine(named)}`);
  const isUsage = error instanceof UsageError || isConflict || (isArgument && named !== message);
  return isUsage ? exitCode.wrongUsage : exitCode.failed;
}
