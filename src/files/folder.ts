/**
 * The interface for folders and files: `NodeFolder` implements it on Node's file system, `MemoryFolder` in
 * memory. A browser's folders can implement it too.
 */
import { describe } from '../arguments/kinds.ts';
import type { ByteSource } from '../format/byte-source.ts';
import { FormatError } from '../format/format-error.ts';
import { parseJson } from '../format/parse-json.ts';

/** A file or folder in a folder. Links are not followed: they are `other`. */
export interface FolderEntry {
  readonly name: string;
  readonly kind: 'file' | 'folder' | 'other';
}

/** A file as the `open` of `FileSource.openByPath` returns it. */
export interface OpenedFile {
  readonly size: number;
  /** Closes the file. */
  close(): void;
}

/** A file to read from, at any offset and in any order. */
export interface FileSource extends ByteSource {
  /**
   * Fills `target` with the bytes from `offset` on. Reusing one buffer saves the page faults of new ones,
   * which cost as much as the copy itself.
   * @throws as `read`
   */
  readInto(offset: number, target: Uint8Array): Promise<void>;
  /**
   * Reads `length` bytes from `offset` on, in parts; for a source that gives many bytes faster in one go than
   * by many reads.
   * @throws as `read`
   */
  stream?(offset: number, length: number): AsyncIterable<Uint8Array>;
  /** All bytes of a file that is in memory; they must not be written to. */
  readonly bytes?: Uint8Array;
  /**
   * Calls `open`, which may map the file, with the file's path; undefined for a file without a path.
   * @throws FormatError when the file has been replaced since it was opened
   */
  openByPath?<T extends OpenedFile>(open: (path: string) => T): T;
  /** Closes the file. A later read opens it again, and throws FormatError when the file has been replaced. */
  close(): Promise<void>;
}

/** A file that is being written. */
export interface FileWriter {
  /** Writes `bytes` from offset `at` on; gaps become zeros. `bytes` may be reused afterwards. */
  write(bytes: Uint8Array, at: number): void | Promise<void>;
  /** Sets the file's length, with zeros at its end where it becomes longer. */
  truncate(size: number): Promise<void>;
  /** Stores on the disk all that was written before. */
  sync(): Promise<void>;
}

/** A file's content: text as UTF-8, bytes, or a function that writes into the empty file. */
export type FileContent = string | Uint8Array | ((file: FileWriter) => Promise<void>);

/**
 * A folder of checkpoints or training runs, which need not exist. The names of its entries are plain, not
 * paths.
 */
export interface Folder {
  /** The name of the folder in errors, such as its path. */
  readonly name: string;
  /** Its path on Node's file system; undefined for other folders. */
  readonly path?: string;
  /** The name of one of its files in errors; the file need not exist. */
  nameOf(file: string): string;
  /** Its entries, by name; none when the folder does not exist. */
  list(): Promise<readonly FolderEntry[]>;
  /**
   * Opens a file for reading. Its size is fixed from then on.
   * @throws FormatError for a pipe, a device or a folder
   * @returns undefined when there is no such file
   */
  open(file: string): Promise<FileSource | undefined>;
  /** Makes the folder, and its parents, unless it exists. @throws Error when a file is in its place */
  create(): Promise<void>;
  /** Creates or replaces a file. After a crash or an error the old file is unchanged. */
  write(file: string, content: FileContent): Promise<void>;
  /** Adds text to the end of a file, which is made unless it exists. */
  append(file: string, text: string): Promise<void>;
  /** A folder in this one, which need not exist. */
  folder(name: string): Folder;
  /** Removes a file, or a folder with its content; does nothing when there is none. */
  remove(name: string): Promise<void>;
  /**
   * Makes the folder `name` with the files that `fill` writes. After a crash there is the old folder, the new
   * one, or none.
   * @param options.overwrite whether to replace a folder of that name; default false: it is an error
   */
  replace(
    name: string,
    fill: (folder: Folder) => Promise<void>,
    options?: { readonly overwrite?: boolean },
  ): Promise<void>;
  /**
   * Locks the folder, for one writer at a time.
   * @throws Error while it is locked
   * @returns a function that unlocks it
   */
  lock(): Promise<() => void>;
  /**
   * The absolute path of the folder, or of an entry (which need not exist), with all links resolved and `/`
   * as the separator. Two places are the same when their locations are equal.
   */
  location(name?: string): Promise<string>;
  /** Free bytes on its disk, after removing what a killed process left of writing `name`. */
  space(name: string): Promise<number>;
}

