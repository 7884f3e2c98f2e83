/**
 * The files of a checkpoint in the memory of backends. A file with a path is opened there (the native backend
 * maps it by default), one in memory is copied from. Others (a Blob, an address) can only be read
 * asynchronously: their bytes are fetched first, straight into the backend's memory.
 */
import { describe } from '../arguments/kinds.ts';
import type { Backend, BackendFile } from '../backend/backend.ts';
import { checkFileRange } from '../backend/memory-range.ts';
import { type FileSource, partsOf } from '../files/folder.ts';
import { FormatError } from '../format/format-error.ts';
import { release, retain, type Storage } from '../tensor/storage.ts';

/** Bytes of a file, such as a tensor's. */
export interface FileRange {
  readonly path: string;
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** Gaps up to this size between ranges of one stream are read and dropped; a larger one begins a new one. */
const MAX_GAP_BYTES = 1 << 20;

export class BackendFiles {
  /** See `LoadModelOptions`; set before the first storage is made. */
  useMmap = true;
  readonly #files: ReadonlyMap<string, FileSource>;
  readonly #opened = new Map<Backend, Map<FileSource, BackendFile>>();
  readonly #fetched = new Set<{ owner: Backend; range: FileRange; storage: Storage }>();

  /** @param files by name */
  constructor(files: ReadonlyMap<string, FileSource>) {
    this.#files = files;
  }

  /**
   * Bytes of a file as storage of `backend`; it outlives `close()`.
   * @throws TypeError for bytes that must be fetched first
   */
  storage(backend: Backend, { path, byteOffset, byteLength }: FileRange): Storage {
    const source = this.#files.get(path) as FileSource;
    const file = this.#open(backend, source);
    if (file !== undefined) return file.storage(byteOffset, byteLength);
    for (const { owner, range, storage } of this.#fetched) {
      const start = byteOffset - range.byteOffset;
      const isInside = range.path === path && start >= 0 && start + byteLength <= range.byteLength;
      if (owner === backend && isInside) return backend.view(storage, start, byteLength);
    }
    throw new TypeError(
      `${path}: expected a file with a path or in memory, got one that is read asynchronously; use loadTensorAsync`,
    );
  }

  /**
   * Calls `use` with the index of each range, in the order of the files, while `storage` has its bytes.
   * @param onBytes called with the number of bytes that have come into place
   */
  async whileFetched(
    backend: Backend,
    ranges: readonly FileRange[],
    use: (index: number) => void | Promise<void>,
    onBytes: (bytes: number) => void = () => {},
  ): Promise<void> {
    const names = [...this.#files.keys()];
    const indices = new Map(names.map((name, index) => [name, index]));
    const fileOf = (range: FileRange) => indices.get(range.path) as number;
    const order = ranges
      .map((range, index) => ({ range, index }))
      .sort((a, b) => fileOf(a.range) - fileOf(b.range) || a.range.byteOffset - b.range.byteOffset);
    let stream: RangeStream | undefined;
    try {
      for (const [at, { range, index }] of order.entries()) {
        const source = this.#files.get(range.path) as FileSource;
        if (this.#open(backend, source) !== undefined) {
          await use(index);
          onBytes(range.byteLength);
          continue;
        }
        if (!stream?.reaches(source, range)) {
          await stream?.close();
          stream = new RangeStream(
            source,
            range.byteOffset,
            endOfRun(order.slice(at).map((one) => one.range)),
          );
        }
        const storage = backend.allocate(range.byteLength);
        retain(storage);
        const fetched = { owner: backend, range, storage };
        try {
          await stream.read(range, (bytes, offset) => {
            backend.write(storage, bytes, offset);
            onBytes(bytes.length);
          });
          this.#fetched.add(fetched);
          await use(index);
        } finally {
          this.#fetched.delete(fetched);
          release(storage);
        }
      }
    } finally {
      await stream?.close();
    }
  }

  close(): void {
    for (const files of this.#opened.values()) for (const file of files.values()) file.close();
    this.#opened.clear();
  }

  /** The file as the backend opens it, once per backend; undefined when it must be fetched. */
  #open(backend: Backend, source: FileSource): BackendFile | undefined {
    let files = this.#opened.get(backend);
    if (files === undefined) {
      files = new Map();
      this.#opened.set(backend, files);
    }
    let file = files.get(source);
    if (file === undefined) {
      file = source.openByPath?.((at) => backend.openFile(at, this.useMmap)) ?? fileInMemory(backend, source);
      if (file !== undefined) files.set(source, file);
    }
    return file;
  }
}

/** Ranges of one file, read in its order. */
class RangeStream {
  readonly #source: FileSource;
  readonly #end: number;
  readonly #parts: AsyncGenerator<Uint8Array>;
  #position: number;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(source: FileSource, start: number, end: number) {
    this.#source = source;
    this.#position = start;
    this.#end = end;
    this.#parts = partsOf(source, start, end - start);
  }

  reaches(source: FileSource, { byteOffset, byteLength }: FileRange): boolean {
    return source === this.#source && byteOffset >= this.#position && byteOffset + byteLength <= this.#end;
  }

  /** Calls `use` with the bytes of the range, part by part, each with its offset in the range. */
  async read(
    { byteOffset, byteLength }: FileRange,
    use: (bytes: Uint8Array, offset: number) => void,
  ): Promise<void> {
    while (this.#position < byteOffset) await this.#take(byteOffset - this.#position);
    for (let done = 0; done < byteLength; ) {
      const bytes = await this.#take(byteLength - done);
      use(bytes, done);
      done += bytes.length;
    }
  }

  async close(): Promise<void> {
    await this.#parts.return(undefined);
  }

  async #take(length: number): Promise<Uint8Array> {
    while (this.#rest.length === 0) {
      const { done, value } = await this.#parts.next();
      if (done) {
        const what = `expected ${this.#end - this.#position} more bytes, got the end of the file`;
        throw new FormatError(this.#source.name, this.#position, what);
      }
      this.#rest = value;
    }
    const bytes = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(bytes.length);
    this.#position += bytes.length;
    return bytes;
  }
}

/** Where a stream that begins with the first range ends: at the first large gap, or at the file's last range. */
function endOfRun(ranges: readonly FileRange[]): number {
  const [{ path, byteOffset }] = ranges;
  let end = byteOffset;
  for (const range of ranges) {
    if (range.path !== path || range.byteOffset > end + MAX_GAP_BYTES) break;
    end = Math.max(end, range.byteOffset + range.byteLength);
  }
  return end;
}

/** A file in memory as a backend file, whose storage is a copy of its bytes; undefined for others. */
function fileInMemory(backend: Backend, { name, size, bytes }: FileSource): BackendFile | undefined {
  if (bytes === undefined) return undefined;
  if (!(bytes instanceof Uint8Array && bytes.length === size)) {
    const got = bytes instanceof Uint8Array ? `bytes of length ${bytes.length}` : describe(bytes);
    throw new TypeError(`${name}: expected all ${size} bytes in bytes, got ${got}`);
  }
  return {
    size,
    storage(byteOffset, byteLength) {
      checkFileRange(name, size, byteOffset, byteLength);
      const storage = backend.allocate(byteLength);
      backend.write(storage, bytes.subarray(byteOffset, byteOffset + byteLength));
      return storage;
    },
    close() {},
  };
}
