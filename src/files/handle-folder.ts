/**
 * A folder of the browser: one that a user picked (`showDirectoryPicker`), or of the page's own storage
 * (`navigator.storage.getDirectory`). Files are written to a copy, which replaces the file when it is closed.
 *
 * Source: File System standard (https://fs.spec.whatwg.org).
 */
import { blobFile } from './blob-folder.ts';
import {
  byName,
  type FileContent,
  type FileSource,
  type FileWriter,
  type Folder,
  type FolderEntry,
  FolderInUseError,
  partsOf,
  withFile,
} from './folder.ts';

/** The parts of the browser's `FileSystemFileHandle` that are used. */
export interface FileHandle {
  readonly kind: 'file';
  readonly name: string;
  /** The file's content now. */
  getFile(): Promise<Blob>;
  /** Opens a copy to write to, which replaces the file when it is closed. */
  createWritable(options?: { readonly keepExistingData?: boolean }): Promise<WritableFile>;
}

interface WritableFile {
  write(data: { type: 'write'; position: number; data: Uint8Array<ArrayBuffer> }): Promise<void>;
  truncate(size: number): Promise<void>;
  close(): Promise<void>;
  abort(): Promise<void>;
}

/** The parts of the browser's `FileSystemDirectoryHandle` that are used. */
export interface DirectoryHandle {
  readonly kind: 'directory';
  readonly name: string;
  /** The entries of the folder. */
  values(): AsyncIterable<{ readonly kind: 'file' | 'directory'; readonly name: string }>;
  /** A file in the folder; with `create` it is made unless it exists. */
  getFileHandle(name: string, options?: { readonly create?: boolean }): Promise<FileHandle>;
  /** A folder in the folder; with `create` it is made unless it exists. */
  getDirectoryHandle(name: string, options?: { readonly create?: boolean }): Promise<DirectoryHandle>;
  /** Removes a file, or a folder: `recursive` unless it is empty. */
  removeEntry(name: string, options?: { readonly recursive?: boolean }): Promise<void>;
  /** The names that lead from this folder to the other; null when it is not inside. */
  resolve(other: DirectoryHandle): Promise<readonly string[] | null>;
}

/** All folders that were given, to find out which lies in which. */
const roots: DirectoryHandle[] = [];
const locked = new Set<string>();

export class HandleFolder implements Folder {
  readonly name: string;
  readonly #root: DirectoryHandle;
  /** Names from the root to this folder, which need not exist. */
  readonly #path: readonly string[];

  constructor(root: DirectoryHandle, path: readonly string[] = []) {
    this.#root = root;
    this.#path = path;
    this.name = [root.name, ...path].filter(Boolean).join('/') || 'storage';
    if (!roots.includes(root)) roots.push(root);
  }

  nameOf(file: string): string {
    return `${this.name}/${file}`;
  }

