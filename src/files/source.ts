/** The sources that users name to read a model from: each becomes a folder, or a file of one. */
import { describe, show } from '../arguments/kinds.ts';
import type { OptionKinds } from '../arguments/options.ts';
import { FormatError } from '../format/format-error.ts';
import { isNode } from '../platform/node.ts';
import { BlobFolder, blobName } from './blob-folder.ts';
import { CachedFolder } from './cached-folder.ts';
import { addressOf, type FetchOptions } from './download.ts';
import { type Folder, isPlainFileName, type Place } from './folder.ts';
import type { FileHandle } from './handle-folder.ts';
import { fileUrl, hubToken, hubUrl } from './hub.ts';
import { MemoryFolder } from './memory-folder.ts';
import { aCache, cacheFolder, type ModelCache } from './model-cache.ts';
import { checkPlace, folderOf, isFolder, isHandle, type PlaceLike, placeName } from './place.ts';
import { FETCH_OPTIONS, type FetchModelOptions } from './source-options.ts';
import { NoSuchFileError } from './url-file.ts';
import { UrlFolder } from './url-folder.ts';

/**
 * Where a model is read from:
 *
 * - a path (Node), of a folder or file;
 * - an `http(s):` or `file:` address, as text or `URL`, of a file or of a Hugging Face folder;
 * - `org/name` of a hub, a folder, or `org/name/file.gguf`; on Node a path of that name comes first;
 * - a `Blob` or `File`; a list of `File`s that are a folder, such as `input.files`;
 * - a browser's directory or file handle;
 * - an `ArrayBuffer` or `Uint8Array` with the bytes of a file;
 * - a `Folder`, or a file of one.
 *
 * A model reads files beside its weights again when it is saved, so it keeps the path, address, Blobs or handle.
 * Of bytes in memory it keeps a copy without the weights, so that these are in memory once.
 */
export type ModelSource = PlaceLike | URL | Blob | ArrayLike<Blob> | FileHandle | ArrayBuffer | Uint8Array;

/** How a model is read from its source. */
export interface SourceOptions extends FetchModelOptions {
  /**
   * Keeps the files of an address, so that the next time no request is made: `true` in the browser's own
   * storage (OPFS), or in a folder (in Node, a path). A kept file is not compared with the server's;
   * `clearModelCache` removes it. One that turns out to be no model is removed. Default false.
   */
  readonly cache?: ModelCache;
}

/** Of all functions that take a source. */
export const SOURCE_OPTIONS: OptionKinds<SourceOptions> = { ...FETCH_OPTIONS, cache: aCache };

/** Called as a file of weights is downloaded into the cache. */
export type OnDownload = (done: number, total: number) => void;

/** The name of the file of a source without names. */
const BYTES = 'bytes';

/** The name of a source in errors; of a path the path itself. */
export function sourceName(source: ModelSource): string {
  if (typeof source === 'string') return isAddress(source) ? addressOf(new URL(source)) : source;
  if (source instanceof URL) return source.protocol === 'file:' ? source.href : addressOf(source);
  if (source instanceof Blob) return blobName(source);
  if (isBytes(source)) return BYTES;
  if (isList(source)) return BlobFolder.of(Array.from(source)).name;
  return isFileHandle(source) ? source.name : placeName(source);
}

/**
 * What is at a source; undefined when there is nothing at a path. Whether there is something at an address
 * is found out when its files are opened.
 * @param op the function that errors about `options` name
 * @throws the file system's error for a path that cannot be read
 */
export async function findSource(
  op: string,
  source: ModelSource,
  options: SourceOptions = {},
  onDownload?: OnDownload,
): Promise<Place | undefined> {
  const atUrl = (url: URL) => urlPlace(op, url, options, onDownload);
  if (source instanceof URL || (typeof source === 'string' && isAddress(source))) {
    const url = new URL(source);
    return url.protocol === 'file:' ? pathPlace(op, pathOf(url) as string, atUrl) : atUrl(url);
  }
  if (typeof source === 'string') return pathPlace(op, source, atUrl);
  if (source instanceof Blob) return blobPlace(source);
  if (isBytes(source)) {
    const bytes = source instanceof Uint8Array ? source : new Uint8Array(source);
    return { folder: new MemoryFolder('', { [BYTES]: bytes }), file: BYTES };
  }
  if (isList(source)) {
    const files = Array.from(source);
    return files.length === 1 ? blobPlace(files[0]) : { folder: BlobFolder.of(files) };
  }
  if (isFileHandle(source)) {
    const file = await source.getFile();
    if (file instanceof Blob) return blobPlace(file);
    throw new TypeError(`${op}: expected getFile() of the handle to give a File, got ${describe(file)}`);
  }
  if (isFolder(source) || isHandle(source)) return { folder: folderOf(source) };
  return { folder: folderOf(source.folder), file: source.file };
}

/**
 * @throws TypeError unless `value`, described by `what`, is a source; RangeError for an empty list, and a
 * file that is a path
 */
