/** A folder of `Blob`s and `File`s, such as those that a user picked in a page or dropped there. */
import { checkRange } from '../format/byte-source.ts';
import { entriesOf, type FileSource, type Folder, type FolderEntry } from './folder.ts';
import { ReadOnlyFolder } from './read-only-folder.ts';

let folders = 0;

export class BlobFolder extends ReadOnlyFolder {
  /** By path in the folder. */
  readonly #blobs: ReadonlyMap<string, Blob>;
  readonly #location: string;

  /** @param blobs by path, such as `config.json` */
  constructor(name: string, blobs: ReadonlyMap<string, Blob>, location: string = `files:${++folders}`) {
    super(name, 'a list of files');
    this.#blobs = blobs;
    this.#location = location;
  }

  /**
   * The files of a list, which are in a folder where they have a `webkitRelativePath`.
   * @throws RangeError when two have the same path
   */
  static of(files: readonly Blob[]): BlobFolder {
    const paths = files.map(pathOf);
    // A picked folder is the first part of all paths.
    const [top] = paths[0].split('/');
    const isInTop = paths.every((path) => path.startsWith(`${top}/`));
    const blobs = new Map<string, Blob>();
    paths.forEach((path, i) => {
      const own = isInTop ? path.slice(top.length + 1) : path;
      if (blobs.has(own))
        throw new RangeError(`${path}: expected one file of this name, got two in the list`);
      blobs.set(own, files[i]);
    });
    return new BlobFolder(isInTop ? top : 'files', blobs);
  }

  nameOf(file: string): string {
    return this.name === '' ? file : `${this.name}/${file}`;
  }

  async list(): Promise<readonly FolderEntry[]> {
    return entriesOf(this.#blobs.keys());
  }

  async open(file: string): Promise<FileSource | undefined> {
    const blob = this.#blobs.get(file);
    return blob && blobFile(this.nameOf(file), blob);
  }

  folder(name: string): Folder {
    const inner = [...this.#blobs].filter(([path]) => path.startsWith(`${name}/`));
    const blobs = new Map(inner.map(([path, blob]) => [path.slice(name.length + 1), blob]));
    return new BlobFolder(this.nameOf(name), blobs, `${this.#location}/${name}`);
  }

  async location(name?: string): Promise<string> {
    return name === undefined ? this.#location : `${this.#location}/${name}`;
  }
}

/** The name of a File; `blob` for a Blob, which has none. */
export function blobName(blob: Blob): string {
  return 'name' in blob && typeof blob.name === 'string' && blob.name !== '' ? blob.name : 'blob';
}

/** A blob as a file to read from. */
export function blobFile(name: string, blob: Blob): FileSource {
  const bytesAt = async (offset: number, length: number): Promise<Uint8Array> => {
    checkRange(name, blob.size, offset, length);
    try {
      return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
    } catch (cause) {
      // A File on a disk that has changed or is gone since it was picked.
      throw new Error(`${name}: cannot be read: ${(cause as Error).message}; pick the file again`, { cause });
    }
  };
  return {
    name,
    size: blob.size,
    read: bytesAt,
    async readInto(offset, target) {
      target.set(await bytesAt(offset, target.length));
    },
    async close() {},
  };
}

function pathOf(file: Blob): string {
  const { webkitRelativePath: path } = file as { webkitRelativePath?: unknown };
  return typeof path === 'string' && path !== '' ? path : blobName(file);
}
