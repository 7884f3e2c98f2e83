/** Writes a model as a Hugging Face folder, in place of nothing or of another model. */
import type { Folder, FolderEntry } from '../files/folder.ts';
import { folderAt, outputPlace, type PlaceLike } from '../files/place.ts';
import { isCarriedFile } from './carried-files.ts';
import { TEMPLATE_FOLDER } from './chat-templates.ts';
import type { CheckpointContents } from './checkpoint.ts';
import { CONFIG } from './config-json.ts';
import { checkSpace, KINDS } from './output.ts';
import { safetensorsCheckpoint } from './safetensors-checkpoint.ts';

const WEIGHTS = /^model(-\d+-of-\d+)?\.safetensors(\.index\.json)?$/;

/**
 * Writes all files beside the folder and renames them into place: after a crash or an error there is the old
 * folder, the new one, or none. A `Folder` without a path cannot be renamed: there config.json comes last, and
 * until then no model can be opened.
 * @param bytes of the weights
 * @throws Error when something else than a model folder is there, or the disk has no room
 */
export async function writeModelFolder(
  to: PlaceLike,
  contents: CheckpointContents,
  bytes: number,
): Promise<void> {
  const folder = await folderAt(to);
  const isNamed = typeof to === 'string' || ('file' in to && to.file !== undefined);
  const path = isNamed ? to : folder.path;
  const place = path === undefined ? undefined : await outputPlace(path);
  const there = (await place?.folder.list())?.find(({ name }) => name === place?.file);
  if (there !== undefined && there.kind !== 'folder') throw notReplaceable(folder, KINDS[there.kind]);
  const before = await folder.list();
  checkReplaceable(folder, before);
  if (place !== undefined) {
    await checkSpace(place, bytes);
    const fill = async (made: Folder) => {
      await safetensorsCheckpoint.write(made, contents);
    };
    await place.folder.replace(place.file, fill, { overwrite: true });
    return;
  }
  await folder.remove(CONFIG);
  for (const { name } of before) await folder.remove(name);
  await safetensorsCheckpoint.write(folder, contents);
}

/** @throws Error naming an entry that is not part of a model folder */
function checkReplaceable(folder: Folder, entries: readonly FolderEntry[]): void {
  if (entries.length === 0) return;
  const other = entries.find(({ name, kind }) =>
    kind === 'file'
      ? name !== CONFIG && !WEIGHTS.test(name) && !isCarriedFile(name)
      : name !== TEMPLATE_FOLDER,
  );
  if (other !== undefined) throw notReplaceable(folder, `one with ${other.name}, which would be lost`);
  if (entries.every(({ name }) => name !== CONFIG)) throw notReplaceable(folder, `one without ${CONFIG}`);
}

function notReplaceable({ name }: Folder, got: string): Error {
  return new Error(`${name}: expected no folder, an empty one or one of a model alone, got ${got}`);
}
