/**
 * The places that users name: where a model is read from, and where files are written. Node's file system is
 * imported only for a path, so that browsers never load it.
 */
import { describe, show } from '../arguments/kinds.ts';
import { FormatError } from '../format/format-error.ts';
import { isNode } from '../platform/node.ts';
import { BlobFolder, blobName } from './blob-folder.ts';
import { addressOf, type FetchOptions } from './download.ts';
import { type Folder, isPlainFileName, type Place } from './folder.ts';
import { type DirectoryHandle, type FileHandle, HandleFolder } from './handle-folder.ts';
import { fileUrl, hubToken, hubUrl } from './hub.ts';
import { MemoryFolder } from './memory-folder.ts';
import type { SourceOptions } from './source-options.ts';
import { NoSuchFileError } from './url-file.ts';
import { UrlFolder } from './url-folder.ts';

/**
 * Where to write: a path (Node), a folder, a browser's directory handle, or a file of one of these.
 */
export type PlaceLike =
  | string
  | Folder
  | DirectoryHandle
  | { readonly folder: Folder | DirectoryHandle; readonly file?: string };

/**
 * Where a model is read from:
 *
 * - a path (Node), of a folder or file;
 * - an `http(s):` address, as text or `URL`, of a file or of a Hugging Face folder;
 * - `org/name` of a hub, a folder, or `org/name/file.gguf`; on Node a path of that name comes first;
 * - a `Blob` or `File`; a list of `File`s that are a folder, such as `input.files`;
 * - a browser's directory or file handle;
 * - an `ArrayBuffer` or `Uint8Array` with the bytes of a file;
 * - a `Folder`, or a file of one.
 */
export type ModelSource = PlaceLike | URL | Blob | ArrayLike<Blob> | FileHandle | ArrayBuffer | Uint8Array;

/** The name of a source in errors; of a path the path itself. */
export function placeName(source: ModelSource): string {
  if (typeof source === 'string') return isAddress(source) ? addressOf(new URL(source)) : source;
  if (source instanceof URL) return addressOf(source);
  if (source instanceof Blob) return blobName(source);
  if (isBytes(source)) return BYTES;
  if (isList(source)) return BlobFolder.of(Array.from(source)).name;
  if (isFolder(source) || isHandle(source)) return folderOf(source).name;
  if (isFileHandle(source)) return source.name;
  return source.file === undefined ? source.folder.name : folderOf(source.folder).nameOf(source.file);
}

const BYTES = 'bytes';

/**
 * What exists at a place; undefined when there is nothing at a path. Of an address that no request has been
 * made to, it is not known.
 * @throws the file system's error for a path that cannot be read
 */
export async function findPlace(
  source: ModelSource,
  options: SourceOptions = {},
): Promise<Place | undefined> {
  if (typeof source === 'string')
    return isAddress(source) ? atUrl(new URL(source), options) : atPath(source, options);
  if (source instanceof URL) {
    return source.protocol === 'file:' ? atPath(pathOf(source), options) : atUrl(source, options);
  }
  if (source instanceof Blob) return blobPlace(source);
  if (isBytes(source)) {
    const bytes = source instanceof Uint8Array ? source : new Uint8Array(source);
    return { folder: new MemoryFolder('', { [BYTES]: bytes }), file: BYTES };
  }
  if (isList(source)) {
    const files = Array.from(source);
    return files.length === 1 ? blobPlace(files[0]) : { folder: BlobFolder.of(files) };
  }
  if (isFolder(source) || isHandle(source)) return { folder: folderOf(source) };
  if (isFileHandle(source)) return blobPlace(await source.getFile());
  return { folder: folderOf(source.folder), file: source.file };
}

/** The folder to write into, and the name of the file or folder to write there. */
export async function outputPlace(place: PlaceLike): Promise<Required<Place>> {
  if (typeof place === 'string') return (await import('./node-folder.ts')).splitPath(place);
  if (!isFolder(place) && !isHandle(place) && place.file !== undefined) {
    return { folder: folderOf(place.folder), file: place.file };
  }
  throw new TypeError(`${placeName(place)}: expected a name in the folder, got none`);
}

/** The folder at a place; it need not exist. */
export async function folderAt(place: PlaceLike): Promise<Folder> {
  if (typeof place === 'string') return new (await import('./node-folder.ts')).NodeFolder(place);
  if (isFolder(place) || isHandle(place)) return folderOf(place);
  const folder = folderOf(place.folder);
  return place.file === undefined ? folder : folder.folder(place.file);
}

async function atPath(path: string, options: SourceOptions): Promise<Place | undefined> {
  const found = isNode ? await (await import('./node-folder.ts')).findPath(path) : undefined;
  if (found !== undefined) return found;
  const url = hubIdUrl(path);
  return url && atUrl(url, options);
}

/** The address of a hub id; undefined for what is a path by its form. */
export function hubIdUrl(text: string): URL | undefined {
  const isFile = /^[^/]*\/[^/]*\.(gguf|safetensors|json)$/i.test(text);
  const url = isFile ? undefined : hubUrl(text);
  return url === undefined ? undefined : new URL(url);
}

