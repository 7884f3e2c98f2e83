/**
 * A browser's directory handle over memory, with the standard's errors: files are replaced when their writer
 * is closed.
 */
import type { DirectoryHandle, FileHandle } from '../../src/files/handle-folder.ts';

const failure = (name: string) => new DOMException(`a ${name} of the fake`, name);

class FakeFile implements FileHandle {
  readonly kind = 'file';
  readonly name: string;
  content: Uint8Array<ArrayBuffer> = new Uint8Array(0);

  constructor(name: string) {
    this.name = name;
  }

  async getFile(): Promise<File> {
    return new File([this.content], this.name);
  }

  async createWritable(
    options: { readonly keepExistingData?: boolean } = {},
  ): ReturnType<FileHandle['createWritable']> {
    let bytes = options.keepExistingData ? this.content.slice() : new Uint8Array(0);
    const resize = (size: number) => {
      const changed = new Uint8Array(size);
      changed.set(bytes.subarray(0, size));
      bytes = changed;
    };
    return {
      write: async ({ position, data }: { position: number; data: Uint8Array<ArrayBuffer> }) => {
        if (position + data.length > bytes.length) resize(position + data.length);
        bytes.set(data, position);
      },
      truncate: async (size: number) => resize(size),
      close: async () => {
        this.content = bytes;
      },
      abort: async () => {},
    };
  }
}

export class FakeDirectory implements DirectoryHandle {
  readonly kind = 'directory';
  readonly name: string;
  readonly entries: Map<string, FakeDirectory | FakeFile> = new Map();

  constructor(name: string) {
    this.name = name;
  }

  async *values(): AsyncGenerator<FakeDirectory | FakeFile> {
    yield* this.entries.values();
  }

  async getFileHandle(name: string, options: { readonly create?: boolean } = {}): Promise<FakeFile> {
    const found = this.#entry(name);
    if (found instanceof FakeFile) return found;
    if (found !== undefined) throw failure('TypeMismatchError');
    if (!options.create) throw failure('NotFoundError');
    const made = new FakeFile(name);
    this.entries.set(name, made);
    return made;
  }

  async getDirectoryHandle(
    name: string,
    options: { readonly create?: boolean } = {},
  ): Promise<FakeDirectory> {
    const found = this.#entry(name);
    if (found instanceof FakeDirectory) return found;
    if (found !== undefined) throw failure('TypeMismatchError');
    if (!options.create) throw failure('NotFoundError');
    const made = new FakeDirectory(name);
    this.entries.set(name, made);
    return made;
  }

  async removeEntry(name: string, options: { readonly recursive?: boolean } = {}): Promise<void> {
    const found = this.#entry(name);
    if (found === undefined) throw failure('NotFoundError');
    if (found instanceof FakeDirectory && found.entries.size > 0 && !options.recursive) {
      throw failure('InvalidModificationError');
    }
    this.entries.delete(name);
  }

  async resolve(other: DirectoryHandle): Promise<readonly string[] | null> {
    if (other === this) return [];
    for (const [name, entry] of this.entries) {
      const below = entry instanceof FakeDirectory ? await entry.resolve(other) : null;
      if (below !== null) return [name, ...below];
    }
    return null;
  }

  #entry(name: string): FakeDirectory | FakeFile | undefined {
    if (/[/\\]/.test(name) || name === '' || name === '.' || name === '..')
      throw new TypeError('Name is not allowed');
    return this.entries.get(name);
  }
}
