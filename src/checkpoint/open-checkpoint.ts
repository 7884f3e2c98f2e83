/**
 * Opens a checkpoint: a Hugging Face directory, one safetensors file, one GGUF file or the first of several
 * parts. Only headers are read. An error about another file or folder says what to do with it.
 */
import { type Folder, type Place, withFile } from '../files/folder.ts';
import { checkPlace, findPlace, type PlaceLike, placeName } from '../files/place.ts';
import { Checkpoint, type CheckpointFormat } from './checkpoint.ts';
import { FORMATS } from './formats.ts';
import { describeOtherFolder, foreignFile, nameList, startOf } from './other-folders.ts';

const IN_FOLDER = 'model.safetensors, model.safetensors.index.json or one .gguf file';
const ACCEPTED = `a .gguf file, a .safetensors file, or a directory with ${IN_FOLDER}`;

/**
 * Opens a checkpoint and checks the headers of all its files.
 * @param path a `.safetensors` file, a `.gguf` file (of a model in parts the first), or a directory in
 * Hugging Face's layout or with exactly one GGUF model
 * @param op the function that a TypeError about `path` names
 * @throws Error when there is no checkpoint at `path`; FormatError, with the file and where possible the
 * byte, when a file is damaged, a shard is missing, or the index and the shards disagree
 * @returns the checkpoint; no tensor data has been read
 * @example
 * await using checkpoint = await openCheckpoint('models/SmolLM2-135M');
 * checkpoint.shape.numKeyValueHeads; // 3
 */
export async function openCheckpoint(path: PlaceLike, op = 'openCheckpoint'): Promise<Checkpoint> {
  checkPlace(op, 'the path of a checkpoint', path);
  const name = placeName(path);
  const { folder, file } = await found(path, name);
  return file === undefined ? openFolder(folder) : openFile(folder, file);
}

async function found(path: PlaceLike, name: string): Promise<Place> {
  let cause: unknown;
  try {
    const place = await findPlace(path);
    if (place !== undefined) return place;
  } catch (error) {
    cause = error;
  }
  const why = cause === undefined ? 'nothing there' : (cause as Error).message;
  const hint = /^https?:/.test(name) ? ' (a URL is not fetched: download it first)' : '';
  throw new Error(`${name}: expected ${ACCEPTED}, got ${why}${hint}`, { cause });
}

async function openFolder(folder: Folder): Promise<Checkpoint> {
  const names = (await folder.list()).map(({ name }) => name);
  for (const format of FORMATS) {
    const file = await format.find(folder, names);
    if (file === undefined) continue;
    // The file is found by its name, and its format by its content; an index of shards has no format of its
    // own.
    const own = recognised(file, await withFile(folder, file, startOf)) ?? format;
    return new Checkpoint(own, folder.name, await own.open(folder, file));
  }
  const other = await describeOtherFolder(folder, names);
  if (other !== undefined) throw new Error(`${folder.name}: expected safetensors or GGUF, ${other}`);
  const loose = names.filter((name) => name.endsWith('.safetensors'));
  if (loose.length > 0) {
    throw new Error(
      `${folder.name}: expected model.safetensors or model.safetensors.index.json, got ${nameList(loose)}; give the path of one`,
    );
  }
  const got = names.length === 0 ? 'an empty directory' : nameList(names);
  throw new Error(`${folder.name}: expected ${IN_FOLDER}, got ${got}`);
}

async function openFile(folder: Folder, file: string): Promise<Checkpoint> {
  const name = folder.nameOf(file);
  const start = await withFile(folder, file, startOf);
  const format = recognised(file, start);
  if (format === undefined) throw foreignFile(name, start, ACCEPTED);
  return new Checkpoint(format, name, await format.open(folder, file));
}

/** The last format that recognises the file, since GGUF has a magic number. */
function recognised(file: string, start: Uint8Array): CheckpointFormat | undefined {
  return FORMATS.findLast((format) => format.recognises(file, start));
}
