/**
 * The files beside each other at an address, such as a Hugging Face folder on a web server. A server does not
 * say which files it has: each is asked for by its name, once.
 */
import { FormatError } from '../format/format-error.ts';
import { addressOf, type FetchOptions } from './download.ts';
import type { FileSource, Folder, FolderEntry } from './folder.ts';
import { ReadOnlyFolder } from './read-only-folder.ts';
import { NoSuchFileError, UrlFile } from './url-file.ts';

/** The files of a model's folder, of which `list` gives those that are there. */
const NAMES = [
  'config.json',
  'generation_config.json',
  'model.safetensors',
  'model.safetensors.index.json',
  'adapter_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'tokenizer.model',
  'chat_template.jinja',
  'gqa-train.json',
  'LICENSE',
] as const;

export class UrlFolder extends ReadOnlyFolder {
  readonly #base: URL;
  readonly #options: FetchOptions;
  readonly #main: string | undefined;
  readonly #names: readonly string[];
  readonly #files = new Map<string, Promise<UrlFile | undefined>>();
  /** Whether the server has given a file. */
  #isReached = false;

  /**
   * @param base its path ends with `/`; its query is sent for each file
   * @param main the file that the user asked for, which must be there
   * @param names the files that `list` looks for
   */
  constructor(base: URL, options: FetchOptions = {}, main?: string, names: readonly string[] = NAMES) {
    super(addressOf(base), 'an address');
    this.#base = base;
    this.#options = options;
    this.#main = main;
    this.#names = names;
  }

  nameOf(file: string): string {
    return addressOf(this.#urlOf(file));
  }

  /** @throws Error when the server cannot be reached, or requires a login */
  async list(): Promise<readonly FolderEntry[]> {
    const [first, ...others] = this.#names;
    if (first === undefined) return [];
    // The first alone: a wrong address, or one that needs a token, costs one request.
    const files = [await this.open(first), ...(await all(others.map((name) => this.open(name))))];
    await Promise.all(files.map((file) => file?.close()));
    return this.#names.filter((_, i) => files[i] !== undefined).map((name) => ({ name, kind: 'file' }));
  }

  open(file: string): Promise<FileSource | undefined> {
    let opened = this.#files.get(file);
    if (opened === undefined) {
      opened = this.#open(file);
      this.#files.set(file, opened);
      // An error may pass: the next caller asks again.
      opened.catch(() => this.#files.delete(file));
    }
    return opened;
  }

  folder(name: string): Folder {
    const base = this.#urlOf(name);
    base.pathname += '/';
    return new UrlFolder(base, this.#options, undefined, []);
  }

  async location(name?: string): Promise<string> {
    const { href } = name === undefined ? this.#base : this.#urlOf(name);
    return href.replace(/[?#].*$/, '').replace(/\/$/, '');
  }

  async #open(name: string): Promise<UrlFile | undefined> {
    try {
      const file = await UrlFile.open(this.#urlOf(name), this.#options);
      if (file.type === 'text/html') {
        // Servers of applications answer with their page for what they do not have.
        await file.close();
        if (name !== this.#main) return undefined;
        throw new FormatError(
          file.name,
          0,
          'expected a model, got an HTML page; give the address of its file',
        );
      }
      this.#isReached = true;
      return file;
    } catch (error) {
      if (!(error instanceof NoSuchFileError) || name === this.#main) throw error;
      const { status } = error;
      // Where files may not be listed, a store answers 403 for those that it does not have.
      if (status === 404 || status === 410 || (status === 403 && this.#isReached)) return undefined;
      throw error;
    }
  }

  #urlOf(name: string): URL {
    const url = new URL(encodeURIComponent(name), this.#base);
    url.search = this.#base.search;
    return url;
  }
}

/** As Promise.all, after all have ended. */
async function all<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}
