/** Reads the headers of all of a model's weight files (`readModelWeights`). */
import { type Folder, isPlainFileName, readSmallJson, withFile } from '../files/folder.ts';
import { checkSource, findSource, type ModelSource } from '../files/source.ts';
import type { FetchModelOptions } from '../files/source-options.ts';
import type { ByteSource } from '../format/byte-source.ts';
import { FormatError } from '../format/format-error.ts';
import { readGgufHeader } from '../format/gguf.ts';
import { ggufModels, joinedHeader, partCount, partName } from '../format/gguf-split.ts';
import { readSafetensorsHeader } from '../format/safetensors.ts';
import type { TensorInfo } from '../format/tensor-info.ts';
import type { GgufHeaders, ShapeSource } from './read-shape.ts';
import { type WeightGroup, weightGroups } from './weights.ts';

const INDEX = 'model.safetensors.index.json';
const SINGLE = 'model.safetensors';
const MAX_INDEX_BYTES = 100_000_000;
/** Files read at the same time. */
const CONCURRENCY = 8;

type Tensors = ReadonlyMap<string, TensorInfo>;

/** @param headers those of GGUF files that have been read */
export async function readWeights(
  source: ShapeSource,
  options: FetchModelOptions,
  headers: GgufHeaders,
): Promise<readonly WeightGroup[] | undefined> {
  if (typeof (source as Partial<ByteSource> | undefined)?.read === 'function') {
    const tensors = await tensorsOfFile(source as ByteSource);
    return tensors && weightGroups(tensors);
  }
  checkSource('readModelWeights', 'a path, a URL, a Blob or a byte source', source as ModelSource);
  const place = await findSource('readModelWeights', source as ModelSource, options);
  if (place === undefined) return undefined;
  const { folder, file } = place;
  const first = file === undefined || file === 'config.json' ? await weightFile(folder) : file;
  const tensors = first === undefined ? undefined : await tensorsOfModel(folder, first, headers);
  return tensors && weightGroups(tensors);
}

/** The file of a folder that has its weights, or lists those that have. */
async function weightFile(folder: Folder): Promise<string | undefined> {
  for (const name of [SINGLE, INDEX]) {
    const file = await folder.open(name);
    await file?.close();
    if (file !== undefined) return name;
  }
  const models = ggufModels((await folder.list()).map(({ name }) => name));
  return models.length === 1 ? models[0] : undefined;
}

async function tensorsOfModel(
  folder: Folder,
  file: string,
  headers: GgufHeaders,
): Promise<Tensors | undefined> {
  if (file === INDEX) {
    const index = (await readSmallJson(folder, INDEX, MAX_INDEX_BYTES)) as
      | { weight_map?: unknown }
      | undefined;
    const shards = [...new Set(Object.values((index?.weight_map ?? {}) as Record<string, unknown>))];
    const wrong = shards.find((name) => typeof name !== 'string' || !isPlainFileName(name));
    if (wrong !== undefined || shards.length === 0) {
      throw new FormatError(
        folder.nameOf(INDEX),
        undefined,
        'expected a weight_map of tensor names to files',
      );
    }
    const parts = await inFiles(folder, shards as string[], readSafetensorsHeader);
    return new Map(parts.flatMap(({ tensors }) => [...tensors]));
  }
  const known = headers.get(folder.nameOf(file));
  if (known === undefined && !/\.gguf$/i.test(file)) return withFile(folder, file, tensorsOfFile);
  const first = known ?? (await withFile(folder, file, readGgufHeader));
  const others = Array.from({ length: partCount(first) - 1 }, (_, i) => partName(file, i + 1) as string);
  return joinedHeader([first, ...(await inFiles(folder, others, readGgufHeader))]).tensors;
}

async function tensorsOfFile(source: ByteSource): Promise<Tensors | undefined> {
  const start = await source.read(0, Math.min(source.size, 16));
  if (String.fromCharCode(...start.subarray(0, 4)) === 'GGUF') return (await readGgufHeader(source)).tensors;
  // A safetensors file begins with 8 bytes of length and then `{`.
  const isSafetensors = start[8] === 0x7b && start[7] === 0;
  return isSafetensors ? (await readSafetensorsHeader(source)).tensors : undefined;
}

async function inFiles<T>(
  folder: Folder,
  names: readonly string[],
  read: (source: ByteSource) => Promise<T>,
): Promise<T[]> {
  const all: T[] = [];
  for (let i = 0; i < names.length; i += CONCURRENCY) {
    const some = names.slice(i, i + CONCURRENCY);
    all.push(...(await Promise.all(some.map((name) => withFile(folder, name, read)))));
  }
  return all;
}
