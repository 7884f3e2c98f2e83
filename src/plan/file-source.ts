/**
 * A local file for `readModelShape`: the one place of `gqa/plan` that needs Node, which it imports only when a path is
 * given, so that browsers never ask for it.
 */
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

/** An open file; the caller closes it. @throws the file system's error when it cannot be opened, FormatError when it is no regular file */
export async function openLocalFile(path: string): Promise<LocalSource> {
  const { open, stat } = await import('node:fs/promises');
  // Before it is opened: opening a pipe waits for its writer.
  if (!(await stat(path)).isFile()) {
    throw new FormatError(path, undefined, 'expected a regular file, got a pipe, a device or a folder');
  }
  const handle = await open(path, 'r');
  const { size } = await handle.stat();
  return {
    name: path,
    size,
    async read(offset, length) {
      checkRange(path, size, offset, length);
      const bytes = new Uint8Array(length);
      for (let got = 0; got < length; ) {
        const { bytesRead } = await handle.read(bytes, got, length - got, offset + got);
        if (bytesRead === 0)
          throw new FormatError(path, offset + got, 'expected more bytes, got the end of the file');
        got += bytesRead;
      }
      return bytes;
    },
    close: () => handle.close(),
  };
}