  async list(): Promise<readonly FolderEntry[]> {
    const handle = await ifExists(this.#handle(false));
    const entries: FolderEntry[] = [];
    if (handle === undefined) return entries;
    for await (const { name, kind } of handle.values()) {
      entries.push({ name, kind: kind === 'file' ? 'file' : 'folder' });
    }
    return entries.sort(byName);
  }

  async open(file: string): Promise<FileSource | undefined> {
    const blob = await ifExists(this.#handle(false).then((handle) => fileIn(handle, file)));
    return blob && blobFile(this.nameOf(file), blob);
  }

  async create(): Promise<void> {
    await this.#handle(true);
  }

  async write(file: string, content: FileContent): Promise<void> {
    const handle = await (await this.#handle(false)).getFileHandle(file, { create: true });
    await writing(await handle.createWritable(), async (out) => {
      if (typeof content === 'function') return content(out);
      await out.write(typeof content === 'string' ? new TextEncoder().encode(content) : content, 0);
    });
  }

  async append(file: string, text: string): Promise<void> {
    const handle = await (await this.#handle(false)).getFileHandle(file, { create: true });
    const { size } = await handle.getFile();
    const writable = await handle.createWritable({ keepExistingData: true });
    await writing(writable, async (out) => {
      await out.write(new TextEncoder().encode(text), size);
    });
  }

  folder(name: string): HandleFolder {
    return new HandleFolder(this.#root, [...this.#path, name]);
  }

  async remove(name: string): Promise<void> {
    await ifExists(this.#handle(false).then((handle) => handle.removeEntry(name, { recursive: true })));
  }

  /**
   * As `Folder.replace`, but a browser cannot rename a folder: after a crash the new one can be incomplete.
   * What points to it must be written after it.
   */
  async replace(
    name: string,
    fill: (folder: Folder) => Promise<void>,
    options: { readonly overwrite?: boolean } = {},
  ): Promise<void> {
    const isThere = (await this.list()).some((entry) => entry.name === name);
    if (isThere && !options.overwrite) {
      throw new Error(`${this.nameOf(name)}: expected nothing there, got a folder`);
    }
    const made = this.folder(isThere ? `.${name}.new.tmp` : name);
    const [own] = made.#path.slice(-1);
    try {
      await made.create();
      await fill(made);
      if (isThere) {
        await this.remove(name);
        await copyFiles(made, this.folder(name));
        await this.remove(own);
      }
    } catch (error) {
      await this.remove(own);
      throw error;
    }
  }

  /** Tabs of a page share the lock where the browser has locks (`navigator.locks`). */
  async lock(): Promise<() => void> {
    const location = await this.location();
    const locks = globalThis.navigator?.locks;
    const release = locks ? await lockInBrowser(locks, `gqa ${location}`) : lockHere(location);
    if (release !== undefined) return release;
    const what = 'this page or another tab is training there; choose another folder, or wait for it to end';
    throw new FolderInUseError(`${this.name}: ${what}`);
  }

  async location(name?: string): Promise<string> {
    const own = name === undefined ? this.#path : [...this.#path, name];
    let [best, above]: [number, readonly string[]] = [-1, []];
    for (const [index, root] of roots.entries()) {
      const names = await root.resolve(this.#root);
      if (names !== null && (best < 0 || names.length > above.length)) [best, above] = [index, names];
    }
    return [`handle:${best}`, ...above, ...own].join('/');
  }

  async space(): Promise<number> {
    const storage = globalThis.navigator?.storage;
    const own = await storage?.getDirectory?.().catch(() => undefined);
    const isOwn =
      own !== undefined && (await (own as unknown as DirectoryHandle).resolve(this.#root)) !== null;
    if (!isOwn) return Number.POSITIVE_INFINITY;
    const { quota = Number.POSITIVE_INFINITY, usage = 0 } = await storage.estimate();
    return quota - usage;
  }

  async #handle(create: boolean): Promise<DirectoryHandle> {
    let handle = this.#root;
    for (const name of this.#path) handle = await handle.getDirectoryHandle(name, { create });
    return handle;
  }
}

/** Copies all files of a folder, and of the folders in it. */
async function copyFiles(from: Folder, to: Folder): Promise<void> {
  await to.create();
  for (const { name, kind } of await from.list()) {
    if (kind === 'folder') await copyFiles(from.folder(name), to.folder(name));
    else {
      await withFile(from, name, (source) =>
        to.write(name, async (out) => {
          let at = 0;
          for await (const part of partsOf(source)) {
            await out.write(part, at);
            at += part.length;
          }
        }),
      );
    }
  }
}

async function fileIn(folder: DirectoryHandle, file: string): Promise<Blob> {
  return (await folder.getFileHandle(file)).getFile();
}

async function writing(file: WritableFile, fill: (writer: FileWriter) => Promise<void>): Promise<void> {
  const writer: FileWriter = {
    write: (bytes, position) => file.write({ type: 'write', position, data: plain(bytes) }),
    truncate: (size) => file.truncate(size),
    async sync() {}, // close() stores the file
  };
  try {
    await fill(writer);
    await file.close();
  } catch (error) {
    await file.abort().catch(() => {});
    throw error;
  }
}

/** Browsers do not write bytes of shared memory. */
function plain(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes.buffer instanceof ArrayBuffer ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes);
}

/** The result; undefined when there is nothing of that name. */
async function ifExists<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    const { name } = error as Error;
    if (name === 'NotFoundError' || name === 'TypeMismatchError') return undefined;
    throw error;
  }
}

function lockHere(location: string): (() => void) | undefined {
  if (locked.has(location)) return undefined;
  locked.add(location);
  return () => void locked.delete(location);
}

function lockInBrowser(locks: LockManager, name: string): Promise<(() => void) | undefined> {
  return new Promise((resolve, reject) => {
    locks
      .request(name, { ifAvailable: true }, (lock) => {
        if (lock === null) return resolve(undefined);
        return new Promise<void>((release) => resolve(release));
      })
      .catch(reject);
  });
}
