/**
 * Folders of Node's file system, and the one file that reads and writes them. Files and folders are there whole or not at all: they
 * are written under a temporary name beside, synced, renamed. What a killed process left under such a name is removed by the next one that
 * writes to the same place.
 */
import { statSync, writeSync } from 'node:fs';
import {
  appendFile,
  type FileHandle,
  mkdir,
  open,
  readdir,
  realpath,
  rename,
  rm,
  stat,
  statfs,
} from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { checkRange } from '../format/byte-source.ts';
import { FormatError } from '../format/format-error.ts';
import type { FileContent, FileSource, Folder, FolderEntry, Place, Sized } from './folder.ts';
import { isRunning, lockFolder } from './node-lock.ts';

const HOST = hostname()
  .replace(/[^\w-]/g, '_')
  .slice(0, 40);

/**
 * Handing so few bytes to a thread would take longer than writing them into the page cache, so that is done in place. Larger writes
 * make Linux look for larger runs of free memory: in a virtual machine 1 MiB at a time took five times as long.
 */
const WRITE_BYTES = 1 << 18;

/** What is at a path: a folder, or a file in its folder. @returns undefined when nothing is there */
export async function findPath(path: string): Promise<Place | undefined> {
  const found = await orNothing(stat(path));
  return found && (found.isDirectory() ? { folder: new NodeFolder(path) } : splitPath(path));
}

/** The folder that something lies in, and its name there. */
export function splitPath(path: string): { readonly folder: NodeFolder; readonly file: string } {
  const name = basename(path);
  if (name === '' || name === '.' || name === '..') {
    const whole = resolve(path);
    return { folder: new NodeFolder(dirname(whole)), file: basename(whole) };
  }
  // Errors call the file as the caller did: `x`, not `./x`.
  const prefix = path.slice(0, path.lastIndexOf(name));
  return { folder: new NodeFolder(dirname(path), prefix), file: name };
}

export class NodeFolder implements Folder {
  readonly name: string;
  readonly path: string;
  readonly #prefix: string;

  /** @param prefix what stands before the names of its files */
  constructor(path: string, prefix: string = /[/\\]$/.test(path) ? path : `${path}${sep}`) {
    this.name = path;
    this.path = path;
    this.#prefix = prefix;
  }

  nameOf(file: string): string {
    return `${this.#prefix}${file}`;
  }

  async list(): Promise<readonly FolderEntry[]> {
    const entries = (await orNothing(readdir(this.path, { withFileTypes: true }))) ?? [];
    return entries
      .map((entry): FolderEntry => {
        const kind = entry.isFile() ? 'file' : entry.isDirectory() ? 'folder' : 'other';
        return { name: entry.name, kind };
      })
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  open(file: string): Promise<FileSource | undefined> {
    return orNothing(NodeFile.open(this.nameOf(file)));
  }

  async create(): Promise<void> {
    await mkdir(this.path, { recursive: true });
  }

  async write(file: string, content: FileContent): Promise<void> {
    await this.#removeLeftovers(file, 'tmp');
    const temporary = this.#temporary(file, 'tmp');
    const handle = await open(temporary, 'wx');
    try {
      try {
        if (typeof content === 'function') await content(writerOf(handle));
        else await handle.writeFile(content);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temporary, this.nameOf(file));
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    await syncFolder(this.path);
  }

  async append(file: string, text: string): Promise<void> {
    await appendFile(this.nameOf(file), text);
  }

  folder(name: string): NodeFolder {
    return new NodeFolder(this.nameOf(name));
  }

  async remove(name: string): Promise<void> {
    await rm(this.nameOf(name), { recursive: true, force: true });
  }

  async replace(
    name: string,
    fill: (folder: NodeFolder) => Promise<void>,
    options: { readonly overwrite?: boolean } = {},
  ): Promise<void> {
    const target = this.nameOf(name);
    const temporary = this.#temporary(name, 'tmp');
    await this.create();
    await this.#removeLeftovers(name, 'tmp');
    await mkdir(temporary);
    try {
      await fill(new NodeFolder(temporary));
      await syncFolder(temporary);
      const old = options.overwrite ? this.#temporary(name, 'old') : undefined;
      // A folder cannot be renamed over another.
      const isMoved = old !== undefined && (await orNothing(rename(target, old).then(() => true)));
      try {
        await rename(temporary, target);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'ENOTEMPTY' || code === 'EEXIST') {
          const what = 'expected nothing there, got a folder that was written there meanwhile';
          throw new Error(`${target}: ${what}`, { cause: error });
        }
        if (isMoved) await rename(old, target);
        throw error;
      }
      await syncFolder(this.path);
      if (isMoved) await rm(old, { recursive: true, force: true });
      await this.#removeLeftovers(name, 'old');
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      throw error;
    }
  }

  async lock(): Promise<() => void> {
    return lockFolder(this.path);
  }

  async location(name?: string): Promise<string> {
    const found = await realPath(resolve(name === undefined ? this.path : this.nameOf(name)));
    return sep === '\\' ? found.replaceAll(sep, '/') : found;
  }

  async space(name: string): Promise<number> {
    await this.#removeLeftovers(name, 'tmp');
    let folder = resolve(this.path);
    while ((await orNothing(stat(folder))) === undefined && dirname(folder) !== folder)
      folder = dirname(folder);
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  }

  /** `.NAME.PID-HOST-UNIQUE.KIND` */
  #temporary(name: string, kind: 'tmp' | 'old'): string {
    const unique = Math.random().toString(36).slice(2, 10);
    return join(this.path, `.${name}.${process.pid}-${HOST}-${unique}.${kind}`);
  }

