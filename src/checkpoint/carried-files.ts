/** The files that are copied with the weights: tokenizer, chat templates, generation config, recipe, licences. */
import { type Folder, isInside, readSmallFile } from '../files/folder.ts';
import { MemoryFolder } from '../files/memory-folder.ts';
import { FormatError } from '../format/format-error.ts';
import { TEMPLATE_FOLDER } from './chat-templates.ts';
import type { Checkpoint } from './checkpoint.ts';
import { CONFIG } from './config-json.ts';

/** Of tokenizers, with their chat templates. */
const TOKENIZER =
  /^((special_tokens|added_tokens).*\.json|(tokenizer|vocab|merges|chat_template|spiece|sentencepiece).*\.(json|txt|model|jinja)|.*\.tiktoken|additional_chat_templates\/.*)$/;
/** None of them depends on the shapes of the weights. */
const OTHERS =
  /^(gqa-train\.json|(generation_config|preprocessor_config|processor_config).*\.json|(LICENSE|LICENCE|NOTICE|COPYING).*)$/;

/** Whether a file, by its path in the folder, is a tokenizer's. */
export function isTokenizerFile(name: string): boolean {
  return TOKENIZER.test(name);
}

/** Whether a file of a folder is copied with the weights. */
export function isCarriedFile(name: string): boolean {
  return isTokenizerFile(name) || OTHERS.test(name);
}

/**
 * The files to be copied with the weights, by name: tokenizer, chat templates, generation config, recipe,
 * licences.
 * @throws FormatError for one that is no regular file or too large, and for a link out of the folder: a
 * downloaded checkpoint must not copy other files of the disk
 */
export async function readCarriedFiles(folder: Folder): Promise<ReadonlyMap<string, Uint8Array>> {
  const names = (await folder.list()).filter(({ name, kind }) => kind !== 'folder' && isCarriedFile(name));
  const templates = (await folder.folder(TEMPLATE_FOLDER).list()).filter(
    ({ name, kind }) => kind !== 'folder' && name.endsWith('.jinja'),
  );
  const files = new Map<string, Uint8Array>();
  const roots = await rootsOf(folder);
  const read = async (from: Folder, name: string, as: string) => {
    const target = await from.location(name);
    if (!roots.some((root) => isInside(target, root))) {
      const detail = `expected a file of the checkpoint, got a link to ${target}; put a copy in its place`;
      throw new FormatError(folder.nameOf(as), undefined, detail);
    }
    const bytes = await readSmallFile(from, name);
    if (bytes !== undefined) files.set(as, bytes);
  };
  for (const { name } of names) await read(folder, name, name);
  for (const { name } of templates) {
    await read(folder.folder(TEMPLATE_FOLDER), name, `${TEMPLATE_FOLDER}/${name}`);
  }
  return files;
}

/**
 * The folder of config.json and the files to be copied, which a model keeps. One in memory is another folder,
 * without the weights: they are in the backend's memory and can be freed here.
 */
export async function folderWithoutWeights({ folder, isInMemory }: Checkpoint): Promise<Folder> {
  if (!isInMemory) return folder;
  const files = Object.fromEntries(await readCarriedFiles(folder));
  const config = await readSmallFile(folder, CONFIG);
  return new MemoryFolder(folder.name, config === undefined ? files : { ...files, [CONFIG]: config });
}

/**
 * Where the links of a folder may point: into it and, for `snapshots/REVISION` in Hugging Face's cache, to
 * its blobs.
 */
async function rootsOf(folder: Folder): Promise<readonly string[]> {
  const own = await folder.location();
  const [, cache] = /^(.*)\/snapshots\/[^/]+$/.exec(own) ?? [];
  return cache === undefined ? [own] : [own, `${cache}/blobs`];
}