/** A folder, or with `file` an entry of it, which need not exist. */
export interface Place {
  readonly folder: Folder;
  readonly file?: string;
}

/** The folder is locked by another process, or by another run of this one. */
export class FolderInUseError extends Error {
  override readonly name = 'FolderInUseError';
}

/** Whether a location lies in another one or is the same. */
export function isInside(inner: string, outer: string): boolean {
  return inner === outer || inner.startsWith(outer.endsWith('/') ? outer : `${outer}/`);
}

/**
 * Whether a name is not a path: names in an index, or from a caller, must not reach files of other folders.
 */
export function isPlainFileName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !/[/\\\0]/.test(name);
}

/**
 * Opens a file for the time of `use`.
 * @throws FormatError when there is no such file
 * @returns what `use` returned
 */
export async function withFile<T>(
  folder: Folder,
  file: string,
  use: (source: FileSource) => Promise<T>,
): Promise<T> {
  const source = await opened(folder, file);
  if (source === undefined) {
    throw new FormatError(folder.nameOf(file), undefined, 'expected a file, got nothing there');
  }
  try {
    return await use(source);
  } finally {
    await source.close();
  }
}

/** Bytes read at a time from a file that does not stream. */
const PART_BYTES = 1 << 22;

/** The bytes of a file from `offset` on, in its order, in parts: as it streams them, else by reads. */
export async function* partsOf(
  file: FileSource,
  offset: number = 0,
  length: number = file.size - offset,
): AsyncGenerator<Uint8Array> {
  if (file.stream !== undefined) {
    yield* file.stream(offset, length);
    return;
  }
  const end = offset + length;
  for (let at = offset; at < end; at += PART_BYTES) yield file.read(at, Math.min(PART_BYTES, end - at));
}

/** The entries of a folder of files by path, by name. */
export function entriesOf(paths: Iterable<string>): readonly FolderEntry[] {
  const found = new Map<string, FolderEntry>();
  for (const path of paths) {
    const [name, below] = path.split('/');
    found.set(name, { name, kind: below === undefined ? 'file' : 'folder' });
  }
  return [...found.values()].sort(byName);
}

/** The order of `Folder.list`. */
export function byName(a: FolderEntry, b: FolderEntry): number {
  return a.name < b.name ? -1 : 1;
}

/** As `folder.open`, which a program may implement. @throws TypeError when that gives something else */
async function opened(folder: Folder, file: string): Promise<FileSource | undefined> {
  const source = await folder.open(file);
  if (source === undefined || typeof source?.read === 'function') return source;
  const expected = 'expected open() of the folder to give a file or undefined';
  throw new TypeError(`${folder.nameOf(file)}: ${expected}, got ${describe(source)}`);
}

/** The largest file that is read as a whole. The largest tokenizer.json of known models has 35 MB. */
const MAX_SMALL_FILE_BYTES = 1 << 26;

/**
 * Reads a file as a whole: a config, a tokenizer, a template, a licence.
 * @param maxBytes more than any such file of a real model has; default 64 MiB
 * @throws FormatError when it is no regular file or larger; the file system's error when it cannot be read
 * @returns its bytes; undefined when there is no such file
 */
export async function readSmallFile(
  folder: Folder,
  file: string,
  maxBytes: number = MAX_SMALL_FILE_BYTES,
): Promise<Uint8Array | undefined> {
  const source = await opened(folder, file);
  if (source === undefined) return undefined;
  try {
    if (source.size <= maxBytes) return await source.read(0, source.size);
    throw new FormatError(source.name, undefined, `expected at most ${maxBytes} bytes, got ${source.size}`);
  } finally {
    await source.close();
  }
}

/** As `readSmallFile`, as text. */
export async function readSmallText(
  folder: Folder,
  file: string,
  maxBytes?: number,
): Promise<string | undefined> {
  const bytes = await readSmallFile(folder, file, maxBytes);
  return bytes && new TextDecoder().decode(bytes);
}

/** As `readSmallFile`, parsed. @throws FormatError when it is no JSON */
export async function readSmallJson(folder: Folder, file: string, maxBytes?: number): Promise<unknown> {
  const bytes = await readSmallFile(folder, file, maxBytes);
  return bytes && parseJson(folder.nameOf(file), bytes);
}
