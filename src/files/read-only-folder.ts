/** What folders share that are only read: those of an address, and lists of files that a user picked. */
import type { FileSource, Folder, FolderEntry } from './folder.ts';

export abstract class ReadOnlyFolder implements Folder {
  readonly name: string;
  readonly #kind: string;

  /** @param kind what it is, in errors */
  constructor(name: string, kind: string) {
    this.name = name;
    this.#kind = kind;
  }

  abstract nameOf(file: string): string;
  abstract list(): Promise<readonly FolderEntry[]>;
  abstract open(file: string): Promise<FileSource | undefined>;
  abstract folder(name: string): Folder;
  abstract location(name?: string): Promise<string>;

  create(): Promise<never> {
    return this.#refuse();
  }

  write(): Promise<never> {
    return this.#refuse();
  }

  append(): Promise<never> {
    return this.#refuse();
  }

  remove(): Promise<never> {
    return this.#refuse();
  }

  replace(): Promise<never> {
    return this.#refuse();
  }

  lock(): Promise<never> {
    return this.#refuse();
  }

  async space(): Promise<number> {
    return 0;
  }

  async #refuse(): Promise<never> {
    throw new Error(`${this.name}: expected a folder to write into, got ${this.#kind}, which is only read`);
  }
}
