/** The cache of files that were fetched from addresses: its place, its size, and how to empty it. */
import { INDEX } from './cached-folder.ts';
import type { Folder } from './folder.ts';
import { type DirectoryHandle, HandleFolder } from './handle-folder.ts';
import { checkPlace, folderAt, type PlaceLike } from './place.ts';

/**
 * Where files from addresses are kept: `true` for the browser's own storage (OPFS); a path or folder, which
 * Node needs; `false` for nowhere.
 */
export type ModelCache = boolean | PlaceLike;

/** The name of the folder in the browser's storage. */
const NAME = 'gqa-models';
let own: Promise<Folder> | undefined;

/** @throws TypeError for `true` where there is no storage of its own */
export async function cacheFolder(op: string, cache: true | PlaceLike): Promise<Folder> {
  if (cache !== true) return folderAt(cache);
  const storage = globalThis.navigator?.storage;
  if (typeof storage?.getDirectory !== 'function') {
    throw new TypeError(
      `${op}: expected cache to be a folder, since there is no browser's storage (OPFS) here, got true`,
    );
  }
  own ??= storage
    .getDirectory()
    .then((root) => new HandleFolder(root as unknown as DirectoryHandle).folder(NAME));
  return own.catch((cause) => {
    own = undefined;
    throw new Error(`${op}: cannot use the browser's storage: ${(cause as Error).message}`, { cause });
  });
}

/** @throws TypeError unless `value` can be the option `cache` */
export function aCache(op: string, name: string, value: ModelCache): void {
  if (typeof value !== 'boolean') checkPlace(op, `${name} to be true or a folder`, value);
}

/**
 * The bytes of all models that are kept.
 * @param cache as it was given to `loadModel`; default: the browser's own storage
 * @example await modelCacheSize() // 98362432
 */
export async function modelCacheSize(cache: true | PlaceLike = true): Promise<number> {
  aCache('modelCacheSize', 'cache', cache);
  let bytes = 0;
  for (const folder of await keptFolders(await cacheFolder('modelCacheSize', cache))) {
    for (const { name, kind } of await folder.list()) {
      const file = kind === 'file' ? await folder.open(name) : undefined;
      bytes += file?.size ?? 0;
      await file?.close();
    }
  }
  return bytes;
}

/**
 * Removes all models that are kept; other files of the folder stay.
 * @param cache as it was given to `loadModel`; default: the browser's own storage
 */
export async function clearModelCache(cache: true | PlaceLike = true): Promise<void> {
  aCache('clearModelCache', 'cache', cache);
  const store = await cacheFolder('clearModelCache', cache);
  for (const { name } of await keptEntries(store)) await store.remove(name);
}

async function keptFolders(store: Folder): Promise<Folder[]> {
  return (await keptEntries(store)).map(({ name }) => store.folder(name));
}

async function keptEntries(store: Folder): Promise<{ readonly name: string }[]> {
  const found: { readonly name: string }[] = [];
  for (const entry of await store.list()) {
    if (entry.kind !== 'folder') continue;
    if ((await store.folder(entry.name).list()).some(({ name }) => name === INDEX)) found.push(entry);
  }
  return found;
}
