/**
 * The places that users name to write to. Node's file system is imported only for a path, so that browsers
 * never load it.
 */
import { describe, show } from '../arguments/kinds.ts';
import { type Folder, isPlainFileName, type Place } from './folder.ts';
import { type DirectoryHandle, HandleFolder } from './handle-folder.ts';

/** A path (Node), a folder, a browser's directory handle, or a file of one of these. */
export type PlaceLike = string | Folder | DirectoryHandle | PlaceIn;

/** A folder, or with `file` a file of it. */
export interface PlaceIn {
  readonly folder: Folder | DirectoryHandle;
  readonly file?: string;
}

/** The name of a place in errors; of a path the path itself. */
export function placeName(place: PlaceLike): string {
  if (typeof place === 'string') return place;
  if (isFolder(place) || isHandle(place)) return folderOf(place).name;
  const folder = folderOf(place.folder);
  return place.file === undefined ? folder.name : folder.nameOf(place.file);
}

/** The folder to write into, and the name of the file or folder to write there. */
export async function outputPlace(place: PlaceLike): Promise<Required<Place>> {
  if (typeof place === 'string') return (await import('./node-folder.ts')).splitPath(place);
  if (!isFolder(place) && !isHandle(place) && (place as PlaceIn).file !== undefined) {
    const { folder, file } = place as Required<PlaceIn>;
    return { folder: folderOf(folder), file };
  }
  throw new TypeError(`${placeName(place)}: expected a name in the folder, got none`);
}

/** The folder at a place; it need not exist. */
export async function folderAt(place: PlaceLike): Promise<Folder> {
  if (typeof place === 'string') return new (await import('./node-folder.ts')).NodeFolder(place);
  if (isFolder(place) || isHandle(place)) return folderOf(place);
  const { folder, file } = place as PlaceIn;
  return file === undefined ? folderOf(folder) : folderOf(folder).folder(file);
}

/**
 * @throws TypeError unless `value`, described by `what`, is a path that is not empty, a folder, or a file of
 * a folder; RangeError for a file that is a path, which could lead out of the folder
 */
export function checkPlace(op: string, what: string, value: PlaceLike): void {
  if (typeof value === 'string' ? value !== '' : isFolder(value) || isHandle(value)) return;
  if (typeof value !== 'string' && value !== null && typeof value === 'object' && 'folder' in value) {
    const { folder, file } = value as PlaceIn;
    if (isFolder(folder) || isHandle(folder)) {
      if (file === undefined || (typeof file === 'string' && isPlainFileName(file))) return;
      const message = `${op}: expected file to be a plain name, not a path, got ${show(file)}`;
      throw typeof file === 'string' ? new RangeError(message) : new TypeError(message);
    }
  }
  throw new TypeError(`${op}: expected ${what}, got ${value === '' ? 'an empty string' : describe(value)}`);
}

/** As `checkPlace`, for an option. */
export function aPlace(op: string, name: string, value: PlaceLike): void {
  checkPlace(op, `${name} to be a path`, value);
}

/** A folder, or that of a handle. */
export function folderOf(folder: Folder | DirectoryHandle): Folder {
  return isHandle(folder) ? new HandleFolder(folder) : folder;
}

export function isFolder(value: unknown): value is Folder {
  return typeof (value as Folder | undefined | null)?.list === 'function';
}

export function isHandle(value: unknown): value is DirectoryHandle {
  return typeof (value as DirectoryHandle | undefined | null)?.getDirectoryHandle === 'function';
}
