/**
 * A checkpoint as one GGUF file, or as several parts. Its header holds config, tokenizer and recipe.
 *
 * Source: ggml/docs/gguf.md.
 */
import type { Folder } from '../files/folder.ts';
import { FormatError } from '../format/format-error.ts';
import { type GgufHeader, readGgufHeader } from '../format/gguf.ts';
import { ggufKeys } from '../format/gguf-keys.ts';
import { ggufModels, joinedHeader, partCount, partName } from '../format/gguf-split.ts';
import { modelShapeFromGguf } from '../format/model-shape.ts';
import type { TokenizerFiles } from '../text/encode-tokenizer-files.ts';
import { ggufEndTokenIds } from '../text/end-tokens.ts';
import type { Checkpoint, CheckpointFormat, CheckpointParts } from './checkpoint.ts';
import { withFormatError } from './hugging-face-tokenizer.ts';
import { nameList } from './other-folders.ts';
import { checkPresent, type ReadHeader, readHeaders, tensorsOf } from './read-headers.ts';
import { parseRecipe, RECIPE_KEY } from './training-recipe.ts';
import { metadataPairs, writeGguf } from './write-gguf.ts';

const ending = '.gguf';
const hasEnding = (name: string) => name.toLowerCase().endsWith(ending);
const metadataOf = ({ gguf }: Checkpoint) => (gguf as GgufHeader).metadata;

export const ggufCheckpoint: CheckpointFormat = {
  kind: 'gguf',
  names: 'gguf',
  dtypes: ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'q4_k', 'q6_k'],
  ending,

  recognises: (name, start) => String.fromCharCode(...start.subarray(0, 4)) === 'GGUF' || hasEnding(name),

  async find(folder, names) {
    const models = ggufModels(names);
    const [first] = models;
    if (models.length > 1) {
      throw new Error(
        `${folder.name}: expected one .gguf file, got ${models.length} (${nameList(models)}); give the path of one`,
      );
    }
    if (first !== undefined && !names.includes(first)) {
      const parts = nameList(names.filter(hasEnding));
      throw new Error(`${folder.name}: expected the first part ${first}, got ${parts}; fetch it too`);
    }
    return first;
  },

  open,

  keys: ({ gguf }) => ggufKeys(gguf as GgufHeader),

  shape: ({ gguf }) => modelShapeFromGguf(gguf as GgufHeader),

  async text(checkpoint) {
    const metadata = metadataOf(checkpoint);
    const endTokenIds = ggufEndTokenIds(metadata);
    if (!metadata.has('tokenizer.ggml.tokens')) return { endTokenIds };
    const { tokenizerFromGguf } = await import('../text/tokenizer.ts');
    const { path, isInMemory } = checkpoint;
    const files = filesWriter(isInMemory ? async () => metadata : metadataReader(checkpoint));
    const makeTokenizer = () => withFormatError(path, () => tokenizerFromGguf(metadata, files));
    return { endTokenIds, makeTokenizer };
  },

  async recipe(checkpoint) {
    const text = metadataOf(checkpoint).get(RECIPE_KEY);
    return text === undefined ? undefined : parseRecipe(String(text), checkpoint.path, RECIPE_KEY);
  },

  async contents({ gguf }) {
    const keys = metadataPairs(gguf as GgufHeader);
    keys.set('general.file_type', { type: 'u32', value: 0 }); // LLAMA_FTYPE_ALL_F32
    return { keys };
  },

  async write(folder, contents, file = `model${ending}`) {
    const { tensors, recipe, concurrency } = contents;
    const metadata = new Map(contents.keys);
    if (recipe) metadata.set(RECIPE_KEY, { type: 'string', value: JSON.stringify(recipe) });
    await writeGguf({ folder, file }, metadata, tensors, { concurrency });
    return [file];
  },
};

/** What writes a tokenizer's files, from metadata that it asks for then. */
function filesWriter(metadata: () => Promise<GgufHeader['metadata']>): () => Promise<TokenizerFiles> {
  return async () => {
    const { encodeTokenizerFiles, tokenizerFilesFromGguf } = await import('../text/tokenizer.ts');
    const { json, config } = tokenizerFilesFromGguf(await metadata());
    return encodeTokenizerFiles(json, config);
  };
}

/** Reads the metadata again: kept, they would take as much memory as the tokenizer. */
function metadataReader({ folder, file }: Checkpoint): () => Promise<GgufHeader['metadata']> {
  return async () => {
    const { gguf, files = [] } = await open(folder, file);
    await Promise.all(files.map((source) => source.close()));
    return (gguf as GgufHeader).metadata;
  };
}

async function open(folder: Folder, file: string): Promise<CheckpointParts> {
  const parts = await readHeaders(folder, [file], readGgufHeader);
  const count = partCount(parts[0].header);
  if (count > 1) parts.push(...(await readOtherParts(folder, file, count)));
  const gguf = count > 1 ? joinedHeader(parts.map(({ header }) => header)) : parts[0].header;
  return { folder, file, gguf, tensors: tensorsOf(parts), files: parts.map(({ source }) => source) };
}

/** The headers of all parts but the first. @throws FormatError that names the files which are not there */
async function readOtherParts(
  folder: Folder,
  first: string,
  count: number,
): Promise<ReadHeader<GgufHeader>[]> {
  if (partName(first, 0) !== first || !new RegExp(`-of-0*${count}\\.gguf$`, 'i').test(first)) {
    const name = `…-00001-of-${String(count).padStart(5, '0')}.gguf`;
    const what = `expected a name ${name} of the first of ${count} parts, which finds the others`;
    throw new FormatError(folder.nameOf(first), undefined, what);
  }
  const others = Array.from({ length: count - 1 }, (_, i) => partName(first, i + 1) as string);
  await checkPresent(folder, first, others, `${count} parts`);
  return readHeaders(folder, others, readGgufHeader);
}
