/**
 * A checkpoint as one GGUF file, or several of one model: config, tokenizer and recipe stand in the header.
 *
 * Source: ggml/docs/gguf.md.
 */
import { type FileSource, type Folder, withFile } from '../files/folder.ts';
import { FormatError } from '../format/format-error.ts';
import { type GgufHeader, readGgufHeader } from '../format/gguf.ts';
import { ggufModels, joinedHeader, partCount, partName } from '../format/gguf-split.ts';
import { modelShapeFromGguf } from '../format/model-shape.ts';
import { ggufEndTokenIds } from '../text/end-tokens.ts';
import type { Checkpoint, CheckpointFormat, CheckpointParts, CheckpointTensor } from './checkpoint.ts';
import { withFormatError } from './hugging-face-tokenizer.ts';
import { nameList, refusePointer } from './other-folders.ts';
import type { TensorBytes } from './tensor-bytes.ts';
import { parseRecipe, RECIPE_KEY } from './training-recipe.ts';
import { metadataPairs, writeGguf } from './write-gguf.ts';

const ending = '.gguf';
const isNamedSo = (name: string) => name.toLowerCase().endsWith(ending);
const metadataOf = ({ gguf }: Checkpoint) => (gguf as GgufHeader).metadata;

export const ggufCheckpoint: CheckpointFormat = {
  kind: 'gguf',
  title: 'GGUF',
  names: 'gguf',
  dtypes: ['f32', 'f16', 'bf16', 'q8_0'],
  ending,

  recognises: (name, start) => String.fromCharCode(...start.subarray(0, 4)) === 'GGUF' || isNamedSo(name),

  async find(folder, names) {
    const models = ggufModels(names);
    const [first] = models;
    if (models.length > 1) {
      throw new Error(
        `${folder.name}: expected one .gguf file, got ${models.length} (${nameList(models)}); give the path of one`,
      );
    }
    if (first !== undefined && !names.includes(first)) {
      const parts = nameList(names.filter(isNamedSo));
      throw new Error(`${folder.name}: expected the first part ${first}, got ${parts}; fetch it too`);
    }
    return first;
  },

  open,

  shape: ({ gguf }) => modelShapeFromGguf(gguf as GgufHeader),

  async text(checkpoint) {
    const metadata = metadataOf(checkpoint);
    const endTokenIds = ggufEndTokenIds(metadata);
    if (!metadata.has('tokenizer.ggml.tokens')) return { endTokenIds };
    const { tokenizerFromGguf } = await import('../text/tokenizer.ts');
    const makeTokenizer = () => withFormatError(checkpoint, () => tokenizerFromGguf(metadata));
    return { endTokenIds, makeTokenizer };
  },

  async recipe(checkpoint) {
    const text = metadataOf(checkpoint).get(RECIPE_KEY);
    return text === undefined ? undefined : parseRecipe(String(text), checkpoint.path, RECIPE_KEY);
  },

  async contents({ gguf, tensors }) {
    const keys = metadataPairs(gguf as GgufHeader);
    keys.set('general.file_type', { type: 'u32', value: 0 }); // LLAMA_FTYPE_ALL_F32
    return { keys, order: [...tensors.keys()] };
  },

  async write(folder, contents, file = `model${ending}`) {
    const { keys, tensors, order = [...tensors.keys()], recipe, atOnce } = contents;
    const metadata = new Map(keys);
    if (recipe) metadata.set(RECIPE_KEY, { type: 'string', value: JSON.stringify(recipe) });
    const ordered = new Map(order.map((name) => [name, tensors.get(name) as TensorBytes]));
    await writeGguf({ folder, file }, metadata, ordered, { atOnce });
    return [file];
  },
};

interface OpenedPart {
  readonly header: GgufHeader;
  readonly source: FileSource;
}

async function open(folder: Folder, file: string): Promise<CheckpointParts> {
  const first = await openPart(folder, file);
  const opened = [first];
  const parts = partCount(first.header);
  if (parts > 1) opened.push(...(await openParts(folder, file, parts)));
  const gguf = parts > 1 ? joinedHeader(opened.map(({ header }) => header)) : first.header;
  const tensors = new Map<string, CheckpointTensor>();
  for (const { header, source } of opened) {
    for (const [name, info] of header.tensors) tensors.set(name, { ...info, path: source.name });
  }
  const files = new Map(opened.map(({ source }) => [source.name, source]));
  return { folder, gguf, tensors, files };
}

function openPart(folder: Folder, file: string): Promise<OpenedPart> {
  return withFile(folder, file, async (source) => {
    await refusePointer(source);
    return { header: await readGgufHeader(source), source };
  });
}

/** The headers of all parts but the first. @throws FormatError that names the files which are not there */
async function openParts(folder: Folder, first: string, count: number): Promise<OpenedPart[]> {
  const fail = (what: string) => new FormatError(folder.nameOf(first), undefined, what);
  if (partName(first, 0) !== first || !new RegExp(`-of-0*${count}\\.gguf$`, 'i').test(first)) {
    const name = `…-00001-of-${String(count).padStart(5, '0')}.gguf`;
    throw fail(`expected a name ${name} of the first of ${count} parts, which finds the others`);
  }
  const others = Array.from({ length: count - 1 }, (_, i) => partName(first, i + 1) as string);
  const there = new Set((await folder.list()).map(({ name }) => name));
  const missing = others.filter((name) => !there.has(name));
  if (missing.length > 0) {
    throw fail(
      `expected its ${count} parts next to it, got no ${nameList(missing)}; fetch the missing files`,
    );
  }
  const opened: OpenedPart[] = [];
  for (const name of others) opened.push(await openPart(folder, name));
  return opened;
}
