/**
 * Models in several GGUF files: `name-00001-of-00003.gguf` and so on. The first part holds the metadata; each
 * part holds some of the tensors.
 *
 * Source: llama.cpp src/llama-model-loader.cpp, llama_split_path (llama.cpp src/llama.cpp), tools/gguf-split.
 */
import { FormatError } from './format-error.ts';
import type { GgufHeader } from './gguf.ts';
import { KeyReader } from './key-reader.ts';

const [NUMBER, COUNT, TENSORS] = ['split.no', 'split.count', 'split.tensors.count'];
const PART = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/i;

/**
 * The name of part `index` (from 0), by the name or path of any part of a model; undefined for other names.
 */
export function partName(name: string, index: number): string | undefined {
  const match = PART.exec(name);
  if (match === null) return undefined;
  return `${match[1]}-${String(index + 1).padStart(5, '0')}-of-${match[3]}.gguf`;
}

/**
 * One name per model of a folder's `.gguf` files; for a model in parts that of its first part, even if
 * missing.
 */
export function ggufModels(names: readonly string[]): string[] {
  const files = names.filter((name) => name.toLowerCase().endsWith('.gguf'));
  return [...new Set(files.map((name) => partName(name, 0) ?? name))];
}

/**
 * The number of parts of a model, by the header of its first; 1 for a model in one file.
 * @throws FormatError for the header of a later part, with the name of the first
 */
export function partCount({ file, metadata }: GgufHeader): number {
  const keys = new KeyReader(file, (key) => metadata.get(key));
  const count = keys.count(COUNT) ?? 1;
  const index = keys.count(NUMBER) ?? 0;
  if (count <= 1 || index === 0) return Math.max(count, 1);
  const first = partName(file, 0);
  const hint = first === undefined ? '' : `; give ${first}`;
  throw wrong(file, `expected the first part of a model in ${count} parts, got part ${index + 1}${hint}`);
}

/**
 * Joins the headers of a model's parts, given in order: all tensors, and the metadata of the first part
 * without the keys about parts. Offsets of tensors stay relative to their own files.
 * @throws FormatError naming the file when a header is not that of the expected part, a tensor is in two
 *   parts, or tensors are missing
 */
export function joinedHeader(parts: readonly GgufHeader[]): GgufHeader {
  const [first] = parts;
  const tensors = new Map(first.tensors);
  const holder = new Map([...tensors.keys()].map((name) => [name, first.file]));
  parts.slice(1).forEach(({ file, metadata, tensors: own }, i) => {
    const [index, count] = [metadata.get(NUMBER), metadata.get(COUNT)];
    if (index !== i + 1 || (count !== undefined && count !== parts.length)) {
      const part =
        typeof index === 'number' ? `part ${index + 1} of ${String(count ?? '?')}` : 'another file';
      throw wrong(file, `expected part ${i + 2} of ${parts.length}, got ${part}`);
    }
    for (const [name, info] of own) {
      const other = holder.get(name);
      if (other) throw wrong(file, `expected each tensor in one part, got ${name} in ${other} too`);
      tensors.set(name, info);
      holder.set(name, file);
    }
  });
  const stated = first.metadata.get(TENSORS);
  if (stated !== undefined && stated !== tensors.size) {
    const expected = `expected ${String(stated)} tensors in ${parts.length} parts`;
    throw wrong(first.file, `${TENSORS}: ${expected}, got ${tensors.size}; fetch the parts again`);
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

function wrong(file: string, detail: string): FormatError {
  return new FormatError(file, undefined, detail);
}
