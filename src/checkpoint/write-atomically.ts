/** Files and folders that are there whole or not at all: written under a temporary name beside, synced, renamed. */
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

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
  await mkdir(temporary);
  try {
    await write(temporary);
    await syncFolder(temporary);
    const old = options.replace ? await moveAway(target) : undefined;
    try {
      await rename(temporary, target);
    } catch (error) {
      if (old !== undefined) await rename(old, target);
      throw error;
    }
    await syncFolder(dirname(target));
    if (old !== undefined) await rm(old, { recursive: true, force: true });
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

function temporaryName(path: string, kind: string): string {
  const unique = `${process.pid}-${Math.random().toString(36).slice(2, 10)}`;
  return join(dirname(path), `.${basename(path)}.${unique}.${kind}`);
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
