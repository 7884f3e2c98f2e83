/**
 * Fits a family's tensor names to a checkpoint: the prefix of names, and whether the output head is tied to
 * the embedding.
 *
 * As in transformers, the config decides tying, unless both matrices are stored and differ.
 *
 * Source: transformers modeling_utils.py (tie_weights), core_model_loading.py (rename_source_key), 5.23.0.
 */
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { FormatError } from '../format/format-error.ts';
import { sameShape } from '../tensor/shape.ts';
import type { DecoderNames } from './decoder-config.ts';
import type { DecoderDescription } from './families/family.ts';

/** @throws FormatError when the config has an untied output head and none is stored */
export async function asStored(
  checkpoint: Checkpoint,
  description: DecoderDescription,
): Promise<DecoderDescription> {
  const { tensors, path } = checkpoint;
  const names = withoutPrefix(description.names, (name) => tensors.has(`${name}.weight`));
  const { config } = description;
  const [head, embedding] = [`${names.head}.weight`, `${names.embedding}.weight`];
  if (!tensors.has(head)) {
    if (config.tiedEmbeddings || names === description.names) return { config, names };
    throw new FormatError(
      path,
      undefined,
      `expected ${head}, since the embeddings are not tied, got none of that name: a base model is saved without its head; save the one for causal language modelling`,
    );
  }
  if (!config.tiedEmbeddings) return { config, names };
  if (!tensors.has(embedding)) return { config, names: { ...names, embedding: names.head } };
  if (await sameNumbers(checkpoint, head, embedding)) {
    return { config, names: { ...names, headCopy: names.head } };
  }
  console.warn(
    `gqa: ${path}: ${head} differs from ${embedding}, so they are not tied; set tie_word_embeddings to false in config.json`,
  );
  return { config: { ...config, tiedEmbeddings: false }, names };
}

/**
 * Names as a base model without head saves them, if the file has those: without the first part (`model.`,
 * `transformer.`).
 */
function withoutPrefix(names: DecoderNames, has: (name: string) => boolean): DecoderNames {
  const { finalNorm } = names;
  const prefix = finalNorm.slice(0, finalNorm.indexOf('.') + 1);
  if (prefix === '' || has(finalNorm) || !has(finalNorm.slice(prefix.length))) return names;
  return renamed(names, (name) => (name.startsWith(prefix) ? name.slice(prefix.length) : name));
}

/** Applies `replace` to every name in `names`, also to the results of its functions. */
export function renamed<T>(names: T, rename: (name: string) => string): T {
  const change = (value: unknown): unknown => {
    if (typeof value === 'string') return rename(value);
    if (typeof value === 'function') return (index: number) => change(value(index));
    if (Array.isArray(value)) return value.map(change);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, change(item)]));
  };
  return change(names) as T;
}

/** Bytes compared at a time; of an address, as many come with each request. */
const SLICE_BYTES = 1 << 23;

/** Whether two stored matrices are equal bit for bit. */
async function sameNumbers(checkpoint: Checkpoint, one: string, other: string): Promise<boolean> {
  const [a, b] = [checkpoint.tensor(one), checkpoint.tensor(other)];
  if (a.dtype !== b.dtype || !sameShape(a.shape, b.shape)) return false;
  const slice = Math.min(SLICE_BYTES, a.byteLength);
  const [left, right] = [new Uint8Array(slice), new Uint8Array(slice)];
  for (let at = 0; at < a.byteLength; at += slice) {
    const length = Math.min(slice, a.byteLength - at);
    await checkpoint.readInto(one, at, left.subarray(0, length));
    await checkpoint.readInto(other, at, right.subarray(0, length));
    for (let i = 0; i < length; i++) if (left[i] !== right[i]) return false;
  }
  return true;
}