export function checkSource(op: string, what: string, value: ModelSource): void {
  if (value instanceof Blob || isFileHandle(value)) return;
  if (isBytes(value)) {
    if (!isDetached(value)) return;
    throw new TypeError(`${op}: expected bytes, got a detached ArrayBuffer`);
  }
  if (value instanceof URL || (typeof value === 'string' && isAddress(value))) {
    if (!URL.canParse(value)) throw new TypeError(`${op}: expected an address, got ${show(value)}`);
    const url = new URL(value);
    if (/^https?:$/.test(url.protocol)) return;
    if (url.protocol !== 'file:') {
      throw new TypeError(`${op}: expected an http(s): or file: address, got ${url.protocol}`);
    }
    if (pathOf(url) !== undefined) return;
    throw new TypeError(`${op}: expected the address of a file on this machine, got ${url.href}`);
  }
  if (isList(value)) {
    const files = Array.from(value);
    if (files.length === 0) throw new RangeError(`${op}: expected ${what}, got an empty list of files`);
    const other = files.findIndex((file) => !(file instanceof Blob));
    if (other < 0) return;
    throw new TypeError(`${op}: expected a list of Files, got ${describe(files[other])} in it`);
  }
  checkPlace(op, what, value);
}

/** As `checkSource`, for an option. */
export function aSource(op: string, name: string, value: ModelSource): void {
  checkSource(op, `${name} to be a path`, value);
}

/** The address of a hub id; undefined for what is a path by its form. */
export function hubIdUrl(text: string): URL | undefined {
  const isFile = /^[^/]*\/[^/]*\.(gguf|safetensors|json)$/i.test(text);
  const url = isFile ? undefined : hubUrl(text);
  return url === undefined ? undefined : new URL(url);
}

async function pathPlace(
  op: string,
  path: string,
  atUrl: (url: URL) => Promise<Place>,
): Promise<Place | undefined> {
  const found = isNode ? await (await import('./node-folder.ts')).findPath(path) : undefined;
  if (found !== undefined) return found;
  const url = hubIdUrl(path);
  if (url !== undefined) return atUrl(url);
  if (isNode) return undefined;
  const expected = 'an address with its host, such as new URL(path, location.href), or org/name of a hub';
  throw new TypeError(`${op}: expected ${expected}, got ${show(path)}`);
}

async function urlPlace(
  op: string,
  address: URL,
  { token, signal, cache = false }: SourceOptions,
  onDownload?: OnDownload,
): Promise<Place> {
  if (address.username !== '' || address.password !== '') {
    throw new TypeError(`${op}: expected an address without a password in it, got one; give { token }`);
  }
  const url = fileUrl(address);
  url.hash = '';
  const options: FetchOptions = { token: token ?? hubToken(url), signal };
  const store = cache === false ? undefined : await cacheFolder(op, cache);
  const kept = (remote: UrlFolder, at: URL): CachedFolder | undefined =>
    store && new CachedFolder(remote, store, at, onDownload, signal);
  const base = new URL(url);
  base.pathname = url.pathname.replace(/[^/]*$/, '');
  const whole = new URL(url);
  if (!whole.pathname.endsWith('/')) whole.pathname += '/';
  const asFolder = () => {
    const remote = new UrlFolder(whole, options);
    return { folder: kept(remote, whole) ?? remote };
  };
  if (url.pathname.endsWith('/')) return asFolder();
  const file = decodedName(url);
  const remote = new UrlFolder(base, options, file);
  const beside: Folder = kept(remote, base) ?? remote;
  if (/\.(gguf|safetensors|json)$/i.test(file)) return { folder: beside, file };
  // An address without a file's ending can be that of a folder, without its last slash.
  if (await kept(new UrlFolder(whole, options), whole)?.hasWeights()) return asFolder();
  try {
    await (await beside.open(file))?.close();
    return { folder: beside, file };
  } catch (error) {
    const { status } = error as Partial<NoSuchFileError>;
    if (error instanceof FormatError || (error instanceof NoSuchFileError && status === 404))
      return asFolder();
    throw error;
  }
}

function decodedName(url: URL): string {
  const encoded = url.pathname.replace(/^.*\//, '');
  let name = '';
  try {
    name = decodeURIComponent(encoded);
  } catch {} // not UTF-8
  if (isPlainFileName(name)) return name;
  const what = 'expected an address that ends with a file name';
  throw new RangeError(`${addressOf(url)}: ${what}, got ${show(encoded)}`);
}

function blobPlace(blob: Blob): Place {
  const name = blobName(blob);
  return { folder: new BlobFolder('', new Map([[name, blob]])), file: name };
}

function isFileHandle(value: unknown): value is FileHandle {
  return typeof (value as FileHandle | undefined | null)?.getFile === 'function';
}

function isBytes(value: unknown): value is ArrayBuffer | Uint8Array {
  return value instanceof ArrayBuffer || value instanceof Uint8Array;
}

function isList(value: unknown): value is ArrayLike<Blob> {
  return Array.isArray(value) || typeof (value as FileList | undefined | null)?.item === 'function';
}

/** Whether a text is an address, not a path: `C:/model.gguf` is a path. */
export function isAddress(text: string): boolean {
  return /^[a-z][a-z\d+.-]+:\/\//i.test(text);
}

/** The path of a file: address; undefined for one that names another host, or no path. */
function pathOf({ host, pathname }: URL): string | undefined {
  if (host !== '' || /%(2f|5c|00)/i.test(pathname)) return undefined;
  try {
    const path = decodeURIComponent(pathname);
    return /^\/[A-Za-z]:\//.test(path) ? path.slice(1) : path;
  } catch {
    return undefined; // not UTF-8
  }
}

/** Whether the bytes were moved to another owner. */
function isDetached(bytes: ArrayBuffer | Uint8Array): boolean {
  try {
    new Uint8Array(bytes instanceof Uint8Array ? bytes.buffer : bytes);
    return false;
  } catch {
    return true;
  }
}
