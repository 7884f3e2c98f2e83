/**
 * Checks the place of a converted checkpoint: that nothing else is lost there, and that its disk has room.
 */
import { type FolderEntry, isInside, type Place } from '../files/folder.ts';
import { TEMPLATE_FOLDER } from './chat-templates.ts';
import { formatNamed } from './formats.ts';

/** What an entry of a folder is, in errors. */
export const KINDS: Readonly<Record<FolderEntry['kind'], string>> = {
  folder: 'a folder',
  file: 'a file',
  other: 'a link or a device',
};

/**
 * Checks that a checkpoint may be written to `to`.
 * @param from the checkpoint to be read; neither may lie inside the other
 * @param force whether to replace a checkpoint, which is a file of a format or a folder
 * @throws Error, with what to do, when something exists at `to`, or when `to` would overwrite `from`
 */
export async function checkOutputPlace(from: Place, to: Required<Place>, force: boolean): Promise<void> {
  const [source, target] = await Promise.all([from.folder.location(from.file), to.folder.location(to.file)]);
  const name = to.folder.nameOf(to.file);
  if (isInside(source, target) || isInside(target, source)) {
    throw new Error(
      `${name}: expected a place outside of the checkpoint that is read, got ${from.file === undefined ? from.folder.name : from.folder.nameOf(from.file)}`,
    );
  }
  const found = (await to.folder.list()).find((entry) => entry.name === to.file);
  if (found === undefined) return;
  const got = KINDS[found.kind];
  if (!force) throw new Error(`${name}: expected nothing there, got ${got}; { force: true } replaces it`);
  const isFile = formatNamed(to.file).ending !== undefined;
  if (isFile && found.kind === 'file') return;
  if (!isFile && found.kind === 'folder' && isReplaceable(await to.folder.folder(to.file).list())) return;
  throw new Error(
    `${name}: expected a checkpoint or an empty folder to replace, got ${got} of something else`,
  );
}

/**
 * Whether a folder is empty, or holds only files with config.json and weights among them, as a conversion
 * leaves.
 */
function isReplaceable(entries: readonly FolderEntry[]): boolean {
  if (entries.length === 0) return true;
  const has = (pattern: RegExp) => entries.some(({ name }) => pattern.test(name));
  const isPart = ({ name, kind }: FolderEntry) => kind === 'file' || name === TEMPLATE_FOLDER;
  return entries.every(isPart) && has(/^config\.json$/) && has(/\.safetensors$/);
}

/**
 * Checks the free space where a checkpoint will lie.
 * @throws Error with both numbers
 */
export async function checkSpace({ folder, file }: Required<Place>, bytes: number): Promise<void> {
  const free = await folder.space(file);
  if (!(free >= bytes)) {
    throw new Error(
      `${folder.nameOf(file)}: expected ${bytes} bytes of free space, got ${free}; free some or choose another disk`,
    );
  }
}
