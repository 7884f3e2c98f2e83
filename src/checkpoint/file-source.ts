/** A local file as a ByteSource: an open handle and its size; nothing is cached. */
import { type ByteSource, checkRange } from '../format/byte-source.ts';
import { FormatError } from '../format/format-error.ts';
import { fill, openRegularFile } from '../plan/file-source.ts';

/** What tells a file from another one at its path, or from itself after it was written to. */
export type FileIdentity = Readonly<Record<'dev' | 'ino' | 'size' | 'mtimeNs', bigint>>;

/** @throws FormatError when the file at `path` is not the one that `expected` was read from */
export function checkIdentity(path: string, expected: FileIdentity | undefined, found: FileIdentity): void {
  const keys = ['dev', 'ino', 'size', 'mtimeNs'] as const;
  if (expected === undefined || keys.every((key) => expected[key] === found[key])) return;
  throw new FormatError(
    path,
    undefined,
    'expected the file whose header was read, got another one in its place; open the checkpoint again',
  );
}

/** Of a text file beside the weights: the largest tokenizer.json of known models has 35 MB. */
export const MAX_SIDECAR_BYTES: number = 1 << 26;

/** A ByteSource that holds a file open until `close()`. */
export interface FileSource extends ByteSource {
  /** Of the open file. */
  readonly identity: FileIdentity;
  /**
   * Fills `target` with the bytes from `offset` on: a reader that reuses one buffer spares the page faults of fresh ones,
   * which cost as much as the copy itself.
   * @throws as `read`
   */
  readInto(offset: number, target: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens a file for random-access reads.
 * @param path of an existing file; errors call it so
 * @param expected what the file was when it was opened before
 * @throws the file system's error when it cannot be opened, FormatError when it is no regular file, or not the `expected` one
 * @returns a source of the size the file has now; a file that shrinks while open gives a FormatError where it ends
 */
export async function openFileSource(path: string, expected?: FileIdentity): Promise<FileSource> {
  const handle = await openRegularFile(path);
  try {
    const identity = await handle.stat({ bigint: true });
    checkIdentity(path, expected, identity);
    const size = Number(identity.size);
    const readInto = async (offset: number, target: Uint8Array) => {
      checkRange(path, size, offset, target.length);
      await fill(handle, path, offset, target);
    };
    return {
      name: path,
      size,
      identity,
      readInto,
      async read(offset, length): Promise<Uint8Array> {
        checkRange(path, size, offset, length);
        const bytes = new Uint8Array(length);
        await readInto(offset, bytes);
        return bytes;
      },
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * A file that is read as a whole: a config, a tokenizer, a template, a licence.
 * @param maxBytes what no such file of a real model needs
 * @returns its bytes; undefined when nothing is there
 * @throws FormatError when it is no regular file or larger; the file system's error when it cannot be read
 */
export async function readSmallFile(path: string, maxBytes: number): Promise<Uint8Array | undefined> {
  try {
    return await withFileSource(path, (source) => {
      if (source.size > maxBytes) {
        throw new FormatError(path, undefined, `expected at most ${maxBytes} bytes, got ${source.size}`);
      }
      return source.read(0, source.size);
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * Runs `use` on an open file and closes it, whatever happens.
 * @returns what `use` returned
 */
export async function withFileSource<T>(path: string, use: (source: FileSource) => Promise<T>): Promise<T> {
  const source = await openFileSource(path);
  try {
    return await use(source);
  } finally {
    await source.close();
  }
}