  /** Removes what writers of `name` left when they were killed: those of this machine whose process is gone. */
  async #removeLeftovers(name: string, kind: 'tmp' | 'old'): Promise<void> {
    const prefix = `.${name}.`;
    const entries = await this.list().catch(() => []); // the write that follows reports what is wrong with the folder
    for (const { name: left } of entries) {
      if (!left.startsWith(prefix) || !left.endsWith(`.${kind}`)) continue;
      const [, pid, host] = /^(\d+)-([\w-]+)-[0-9a-z]+\.\w+$/.exec(left.slice(prefix.length)) ?? [];
      if (host === HOST && !isRunning(Number(pid))) await this.remove(left);
    }
  }
}

/** What tells a file from another one at its path, or from itself after it was written to. */
type Identity = Readonly<Record<'dev' | 'ino' | 'size' | 'mtimeNs', bigint>>;

/** A file of Node's file system: an open handle and its size; nothing is cached. */
class NodeFile implements FileSource {
  readonly name: string;
  readonly size: number;
  readonly #identity: Identity;
  #handle: Promise<FileHandle> | undefined;

  private constructor(path: string, identity: Identity, handle: FileHandle) {
    this.name = path;
    this.size = Number(identity.size);
    this.#identity = identity;
    this.#handle = Promise.resolve(handle);
  }

  static async open(path: string): Promise<NodeFile> {
    const { handle, identity } = await openRegularFile(path);
    return new NodeFile(path, identity, handle);
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    checkRange(this.name, this.size, offset, length);
    const bytes = new Uint8Array(length);
    await this.readInto(offset, bytes);
    return bytes;
  }

  async readInto(offset: number, target: Uint8Array): Promise<void> {
    const { length } = target;
    checkRange(this.name, this.size, offset, length);
    this.#handle ??= this.#openAgain();
    const handle = await this.#handle;
    for (let got = 0; got < length; ) {
      const { bytesRead } = await handle.read(target, got, length - got, offset + got);
      if (bytesRead === 0) {
        const what = `expected ${length - got} more bytes, got the end of the file`;
        throw new FormatError(this.name, offset + got, what);
      }
      got += bytesRead;
    }
  }

  openByPath<T extends Sized>(openFile: (path: string) => T): T {
    const file = openFile(this.name);
    try {
      // After it was opened: what is there now is what was opened, or was put there since.
      const { dev, ino, mtimeNs } = statSync(this.name, { bigint: true });
      this.#check({ dev, ino, mtimeNs, size: BigInt(file.size) });
    } catch (error) {
      file.close();
      throw error;
    }
    return file;
  }

  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.then(
      (opened) => opened.close(),
      () => {}, // the read that failed has said so
    );
  }

  async #openAgain(): Promise<FileHandle> {
    const { handle, identity } = await openRegularFile(this.name);
    try {
      this.#check(identity);
    } catch (error) {
      await handle.close();
      throw error;
    }
    return handle;
  }

  /** @throws FormatError when `found` is not the file that was opened first */
  #check(found: Identity): void {
    const keys = ['dev', 'ino', 'size', 'mtimeNs'] as const;
    if (keys.every((key) => this.#identity[key] === found[key])) return;
    throw new FormatError(
      this.name,
      undefined,
      'expected the file whose header was read, got another one in its place; open the checkpoint again',
    );
  }
}

/** @throws the file system's error when it cannot be opened, FormatError when it is no regular file */
async function openRegularFile(path: string): Promise<{ handle: FileHandle; identity: Identity }> {
  // Before it is opened: opening a pipe waits for its writer, and its bytes cannot be read at random.
  if (!(await stat(path)).isFile()) {
    throw new FormatError(path, undefined, 'expected a regular file, got a pipe, a device or a folder');
  }
  const handle = await open(path, 'r');
  try {
    return { handle, identity: await handle.stat({ bigint: true }) };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function writerOf(handle: FileHandle) {
  return {
    write(bytes: Uint8Array, at: number): void {
      // A single write may take less.
      for (let done = 0; done < bytes.byteLength; ) {
        const length = Math.min(WRITE_BYTES, bytes.byteLength - done);
        done += writeSync(handle.fd, bytes, done, length, at + done);
      }
    },
    truncate: (size: number) => handle.truncate(size),
    sync: () => handle.datasync(),
  };
}

/** The path with the links of what exists of it resolved. */
async function realPath(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch {
    const parent = dirname(path);
    return parent === path ? path : join(await realPath(parent), basename(path));
  }
}

/** Makes a rename itself durable. Windows cannot open a folder, and has no need to. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** What `found` gives; undefined when nothing is at its path. */
async function orNothing<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}
