/**
 * A local file for `readModelShape`: the one place of `gqa/plan` that needs Node, which it imports only when a path is
 * given, so that browsers never ask for it.
 */
import type { FileHandle } from 'node:fs/promises';
import { type ByteSource, checkRange } from '../format/byte-source.ts';
import { FormatError } from '../format/format-error.ts';

export interface LocalSource extends ByteSource {
  close(): Promise<void>;
}

/** @returns what is at the path; undefined when nothing is */
export async function kindOfPath(path: string): Promise<'file' | 'directory' | undefined> {
  const { stat } = await import('node:fs/promises');
  try {
    return (await stat(path)).isDirectory() ? 'directory' : 'file';
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}

/** Names of the files in a directory, sorted. */
export async function fileNames(path: string): Promise<readonly string[]> {
  const { readdir } = await import('node:fs/promises');
  return (await readdir(path)).sort();
}

/** An open file; the caller closes it. @throws as `openRegularFile` */
export async function openLocalFile(path: string): Promise<LocalSource> {
  const handle = await openRegularFile(path);
  const { size } = await handle.stat();
  return {
    name: path,
    size,
    async read(offset, length) {
      checkRange(path, size, offset, length);
      const bytes = new Uint8Array(length);
      await fill(handle, path, offset, bytes);
      return bytes;
    },
    close: () => handle.close(),
  };
}

/** @throws the file system's error when it cannot be opened, FormatError when it is no regular file */
export async function openRegularFile(path: string): Promise<FileHandle> {
  const { open, stat } = await import('node:fs/promises');
  // Before it is opened: opening a pipe waits for its writer, and its bytes cannot be read at random.
  if (!(await stat(path)).isFile()) {
    throw new FormatError(path, undefined, 'expected a regular file, got a pipe, a device or a folder');
  }
  return open(path, 'r');
}

/** Fills `target` with the bytes from `offset` on. @throws FormatError where the file ends before */
export async function fill(
  handle: FileHandle,
  path: string,
  offset: number,
  target: Uint8Array,
): Promise<void> {
  const { length } = target;
  for (let got = 0; got < length; ) {
    const { bytesRead } = await handle.read(target, got, length - got, offset + got);
    if (bytesRead === 0) {
      throw new FormatError(
        path,
        offset + got,
        `expected ${length - got} more bytes, got the end of the file`,
      );
    }
    got += bytesRead;
  }
}
