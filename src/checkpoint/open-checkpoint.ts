/**
 * Opens a checkpoint: a Hugging Face directory, one safetensors file, one GGUF file or the first of several
 * parts. Only headers are read. An error about another file or folder says what to do with it.
 */
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { CachedFolder } from '../files/cached-folder.ts';
import { type Folder, type Place, withFile } from '../files/folder.ts';
import {
  checkSource,
  findSource,
  isAddress,
  type ModelSource,
  type OnDownload,
  SOURCE_OPTIONS,
  type SourceOptions,
  sourceName,
} from '../files/source.ts';
import { FormatError } from '../format/format-error.ts';
import { Checkpoint, type CheckpointFormat } from './checkpoint.ts';
import { FORMATS } from './formats.ts';
import { describeOtherFolder, foreignFile, nameList, refusePage, startOf } from './other-folders.ts';

const IN_FOLDER = 'model.safetensors, model.safetensors.index.json or one .gguf file';
const ACCEPTED = `a .gguf file, a .safetensors file, or a directory with ${IN_FOLDER}`;

/** Options of `openCheckpoint`. */
export interface OpenCheckpointOptions extends SourceOptions {}

const OPTIONS = optionKinds<OpenCheckpointOptions>(SOURCE_OPTIONS);

/**
 * Opens a checkpoint and checks the headers of all its files.
 * @param source a `.safetensors` file, a `.gguf` file (of a model in parts the first), or a folder in Hugging
 * Face's layout or with exactly one GGUF model; on a disk, at an address, in memory or picked by a user
 * @throws Error when there is no checkpoint, or a server does not give it; FormatError, with the file and where
 * possible the byte, when a file is damaged, a shard is missing, or the index and the shards disagree
 * @returns the checkpoint; no tensor data has been read
 * @example
 * await using checkpoint = await openCheckpoint('models/SmolLM2-135M');
 * checkpoint.shape.numKeyValueHeads; // 3
 */
export async function openCheckpoint(
  source: ModelSource,
  options: OpenCheckpointOptions = {},
): Promise<Checkpoint> {
  checkOptions('openCheckpoint', options, OPTIONS);
  return openSource('openCheckpoint', source, options);
}

/** As `openCheckpoint`, for the function `op`, which has checked the options. */
export async function openSource(
  op: string,
  source: ModelSource,
  options: SourceOptions = {},
  onDownload?: OnDownload,
): Promise<Checkpoint> {
  checkSource(op, 'a path, an address, Files, a Blob, a folder, a handle or bytes', source);
  let place: Place | undefined;
  try {
    place = await findSource(op, source, options, onDownload);
  } catch (cause) {
    const isPath = typeof source === 'string' && !isAddress(source);
    if (!isPath || cause instanceof TypeError || options.signal?.aborted) throw cause;
    throw notFound(source, (cause as Error).message, cause);
  }
  if (place === undefined) throw notFound(source, 'nothing there');
  const { folder, file } = place;
  try {
    return await (file === undefined ? openFolder(folder) : openFile(folder, file));
  } catch (error) {
    // What is no model must not stay in the cache. The error is more important than one of removing the file.
    if (error instanceof FormatError && folder instanceof CachedFolder) {
      await folder.forget(error.file).catch(() => {});
    }
    throw error;
  }
}

function notFound(source: ModelSource, got: string, cause?: unknown): Error {
  return new Error(`${sourceName(source)}: expected ${ACCEPTED}, got ${got}`, { cause });
}

async function openFolder(folder: Folder): Promise<Checkpoint> {
  const names = (await folder.list()).map(({ name }) => name);
  for (const format of FORMATS) {
    const file = await format.find(folder, names);
    if (file === undefined) continue;
    // The file is found by its name, and its format by its content; an index of shards has no format of its
    // own.
    const own = recognised(file, await withFile(folder, file, startOf)) ?? format;
    return new Checkpoint(own, { folder }, await own.open(folder, file));
  }
  const other = await describeOtherFolder(folder, names);
  if (other !== undefined) throw new Error(`${folder.name}: expected safetensors or GGUF, ${other}`);
  const loose = names.filter((name) => name.endsWith('.safetensors'));
  if (loose.length > 0) {
    throw new Error(
      `${folder.name}: expected model.safetensors or model.safetensors.index.json, got ${nameList(loose)}; give the path of one`,
    );
  }
  const none = /^https?:/.test(folder.name)
    ? 'none of them; of a GGUF model, give the address of the file'
    : 'an empty directory';
  const got = names.length === 0 ? none : nameList(names);
  throw new Error(`${folder.name}: expected ${IN_FOLDER}, got ${got}`);
}

async function openFile(folder: Folder, file: string): Promise<Checkpoint> {
  const name = folder.nameOf(file);
  const start = await withFile(folder, file, startOf);
  refusePage(name, start);
  const format = recognised(file, start);
  if (format === undefined) throw foreignFile(name, start, ACCEPTED);
  return new Checkpoint(format, { folder, file }, await format.open(folder, file));
}

/** The last format that recognises the file, since GGUF has a magic number. */
function recognised(file: string, start: Uint8Array): CheckpointFormat | undefined {
  return FORMATS.findLast((format) => format.recognises(file, start));
}
