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
  withFile,
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

/** Downloads under way, by the location of the kept file: loaders in one process share them. */
const underWay = new Map<string, Promise<void>>();

export class CachedFolder extends ReadOnlyFolder {
  readonly #remote: Folder;
  readonly #kept: Folder;
  readonly #key: string;
  readonly #onProgress: (done: number, total: number) => void;
  readonly #signal: AbortSignal | undefined;
  #index: Promise<Index> | undefined;
  #written: Promise<void> = Promise.resolve();

  /**
   * @param store the folder of all kept folders
   * @param url the address of `remote`
   * @param onProgress called with the bytes of a file of weights as they are kept
   * @param signal that of `remote`
   */
  constructor(
    remote: Folder,
    store: Folder,
    url: URL,
    onProgress: (done: number, total: number) => void = () => {},
    signal?: AbortSignal,
  ) {
    super(remote.name, 'an address');
    this.#remote = remote;
    this.#key = keyOf(url);
    this.#kept = store.folder(this.#key);
    this.#onProgress = onProgress;
    this.#signal = signal;
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
    if (source === undefined) return undefined;
    await this.#keep(file, source);
    if (!/\.json$/i.test(file) || (await this.#isJson(file))) return this.#kept.open(file);
    // Its reader reports what it is; a tokenizer is read long after the model was opened.
    await this.forget(this.nameOf(file));
    return this.#remote.open(file);
  }

  /** Removes a file that turned out to be wrong, by its name in errors; the next time it is fetched again. */
  async forget(name: string): Promise<void> {
    const index = await this.#read();
    for (const file of Object.keys(index.files)) {
      if (name !== this.nameOf(file) && name !== this.#kept.nameOf(file)) continue;
      delete index.files[file];
      await this.#write(index);
      await this.#kept.remove(file);
    }
  }

  folder(name: string): Folder {
    return this.#remote.folder(name);
  }

  location(name?: string): Promise<string> {
    return this.#remote.location(name);
  }

  /** @throws Error when there is no room; the reason of the signal */
  async #keep(file: string, source: FileSource): Promise<void> {
    const { size } = source;
    const report = WEIGHTS.test(file) ? this.#onProgress : () => {};
    await this.#kept.create();
    const place = await this.#kept.location(file);
    for (let other = underWay.get(place); other !== undefined; other = underWay.get(place)) {
      await source.close();
      await endOf(other, this.#signal);
      if (await this.#isKept(file, size)) return report(size, size);
    }
    const download = this.#download(file, source, report);
    underWay.set(place, download);
    try {
      await download;
    } finally {
      underWay.delete(place);
    }
  }

  async #download(
    file: string,
    source: FileSource,
    report: (done: number, total: number) => void,
  ): Promise<void> {
    const { size } = source;
    const fill = async (out: FileWriter) => {
      let done = 0;
      for await (const part of partsOf(source)) {
        await out.write(part, done);
        done += part.length;
        report(done, size);
      }
      // A loader in another process or tab has kept it meanwhile and may be reading it: replacing it would
      // fail that.
      if (await this.#isKept(file, size)) throw new AlreadyKept();
    };
    try {
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

  async #isJson(name: string): Promise<boolean> {
    const bytes = await withFile(this.#kept, name, (file) => file.read(0, file.size));
    return parsed(bytes) !== undefined;
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

/** Waits for another loader's download, whether it fails or not. @throws the reason of the signal */
function endOf(download: Promise<void>, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal?.reason);
    signal?.addEventListener('abort', abort);
    const end = () => {
      signal?.removeEventListener('abort', abort);
      resolve();
    };
    download.then(end, end);
    if (signal?.aborted) abort();
  });
}
