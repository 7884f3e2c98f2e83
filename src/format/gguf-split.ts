/**
 * Models in several GGUF files: `name-00001-of-00003.gguf` and so on. The first holds the metadata, and with the others the tensors.
 *
 * Source: llama.cpp src/llama-model-loader.cpp, llama_split_path (llama.cpp src/llama.cpp), tools/gguf-split.
 */
import { FormatError } from './format-error.ts';
import type { GgufHeader } from './gguf.ts';
import { KeyReader } from './key-reader.ts';

const PART = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/i;

/** The name of part `index` (from 0) of the model that `name`, with or without folders, is a part of. */
export function partName(name: string, index: number): string | undefined {
  const match = PART.exec(name);
  if (match === null) return undefined;
  return `${match[1]}-${String(index + 1).padStart(5, '0')}-of-${match[3]}.gguf`;
}

/** One name per model of a folder's `.gguf` files: of a model in parts the first part's, there or not. */
export function ggufModels(names: readonly string[]): string[] {
  const files = names.filter((name) => name.toLowerCase().endsWith('.gguf'));
  return [...new Set(files.map((name) => partName(name, 0) ?? name))];
}

/**
 * In how many parts a model is, from the header of its first; 1 when it is whole.
 * @throws FormatError for the header of a later part, saying which is the first
 */
export function partCount({ file, metadata }: GgufHeader): number {
  const keys = new KeyReader(file, (key) => metadata.get(key));
  const count = keys.perLayer(1, COUNT)?.[0] ?? 1;
  if (count <= 1) return 1;
  const index = keys.perLayer(1, NUMBER)?.[0] ?? 0;
  if (index > 0) {
    const first = partName(file, 0);
    throw new FormatError(
      file,
      undefined,
      `expected the first part of a model in ${count} parts, got part ${index + 1}${first ? `; give ${first}` : ''}`,
    );
  }
  return count;
}

const [NUMBER, COUNT, TENSORS] = ['split.no', 'split.count', 'split.tensors.count'];

/**
 * The header of a whole model from those of its parts, in their order: the first one's metadata without the keys about parts.
 * Offsets of tensors count in their own files.
 * @throws FormatError naming the file when a part is another one, a tensor stands in two, or some are missing
 */
export function joinedHeader(parts: readonly GgufHeader[]): GgufHeader {
  const [first] = parts;
  const tensors = new Map(first.tensors);
  const holder = new Map([...tensors.keys()].map((name) => [name, first.file]));
  parts.slice(1).forEach(({ file, metadata, tensors: own }, i) => {
    const [index, count] = [metadata.get(NUMBER), metadata.get(COUNT)];
    if (index !== i + 1 || (count !== undefined && count !== parts.length)) {
      throw new FormatError(
        file,
        undefined,
        `expected part ${i + 2} of ${parts.length}, got ${typeof index === 'number' ? `part ${index + 1} of ${String(count ?? '?')}` : 'a file that is no part'}`,
      );
    }
    for (const [name, info] of own) {
      const other = holder.get(name);
      if (other !== undefined) {
        throw new FormatError(
          file,
          undefined,
          `expected each tensor in one part, got ${name} in ${other} too`,
        );
      }
      tensors.set(name, info);
      holder.set(name, file);
    }
  });
  const stated = first.metadata.get(TENSORS);
  if (stated !== undefined && stated !== tensors.size) {
    throw new FormatError(
      first.file,
      undefined,
      `${TENSORS}: expected ${String(stated)} tensors in ${parts.length} parts, got ${tensors.size}; fetch the parts again`,
    );
  }
  const without = <T>(map: ReadonlyMap<string, T>) =>
    new Map([...map].filter(([key]) => key !== NUMBER && key !== COUNT && key !== TENSORS));
  return {
    ...first,
    tensors,
    metadata: without(first.metadata),
    metadataTypes: without(first.metadataTypes),
  };
}
