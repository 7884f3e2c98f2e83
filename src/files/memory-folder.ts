/**
 * A folder in memory, for files that a program made or fetched. A folder in it exists while it holds a file.
 */
import { aBoolean } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { bytesSource } from '../format/byte-source.ts';
import {
  entriesOf,
  type FileContent,
  type FileSource,
  type FileWriter,
  type Folder,
  type FolderEntry,
  FolderInUseError,
} from './folder.ts';

/** Shared by a folder and all folders in it. */
interface Store {
  /** By path from the outermost folder, such as `a/b`. */
  readonly files: Map<string, Uint8Array>;
  /** Paths of the locked folders. */
  readonly locked: Set<string>;
  readonly id: number;
}

const REPLACE_OPTIONS = optionKinds<{ readonly overwrite?: boolean }>({ overwrite: aBoolean });

let stores = 0;

export class MemoryFolder implements Folder {
  readonly name: string;
  #store: Store;
  /** The folder's path, with a `/` at its end; empty for the outermost folder. */
  #prefix = '';

  /** @param name its name in errors @param files content by name, text as UTF-8; bytes are not copied */
  constructor(name = 'memory', files: Readonly<Record<string, string | Uint8Array>> = {}) {
    this.name = name;
    const utf8 = new TextEncoder();
    const bytes = Object.entries(files).map(
      ([path, content]) => [path, typeof content === 'string' ? utf8.encode(content) : content] as const,
    );
    this.#store = { files: new Map(bytes), locked: new Set(), id: ++stores };
  }

  nameOf(file: string): string {
    return this.name === '' ? file : `${this.name}/${file}`;
  }

  async list(): Promise<readonly FolderEntry[]> {
    const paths = [...this.#store.files.keys()].filter((path) => path.startsWith(this.#prefix));
    return entriesOf(paths.map((path) => path.slice(this.#prefix.length)));
  }

  async open(file: string): Promise<FileSource | undefined> {
    const bytes = this.#store.files.get(this.#prefix + file);
    if (bytes === undefined) return undefined;
    const source = bytesSource(this.nameOf(file), bytes);
    return {
      ...source,
      bytes,
      async readInto(offset, target) {
        target.set(await source.read(offset, target.length));
      },
      async close() {},
    };
  }

  async create(): Promise<void> {}

  async write(file: string, content: FileContent): Promise<void> {
    this.#store.files.set(this.#prefix + file, await bytesOf(content));
  }

  async append(file: string, text: string): Promise<void> {
    const before = this.#store.files.get(this.#prefix + file) ?? new Uint8Array(0);
    await this.write(file, async (out) => {
      await out.write(before, 0);
      await out.write(new TextEncoder().encode(text), before.length);
    });
  }

  folder(name: string): Folder {
    const inner = new MemoryFolder(this.nameOf(name));
    inner.#store = this.#store;
    inner.#prefix = `${this.#prefix}${name}/`;
    return inner;
  }

  async remove(name: string): Promise<void> {
    const own = this.#prefix + name;
    for (const path of this.#store.files.keys()) {
      if (path === own || path.startsWith(`${own}/`)) this.#store.files.delete(path);
    }
  }

  async replace(
    name: string,
    fill: (folder: Folder) => Promise<void>,
    options: { readonly overwrite?: boolean } = {},
  ): Promise<void> {
    checkOptions('replace', options, REPLACE_OPTIONS);
    const filled = new MemoryFolder(this.nameOf(name));
    await fill(filled);
    if (!options.overwrite && (await this.list()).some((entry) => entry.name === name)) {
      const what = 'expected nothing there, got a folder that was written there meanwhile';
      throw new Error(`${this.nameOf(name)}: ${what}`);
    }
    await this.remove(name);
    for (const [path, bytes] of filled.#store.files)
      this.#store.files.set(`${this.#prefix}${name}/${path}`, bytes);
  }

  async lock(): Promise<() => void> {
    const { locked } = this.#store;
    if (locked.has(this.#prefix)) {
      throw new FolderInUseError(
        `${this.name}: this process is training there; choose another folder, or wait for it to end`,
      );
    }
    locked.add(this.#prefix);
    return () => {
      locked.delete(this.#prefix);
    };
  }

  async location(name?: string): Promise<string> {
    const own = `memory:${this.#store.id}/${this.#prefix}`;
    return name === undefined ? own.slice(0, -1) : own + name;
  }

  async space(): Promise<number> {
    return Number.POSITIVE_INFINITY;
  }
}

async function bytesOf(content: FileContent): Promise<Uint8Array> {
  if (typeof content === 'string') return new TextEncoder().encode(content);
  if (typeof content !== 'function') return content.slice();
  let bytes = new Uint8Array(0);
  let size = 0;
  const reach = (end: number) => {
    size = Math.max(size, end);
    if (end <= bytes.length) return;
    const grown = new Uint8Array(Math.max(end, 2 * bytes.length));
    grown.set(bytes);
    bytes = grown;
  };
  const writer: FileWriter = {
    write(chunk, at) {
      reach(at + chunk.length);
      bytes.set(chunk, at);
    },
    async truncate(end) {
      reach(end);
      bytes.fill(0, end);
      size = end;
    },
    async sync() {},
  };
  await content(writer);
  return bytes.length === size ? bytes : bytes.slice(0, size);
}