async function atUrl(address: URL, { token, signal }: SourceOptions): Promise<Place> {
  if (address.username !== '' || address.password !== '') {
    throw new TypeError(
      `${addressOf(address)}: expected an address without a password in it; give { token }`,
    );
  }
  const url = fileUrl(address);
  url.hash = '';
  const options: FetchOptions = { token: token ?? hubToken(url), signal };
  if (url.pathname.endsWith('/')) return { folder: new UrlFolder(url, options) };
  const base = new URL(url);
  base.pathname = url.pathname.replace(/[^/]*$/, '');
  const file = decodedName(url);
  const folder = new UrlFolder(base, options, file);
  if (/\.(gguf|safetensors|json)$/i.test(file)) return { folder, file };
  try {
    await (await folder.open(file))?.close();
    return { folder, file };
  } catch (error) {
    // The address of a folder without its last slash.
    const isFolder =
      error instanceof FormatError || (error instanceof NoSuchFileError && error.status === 404);
    if (!isFolder) throw error;
    url.pathname += '/';
    return { folder: new UrlFolder(url, options) };
  }
}

function decodedName(url: URL): string {
  const encoded = url.pathname.replace(/^.*\//, '');
  let name = '';
  try {
    name = decodeURIComponent(encoded);
  } catch {} // not UTF-8
  if (isPlainFileName(name)) return name;
  throw new RangeError(
    `${addressOf(url)}: expected an address that ends with a file name, got ${show(encoded)}`,
  );
}

function blobPlace(blob: Blob): Place {
  const name = blobName(blob);
  return { folder: new BlobFolder('', new Map([[name, blob]])), file: name };
}

/** @throws TypeError unless `value` is a source, described by `what`; RangeError for an empty list */
export function checkSource(op: string, what: string, value: ModelSource): void {
  const isObject = typeof value === 'object' && value !== null;
  if (value instanceof URL || value instanceof Blob || isBytes(value) || isFileHandle(value)) {
    if (!(value instanceof URL) || /^(https?|file):$/.test(value.protocol)) return;
    throw new TypeError(`${op}: expected an http(s): or file: address, got ${value.protocol}`);
  }
  if (isObject && isList(value)) {
    const files = Array.from(value);
    if (files.length === 0) throw new RangeError(`${op}: expected ${what}, got an empty list of files`);
    const other = files.find((file) => !(file instanceof Blob));
    if (other === undefined) return;
    throw new TypeError(`${op}: expected a list of Files, got ${describe(other)} in it`);
  }
  if (typeof value === 'string' && isAddress(value) && !URL.canParse(value)) {
    throw new TypeError(`${op}: expected an address, got ${show(value)}`);
  }
  checkPlace(op, what, value as PlaceLike);
}

/**
 * @throws TypeError unless `value`, described by `what`, is a path that is not empty, a folder, or a file of
 * a folder; RangeError for a file that is a path, which could lead out of the folder
 */
export function checkPlace(op: string, what: string, value: PlaceLike): void {
  if (typeof value === 'string' ? value !== '' : isFolder(value) || isHandle(value)) return;
  const { folder, file } = (typeof value === 'string' ? {} : (value ?? {})) as {
    folder?: unknown;
    file?: unknown;
  };
  if (isFolder(folder) || isHandle(folder)) {
    if (file === undefined || (typeof file === 'string' && isPlainFileName(file))) return;
    const message = `${op}: expected file to be a plain name, not a path, got ${show(file)}`;
    throw typeof file === 'string' ? new RangeError(message) : new TypeError(message);
  }
  throw new TypeError(`${op}: expected ${what}, got ${value === '' ? 'an empty string' : describe(value)}`);
}

/** As `checkPlace`, for an option. */
export function aPlace(op: string, name: string, value: PlaceLike): void {
  checkPlace(op, `${name} to be a path`, value);
}

/** As `checkSource`, for an option. */
export function aSource(op: string, name: string, value: ModelSource): void {
  checkSource(op, `${name} to be a path`, value);
}

function folderOf(folder: Folder | DirectoryHandle): Folder {
  return isHandle(folder) ? new HandleFolder(folder) : folder;
}

function isFolder(value: unknown): value is Folder {
  return typeof (value as Folder | undefined)?.list === 'function';
}

function isHandle(value: unknown): value is DirectoryHandle {
  return typeof (value as DirectoryHandle | undefined)?.getDirectoryHandle === 'function';
}

function isFileHandle(value: unknown): value is FileHandle {
  return typeof (value as FileHandle | undefined)?.getFile === 'function';
}

function isBytes(value: unknown): value is ArrayBuffer | Uint8Array {
  return value instanceof ArrayBuffer || value instanceof Uint8Array;
}

function isList(value: unknown): value is ArrayLike<Blob> {
  return Array.isArray(value) || typeof (value as FileList | undefined)?.item === 'function';
}

function isAddress(text: string): boolean {
  return /^https?:\/\//i.test(text);
}

function pathOf(url: URL): string {
  const path = decodeURIComponent(url.pathname);
  return /^\/[A-Za-z]:\//.test(path) ? path.slice(1) : path;
}
