/**
 * Folders of Node's file system. Files and folders are written under a temporary name in the same folder,
 * synced and renamed, so they are never half written. Temporary files of a killed process are removed by the
 * next one that writes the same name.
 */
import type { FileHandle } from 'node:fs/promises';
import { checkRange } from '../format/byte-source.ts';
import { FormatError } from '../format/format-error.ts';
import { node } from '../platform/node.ts';
import {
  byName,
  type FileContent,
  type FileSource,
  type FileWriter,
  type Folder,
  type FolderEntry,
  type OpenedFile,
  type Place,
} from './folder.ts';
import { isRunning, lockFolder } from './node-lock.ts';

/**
 * Bytes per synchronous write. So few are copied into the page cache in less time than a thread takes to
 * start. Larger writes need larger runs of free memory: in a virtual machine, writes of 1 MiB took five times
 * as long.
 */
const WRITE_BYTES = 1 << 18;

/** What exists at a path: a folder, or a file in its folder; undefined when nothing does. */
export async function findPath(path: string): Promise<Place | undefined> {
  const found = await ifExists(node.fs.promises.stat(path));
  return found && (found.isDirectory() ? { folder: new NodeFolder(path) } : splitPath(path));
}

/** The folder of a path, and the name in it. */
export function splitPath(path: string): { readonly folder: NodeFolder; readonly file: string } {
  const name = node.path.basename(path);
  if (name === '' || name === '.' || name === '..') {
    const whole = node.path.resolve(path);
    return { folder: new NodeFolder(node.path.dirname(whole)), file: node.path.basename(whole) };
  }
  // Errors name the file as the caller did: `x`, not `./x`.
  const prefix = path.slice(0, path.lastIndexOf(name));
  return { folder: new NodeFolder(node.path.dirname(path), prefix), file: name };
}

export class NodeFolder implements Folder {
  readonly name: string;
  readonly path: string;
  readonly #prefix: string;

  /** @param prefix comes before the names of its files in errors */
  constructor(path: string, prefix: string = /[/\\]$/.test(path) ? path : `${path}${node.path.sep}`) {
    this.name = path;
    this.path = path;
    this.#prefix = prefix;
  }

  nameOf(file: string): string {
    return `${this.#prefix}${file}`;
  }

  async list(): Promise<readonly FolderEntry[]> {
    const entries = (await ifExists(node.fs.promises.readdir(this.path, { withFileTypes: true }))) ?? [];
    return entries
      .map((entry): FolderEntry => {
        const kind = entry.isFile() ? 'file' : entry.isDirectory() ? 'folder' : 'other';
        return { name: entry.name, kind };
      })
      .sort(byName);
  }

  open(file: string): Promise<FileSource | undefined> {
    return ifExists(NodeFile.open(this.nameOf(file)));
  }

  async create(): Promise<void> {
    await inFolder(this.path, node.fs.promises.mkdir(this.path, { recursive: true }));
  }

  async write(file: string, content: FileContent): Promise<void> {
    const target = this.nameOf(file);
    if ((await ifExists(node.fs.promises.stat(target)))?.isDirectory()) {
      throw new Error(`${target}: expected a file or nothing at this path, got a folder`);
    }
    await this.#removeLeftovers(file, 'tmp');
    const temporary = this.#temporary(file, 'tmp');
    const handle = await inFolder(this.path, node.fs.promises.open(temporary, 'wx'));
    try {
      try {
        if (typeof content === 'function') await content(writerOf(handle, target));
        else await withPath(target, () => handle.writeFile(content));
        await withPath(target, () => handle.sync());
      } finally {
        await handle.close();
      }
      await node.fs.promises.rename(temporary, target);
    } catch (error) {
      await node.fs.promises.rm(temporary, { force: true });
      throw error;
    }
    await syncFolder(this.path);
  }

  async append(file: string, text: string): Promise<void> {
    await node.fs.promises.appendFile(this.nameOf(file), text);
  }

  folder(name: string): NodeFolder {
    return new NodeFolder(this.nameOf(name));
  }

