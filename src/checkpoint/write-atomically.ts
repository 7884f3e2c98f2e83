/**
 * Files and folders that are there whole or not at all: written under a temporary name beside, synced, renamed. What a killed
 * process left under such a name is removed by the next one that writes to the same place.
 */
import { type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { isRunning } from './lock-folder.ts';

const HOST = hostname()
  .replace(/[^\w-]/g, '_')
  .slice(0, 40);

/**
 * Creates or replaces `path` with what `write` puts into the handle. A crash leaves the old file (and perhaps a `.tmp` one).
 * @param write gets an open, empty file; it must not close it
 * @throws what `write` or the file system throws, after removing the temporary file
 */
export async function writeAtomically(
  path: string,
  write: (file: FileHandle) => Promise<void>,
): Promise<void> {
  const folder = dirname(path);
  await removeLeftovers(path, 'tmp');
  const temporary = temporaryName(path, 'tmp');
  const file = await open(temporary, 'wx');
  try {
    try {
      await write(file);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(folder);
}

/** As `writeAtomically`, of a text or of bytes at hand. */
export function writeContentAtomically(path: string, content: string | Uint8Array): Promise<void> {
  return writeAtomically(path, (file) => file.writeFile(content));
}

/**
 * Creates or replaces the folder `path` with what `write` puts into a temporary one beside it. A crash leaves the old folder, or
 * for the moment between two renames none; never a part of the new one.
 * @param write gets the path of an empty folder; files it writes with `writeAtomically` are synced
 * @param options.replace whether a folder at `path` is replaced; without it an existing one is the file system's error
 * @throws what `write` or the file system throws, after removing the temporary folder
 */
export async function writeFolderAtomically(
  path: string,
  write: (folder: string) => Promise<void>,
  options: { readonly replace?: boolean } = {},
): Promise<void> {
  const target = resolve(path);
  const temporary = temporaryName(target, 'tmp');
  await mkdir(dirname(target), { recursive: true });
  await removeLeftovers(target, 'tmp');
  await mkdir(temporary);
  try {
    await write(temporary);
    await syncFolder(temporary);
    const old = options.replace ? await moveAway(target) : undefined;
    try {
      await rename(temporary, target);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOTEMPTY' || code === 'EEXIST') {
        const what = 'expected nothing there, got a folder that was written there meanwhile';
        throw new Error(`${path}: ${what}`, { cause: error });
      }
      if (old !== undefined) await rename(old, target);
      throw error;
    }
    await syncFolder(dirname(target));
    if (old !== undefined) await rm(old, { recursive: true, force: true });
    await removeLeftovers(target, 'old');
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
}

/** Renames what is at `path`, a folder cannot be renamed over another; undefined when nothing is there. */
async function moveAway(path: string): Promise<string | undefined> {
  const old = temporaryName(path, 'old');
  try {
    await rename(path, old);
    return old;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** `.NAME.PID-HOST-UNIQUE.KIND` beside `path`. */
function temporaryName(path: string, kind: 'tmp' | 'old'): string {
  const unique = Math.random().toString(36).slice(2, 10);
  return join(dirname(path), `.${basename(path)}.${process.pid}-${HOST}-${unique}.${kind}`);
}

/** Removes what writers to `path` left beside it when they were killed: those of this machine whose process is gone. */
export async function removeLeftovers(path: string, kind: 'tmp' | 'old'): Promise<void> {
  const prefix = `.${basename(path)}.`;
  const names = await readdir(dirname(path)).catch(() => []); // the write that follows reports what is wrong with the folder
  for (const name of names) {
    if (!name.startsWith(prefix) || !name.endsWith(`.${kind}`)) continue;
    const [, pid, host] = /^(\d+)-([\w-]+)-[0-9a-z]+\.\w+$/.exec(name.slice(prefix.length)) ?? [];
    if (host !== HOST || isRunning(Number(pid))) continue;
    await rm(join(dirname(path), name), { recursive: true, force: true });
  }
}

/** Makes the rename itself durable. Windows cannot open a folder, and has no need to. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
