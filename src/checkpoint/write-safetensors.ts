/**
 * Writes a safetensors file. The header follows from types and shapes, and each tensor's bytes are asked for
 * in turn, so the file can be larger than memory.
 */
import { aNumber, anything, checkObject, describe } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { checkPlace, type PlaceLike } from '../files/place.ts';
import { encodeSafetensorsHeader } from '../format/safetensors.ts';
import type { TensorEntry } from '../format/tensor-info.ts';
import { Tensor } from '../tensor/tensor.ts';
import { checkTensorBytes, chunksOf, type TensorBytes } from './tensor-bytes.ts';
import { writeTensorFile } from './write-tensors.ts';

const OP = 'writeSafetensors';

/** Options of `writeSafetensors`. */
export interface WriteSafetensorsOptions {
  /**
   * Strings for `__metadata__`; `{ format: 'pt' }` by default, without which transformers refuses the file.
   */
  readonly metadata?: Readonly<Record<string, string>>;
  /**
   * Tensors written at the same time; default 1. With more, the chunks of two tensors must not share a
   * buffer.
   */
  readonly concurrency?: number;
}

const OPTIONS = optionKinds<WriteSafetensorsOptions>({ metadata: anything, concurrency: aNumber });

/**
 * Writes `tensors` to `path`, atomically: under a temporary name in the same folder, synced, then renamed. On
 * failure the temporary file is removed, and a file at `path` stays as it was.
 *
 * Source: safetensors README, section "Format".
 * @param tensors by name; a Tensor is written as stored. In the file, tensors of wider types come first,
 * those of types of equal width in the order given
 * @throws TypeError for a type safetensors does not have (block types), RangeError when data and shape
 * disagree in size
 * @example await writeSafetensors('out/model.safetensors', { weight: tensor([[1, 2], [3, 4]]) })
 */
export async function writeSafetensors(
  path: PlaceLike,
  tensors: Readonly<Record<string, TensorBytes | Tensor>>,
  options: WriteSafetensorsOptions = {},
): Promise<void> {
  checkOptions(OP, options, OPTIONS);
  checkPlace(OP, 'a path first', path);
  checkObject(OP, 'tensors by name', tensors);
  if (tensors instanceof Map || Array.isArray(tensors)) {
    throw new TypeError(
      `${OP}: expected an object of tensors by name, got ${describe(tensors)}; Object.fromEntries makes one of a Map`,
    );
  }
  const entries: TensorEntry[] = [];
  for (const [name, tensor] of Object.entries(tensors)) {
    if (!(tensor instanceof Tensor)) checkTensorBytes(OP, name, tensor);
    entries.push({ name, dtype: tensor.dtype, shape: tensor.shape });
  }
  const header = encodeSafetensorsHeader(entries, options.metadata ?? { format: 'pt' });
  await writeTensorFile(path, {
    op: OP,
    header,
    chunksOf: (name) => chunksOf(tensors[name]),
    concurrency: options.concurrency,
  });
}
