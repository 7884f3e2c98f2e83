/**
 * The places that users name: a path, a folder, or a file of a folder. A path becomes a folder and a name here.
 * Node's part is imported for a path only, so that browsers never load it.
 */
import { aString } from '../arguments/kinds.ts';
import type { Folder, Place } from './folder.ts';

/** A path (Node), a folder, or a file of a folder. */
export type PlaceLike = string | Folder | Place;

/** What errors call a place: the path as it was given. */
export function placeName(place: PlaceLike): string {
  if (typeof place === 'string') return place;
  if (!('folder' in place) || typeof place.folder === 'function') return (place as Folder).name;
  const { folder, file } = place as Place;
  return file === undefined ? folder.name : folder.nameOf(file);
}

/** What is at a place. @throws the file system's error for a path that cannot be looked at @returns undefined when nothing is there */
export async function findPlace(place: PlaceLike): Promise<Place | undefined> {
  if (typeof place === 'string') return (await import('./node-folder.ts')).findPath(place);
  return isFolder(place) ? { folder: place } : place;
}

/** The folder that something is written into, and its name there. */
export async function outputPlace(place: PlaceLike): Promise<Required<Place>> {
  if (typeof place === 'string') return (await import('./node-folder.ts')).splitPath(place);
  if (!isFolder(place) && place.file !== undefined) return { folder: place.folder, file: place.file };
  throw new TypeError(`${placeName(place)}: expected a name in the folder, got none`);
}

/** The folder at a place, there or not. */
export async function folderAt(place: PlaceLike): Promise<Folder> {
  if (typeof place === 'string') return new (await import('./node-folder.ts')).NodeFolder(place);
  if (isFolder(place)) return place;
  return place.file === undefined ? place.folder : place.folder.folder(place.file);
}

function isFolder(place: unknown): place is Folder {
  return typeof (place as Folder | undefined)?.list === 'function';
}

/** True for a path that is not empty, a folder, or a file of a folder. */
export function isPlace(value: unknown): value is PlaceLike {
  if (typeof value === 'string') return value !== '';
  return isFolder(value) || isFolder((value as Place | undefined)?.folder);
}

/** For an option: @throws TypeError unless `value` is a path or a place. */
export function aPlace(op: string, name: string, value: PlaceLike): void {
  if (!isPlace(value)) aString(op, name, value as string);
}
