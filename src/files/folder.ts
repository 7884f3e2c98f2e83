/**
 * The interface behind which files are: `NodeFolder` on Node's file system, `MemoryFolder` in memory. A browser's
 * folders can implement it too.
 */
import type { ByteSource } from '../format/byte-source.ts';
import { FormatError } from '../format/format-error.ts';
import { parseJson } from '../format/parse-json.ts';

/** What is in a folder. Links are not followed: they are `other`. */
export interface FolderEntry {
  readonly name: string;
  readonly kind: 'file' | 'folder' | 'other';
}

/** What the engine opens a file as. */
export interface Sized {
  readonly size: number;
  /** Closes the file. */
  close(): void;
}

/** A file to read from, at any place and in any order. */
export interface FileSource extends ByteSource {
  /**
   * Fills `target` with the bytes from `offset` on: a reader that reuses one buffer spares the page faults of fresh ones,
   * which cost as much as the copy itself.
   * @throws as `read`
   */
  readInto(offset: number, target: Uint8Array): Promise<void>;
  /** The whole file, where it is in memory; not to be written to. */
  readonly bytes?: Uint8Array;
  /**
   * Where the file has a path: opens it there by a function of the engine, which may map it.
   * @throws FormatError when another file is at the path than the one that this source read before
   */
  openByPath?<T extends Sized>(open: (path: string) => T): T;
  /** Closes the file. A later read opens it again, and throws FormatError when another file is in its place. */
  close(): Promise<void>;
}

/** A file that is being written. */
export interface FileWriter {
  /** Writes all of `bytes`, `at` bytes into the file; gaps become zeros. `bytes` may be reused once it is done. */
  write(bytes: Uint8Array, at: number): void | Promise<void>;
  /** Makes the file `size` bytes long, with zeros at its end. */
  truncate(size: number): Promise<void>;
  /** Stores on the disk what was written so far. */
  sync(): Promise<void>;
}

/** A file's content: text as UTF-8, bytes, or what a function writes into the empty file. */
export type FileContent = string | Uint8Array | ((file: FileWriter) => Promise<void>);

/** A folder that checkpoints and runs are read from and written to. Names in it are plain, without a path. */
export interface Folder {
  /** What errors call the folder. */
  readonly name: string;
  /** Where it lies on Node's file system; undefined elsewhere. */
  readonly path?: string;
  /** What errors call a file of it, there or not. */
  nameOf(file: string): string;
  /** Its entries; none when the folder does not exist. */
  list(): Promise<readonly FolderEntry[]>;
  /**
   * Opens a file for reading, of the size that it has now.
   * @throws FormatError for what is no regular file
   * @returns undefined when nothing of that name is there
   */
  open(file: string): Promise<FileSource | undefined>;
  /** Makes the folder, and those it lies in, unless it is there. */
  create(): Promise<void>;
  /** Creates or replaces a file as a whole: after a crash or an error the old file is there, or none. */
  write(file: string, content: FileContent): Promise<void>;
  /** Adds text to the end of a file, which is made when it is not there. */
  append(file: string, text: string): Promise<void>;
  /** A folder in this one, there or not. */
  folder(name: string): Folder;
  /** Removes a file, or a folder with all that is in it; nothing happens when it is not there. */
  remove(name: string): Promise<void>;
  /**
   * Makes the folder `name` with what `fill` puts into an empty one. After a crash there is the old one, the new
   * one, or none.
   * @param options.overwrite whether a folder of that name is replaced; without it that is an error
   */
  replace(
    name: string,
    fill: (folder: Folder) => Promise<void>,
    options?: { readonly overwrite?: boolean },
  ): Promise<void>;
  /**
   * Takes the folder for one writer.
   * @throws FolderInUseError while another has it
   * @returns gives it back
   */
  lock(): Promise<() => void>;
  /**
   * The location of the folder, or of an entry of it (there or not), with all links resolved: equal for equal
   * places, with `/` after each folder.
   */
  location(name?: string): Promise<string>;
  /** Bytes that can be written to `name` in it, after removing what a killed writer left there. */
  space(name: string): Promise<number>;
}

/** A folder, or with `file` an entry of it. */
export interface Place {
  readonly folder: Folder;
  readonly file?: string;
}

/** Another process, or another run of this one, works in the folder. */
export class FolderInUseError extends Error {
  override readonly name = 'FolderInUseError';
}

/** Whether a location is another one or lies in it. */
export function isInside(inner: string, outer: string): boolean {
  return inner === outer || inner.startsWith(outer.endsWith('/') ? outer : `${outer}/`);
}

/** True for a name that stays in its folder: names in an index or from a caller must not reach other files. */
export function isPlainFileName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !/[/\\\0]/.test(name);
}

/**
 * Runs `use` on an open file and closes it, whatever happens.
 * @returns what `use` returned
 * @throws FormatError when the file is not there
 */
export async function withFile<T>(
  folder: Folder,
  file: string,
  use: (source: FileSource) => Promise<T>,
): Promise<T> {
  const source = await folder.open(file);
  if (source === undefined) {
    throw new FormatError(folder.nameOf(file), undefined, 'expected a file, got nothing there');
  }
  try {
    return await use(source);
  } finally {
    await source.close();
  }
}

/** Of a text file beside the weights: the largest tokenizer.json of known models has 35 MB. */
export const MAX_SIDECAR_BYTES: number = 1 << 26;

/**
 * A file that is read as a whole: a config, a tokenizer, a template, a licence.
 * @param maxBytes what no such file of a real model needs
 * @returns its bytes; undefined when nothing is there
 * @throws FormatError when it is no regular file or larger; the file system's error when it cannot be read
 */
export async function readSmallFile(
  folder: Folder,
  file: string,
  maxBytes: number = MAX_SIDECAR_BYTES,
): Promise<Uint8Array | undefined> {
  const source = await folder.open(file);
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

/** As `readSmallFile`, parsed. @throws FormatError that names the file when it is no JSON */
export async function readSmallJson(folder: Folder, file: string, maxBytes?: number): Promise<unknown> {
  const bytes = await readSmallFile(folder, file, maxBytes);
  return bytes && parseJson(folder.nameOf(file), bytes);
}
