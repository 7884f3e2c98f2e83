/**
 * A folder of an address whose files are kept in another folder: the browser's own storage (OPFS) or one that
 * the program names. A kept file is complete; it is used without a request.
 */
import {
  type FileSource,
  type FileWriter,
  type Folder,
  type FolderEntry,
  partsOf,
  readSmallFile,
} from './folder.ts';
import { ReadOnlyFolder } from './read-only-folder.ts';

/** The file in each kept folder that says what the server has. */
export const INDEX = 'gqa-cache.json';
const WEIGHTS = /\.(gguf|safetensors)$/i;

interface Index {
  readonly key: string;
  /** Sizes by name; null for a file that the server does not have. */
  readonly files: Record<string, number | null>;
  /** Whether `files` has all that the folder would list. */
  isListed: boolean;
}

/** Ends the writing of a file that is no longer needed. */
class AlreadyKept extends Error {}

export class CachedFolder extends ReadOnlyFolder {
  readonly #remote: Folder;
  readonly #kept: Folder;
  readonly #key: string;
  readonly #onProgress: (done: number, total: number) => void;
  #index: Promise<Index> | undefined;
  #written: Promise<void> = Promise.resolve();

  /**
   * @param store the folder of all kept folders
   * @param url the address of `remote`
   * @param onProgress called with the bytes of a file of weights as they are kept
   */
  constructor(
    remote: Folder,
    store: Folder,
    url: URL,
    onProgress: (done: number, total: number) => void = () => {},
  ) {
    super(remote.name, 'an address');
    this.#remote = remote;
    this.#key = keyOf(url);
    this.#kept = store.folder(this.#key);
    this.#onProgress = onProgress;
  }

  nameOf(file: string): string {
    return this.#remote.nameOf(file);
  }

  /** Whether the weights of a model are kept. */
  async hasWeights(): Promise<boolean> {
    const { files } = await this.#read();
    return Object.keys(files).some((name) => WEIGHTS.test(name) && files[name] !== null);
  }

  async list(): Promise<readonly FolderEntry[]> {
    const index = await this.#read();
    if (!index.isListed) {
      const found = await this.#remote.list();
      for (const { name } of found) {
        const file = await this.#remote.open(name);
        if (file !== undefined) index.files[name] ??= file.size;
        await file?.close();
      }
      index.isListed = true;
    }
    const names = Object.keys(index.files).filter((name) => index.files[name] !== null);
    return names.sort().map((name) => ({ name, kind: 'file' }));
  }

  async open(file: string): Promise<FileSource | undefined> {
    const index = await this.#read();
    const known = index.files[file];
    if (known === null) return undefined;
    if (known !== undefined) {
      const kept = await this.#kept.open(file);
      if (kept?.size === known) return kept;
      await kept?.close();
    }
    const source = await this.#remote.open(file);
    index.files[file] = source?.size ?? null;
    // Written first, so that what a killed process leaves counts as part of the cache.
    await this.#write(index);
    if (source !== undefined) await this.#keep(file, source);
    return source && this.#kept.open(file);
  }

  folder(name: string): Folder {
    return this.#remote.folder(name);
  }

  location(name?: string): Promise<string> {
    return this.#remote.location(name);
  }

  /** @throws Error when there is no room */
  async #keep(file: string, source: FileSource): Promise<void> {
    const { size } = source;
    const report = WEIGHTS.test(file) ? this.#onProgress : () => {};
    const fill = async (out: FileWriter) => {
      let done = 0;
      for await (const part of partsOf(source)) {
        await out.write(part, done);
        done += part.length;
        report(done, size);
      }
      // Another loader has kept it meanwhile and may be reading it: replacing it would fail that.
      if (await this.#isKept(file, size)) throw new AlreadyKept();
    };
    try {
      await this.#kept.create();
      const free = await this.#kept.space(file);
      if (free < size) {
        const what = `expected ${size} bytes of free space in the cache, got ${free}`;
        throw new Error(`${source.name}: ${what}; clearModelCache() empties it`);
      }
      await this.#kept.write(file, fill);
    } catch (error) {
      if (!(error instanceof AlreadyKept)) throw error;
    } finally {
      await source.close();
    }
  }

  /** What is kept. Without weights it does not count: what the server lacks then may be an error of its own. */
  #read(): Promise<Index> {
    this.#index ??= this.#readOnce();
    return this.#index;
  }

  async #readOnce(): Promise<Index> {
    const none: Index = { key: this.#key, files: Object.create(null), isListed: false };
    const bytes = await readSmallFile(this.#kept, INDEX);
    const found = bytes && (parsed(bytes) as Partial<Index> | null);
    if (found?.key !== this.#key || typeof found.files !== 'object') return none;
    const files = Object.assign(none.files, found.files);
    const weights = Object.keys(files).filter((name) => WEIGHTS.test(name) && files[name] !== null);
    const kept = await Promise.all(weights.map((name) => this.#isKept(name, files[name])));
    if (!kept.includes(true)) return { ...none, files: Object.create(null) };
    return { ...none, files, isListed: found.isListed === true };
  }

  async #isKept(name: string, size: number | null): Promise<boolean> {
    const file = await this.#kept.open(name);
    await file?.close();
    return file !== undefined && file.size === size;
  }

  /** Writes the index after those before it. */
  async #write(index: Index): Promise<void> {
    const before = this.#written;
    this.#written = before.then(async () => {
      await this.#kept.create();
      await this.#kept.write(INDEX, JSON.stringify(index));
    });
    await this.#written;
  }
}

/**
 * The name of the kept folder: of an address without its query, which can hold a signature, and a hash
 * (FNV-1a) of the whole.
 */
function keyOf({ href, host, pathname }: URL): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(href)) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  }
  const readable = `${host}${pathname}`.replace(/[^\w.-]+/g, '_').slice(0, 80);
  return `${readable}-${hash.toString(16)}`;
}

function parsed(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
}
