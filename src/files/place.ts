/**
 * The places that users name: a path, a folder, or a file of a folder. Node's file system is imported only
 * for a path, so that browsers never load it.
 */
import { describe, show } from '../arguments/kinds.ts';
import { type Folder, isPlainFileName, type Place } from './folder.ts';

/** A path (Node), a folder, or a file of a folder. */
export type PlaceLike = string | Folder | Place;

/** The name of a place in errors; of a path the path itself. */
export function placeName(place: PlaceLike): string {
  if (typeof place === 'string') return place;
  if (isFolder(place)) return place.name;
  return place.file === undefined ? place.folder.name : place.folder.nameOf(place.file);
}

/**
 * What exists at a place; undefined when nothing does.
 * @throws the file system's error for a path that cannot be read
 */
export async function findPlace(place: PlaceLike): Promise<Place | undefined> {
  if (typeof place === 'string') return (await import('./node-folder.ts')).findPath(place);
  return isFolder(place) ? { folder: place } : place;
}

/** The folder to write into, and the name of the file or folder to write there. */
export async function outputPlace(place: PlaceLike): Promise<Required<Place>> {
  if (typeof place === 'string') return (await import('./node-folder.ts')).splitPath(place);
  if (!isFolder(place) && place.file !== undefined) return { folder: place.folder, file: place.file };
  throw new TypeError(`${placeName(place)}: expected a name in the folder, got none`);
}

/** The folder at a place; it need not exist. */
export async function folderAt(place: PlaceLike): Promise<Folder> {
  if (typeof place === 'string') return new (await import('./node-folder.ts')).NodeFolder(place);
  if (isFolder(place)) return place;
  return place.file === undefined ? place.folder : place.folder.folder(place.file);
}

function isFolder(place: unknown): place is Folder {
  return typeof (place as Folder | undefined)?.list === 'function';
}

/**
 * @throws TypeError unless `value`, described by `what`, is a path that is not empty, a folder, or a file of
 * a folder; RangeError for a file that is a path, which could lead out of the folder
 */
export function checkPlace(op: string, what: string, value: PlaceLike): void {
  if (typeof value === 'string' ? value !== '' : isFolder(value)) return;
  if (typeof value !== 'string' && !isFolder(value) && isFolder(value?.folder)) {
    const { file } = value;
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