  async remove(name: string): Promise<void> {
    await node.fs.promises.rm(this.nameOf(name), { recursive: true, force: true });
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
    await node.fs.promises.mkdir(temporary);
    try {
      await fill(new NodeFolder(temporary));
      await syncFolder(temporary);
      const old = options.overwrite ? this.#temporary(name, 'old') : undefined;
      // A folder cannot be renamed over another.
      const isMoved =
        old !== undefined && (await ifExists(node.fs.promises.rename(target, old).then(() => true)));
      try {
        await node.fs.promises.rename(temporary, target);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'ENOTEMPTY' || code === 'EEXIST') {
          const what = 'expected nothing there, got a folder that was written there meanwhile';
          throw new Error(`${target}: ${what}`, { cause: error });
        }
        if (isMoved) await node.fs.promises.rename(old, target);
        throw error;
      }
      await syncFolder(this.path);
      if (isMoved) await node.fs.promises.rm(old, { recursive: true, force: true });
      await this.#removeLeftovers(name, 'old');
    } catch (error) {
      await node.fs.promises.rm(temporary, { recursive: true, force: true });
      throw error;
    }
  }

  async lock(): Promise<() => void> {
    return lockFolder(this.path);
  }

  async location(name?: string): Promise<string> {
    const found = await realPath(node.path.resolve(name === undefined ? this.path : this.nameOf(name)));
    return node.path.sep === '\\' ? found.replaceAll(node.path.sep, '/') : found;
  }

  async space(name: string): Promise<number> {
    await this.#removeLeftovers(name, 'tmp');
    let folder = node.path.resolve(this.path);
    while (
      (await ifExists(node.fs.promises.stat(folder))) === undefined &&
      node.path.dirname(folder) !== folder
    )
      folder = node.path.dirname(folder);
    const { bavail, bsize } = await node.fs.promises.statfs(folder);
    return bavail * bsize;
  }

  /** `.NAME.PID-HOST-UNIQUE.KIND` */
  #temporary(name: string, kind: 'tmp' | 'old'): string {
    const unique = Math.random().toString(36).slice(2, 10);
    return node.path.join(this.path, `.${name}.${process.pid}-${hostName()}-${unique}.${kind}`);
  }

  /** Removes temporary files of `name` whose process ran on this machine and has ended. */
  async #removeLeftovers(name: string, kind: 'tmp' | 'old'): Promise<void> {
    const prefix = `.${name}.`;
    const entries = await this.list().catch(() => []); // the write that follows reports the error
    for (const { name: left } of entries) {
      if (!left.startsWith(prefix) || !left.endsWith(`.${kind}`)) continue;
      const [, pid, host] = /^(\d+)-([\w-]+)-[0-9a-z]+\.\w+$/.exec(left.slice(prefix.length)) ?? [];
      if (host === hostName() && !isRunning(Number(pid))) await this.remove(left);
    }
  }
}

/** Differs between two files, and of one file before and after a write. */
type Identity = Readonly<Record<'dev' | 'ino' | 'size' | 'mtimeNs', bigint>>;

/** A file of Node's file system: an open handle and the file's size. */
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

  openByPath<T extends OpenedFile>(openFile: (path: string) => T): T {
    const file = openFile(this.name);
    try {
      // Checked after opening: a replacement before that is found here, a later one does no harm.
      const { dev, ino, mtimeNs } = node.fs.statSync(this.name, { bigint: true });
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
      () => {}, // the failed read has thrown this error
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
  // Checked before opening: opening a pipe waits for its writer.
  if (!(await node.fs.promises.stat(path)).isFile()) {
    throw new FormatError(path, undefined, 'expected a regular file, got a pipe, a device or a folder');
  }
  const handle = await node.fs.promises.open(path, 'r');
  try {
    return { handle, identity: await handle.stat({ bigint: true }) };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** @param target the path of the file, for errors */
function writerOf(handle: FileHandle, target: string): FileWriter {
  return {
    write(bytes, at) {
      // A single write may write less.
      for (let done = 0; done < bytes.byteLength; ) {
        const length = Math.min(WRITE_BYTES, bytes.byteLength - done);
        try {
          done += node.fs.writeSync(handle.fd, bytes, done, length, at + done);
        } catch (error) {
          throw namedError(error, target);
        }
      }
    },
    truncate: (size) => withPath(target, () => handle.truncate(size)),
    sync: () => withPath(target, () => handle.datasync()),
  };
}

async function withPath<T>(path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw namedError(error, path);
  }
}

/** Node's errors about an open file, such as ENOSPC, do not name it. */
function namedError(error: unknown, path: string): unknown {
  const { code, path: named } = error as NodeJS.ErrnoException;
  if (code === undefined || named !== undefined) return error;
  (error as Error).message += ` '${path}'`;
  return Object.assign(error as Error, { path });
}

/** The path with all links in the existing part of it resolved. */
async function realPath(path: string): Promise<string> {
  try {
    return await node.fs.promises.realpath(path);
  } catch {
    const parent = node.path.dirname(path);
    return parent === path ? path : node.path.join(await realPath(parent), node.path.basename(path));
  }
}

/** This machine's name in the names of temporary files. */
function hostName(): string {
  return node.os
    .hostname()
    .replace(/[^\w-]/g, '_')
    .slice(0, 40);
}

/** Makes a rename durable. On Windows a folder cannot be opened, and need not be. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await node.fs.promises.open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The result of a call that needs a folder at `path`. @throws Error when a file or nothing is there instead */
async function inFolder<T>(path: string, result: Promise<T>): Promise<T> {
  try {
    return await result;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new Error(`${path}: expected a folder, got nothing`, { cause: error });
    if (code !== 'EEXIST' && code !== 'ENOTDIR') throw error;
    throw new Error(`${path}: expected a folder, got a file at this path or above it`, { cause: error });
  }
}

/** The result of a call of the file system; undefined when there is nothing at its path. */
async function ifExists<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}
