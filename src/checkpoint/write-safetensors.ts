/**
 * Writes a safetensors file, streaming: the header is known from types and shapes, then each tensor's bytes are asked for
 * when their turn comes, so a file larger than memory can be written.
 */

import { aNumber, anything, checkObject, describe } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { isPlace, outputPlace, type PlaceLike } from '../files/place.ts';
import { encodeSafetensorsHeader } from '../format/safetensors.ts';
import type { TensorEntry } from '../format/tensor-info.ts';
import { ownerOf } from '../tensor/storage.ts';
import { Tensor } from '../tensor/tensor.ts';
import { checkTensorBytes, chunksOf, type TensorBytes } from './tensor-bytes.ts';
import { sizeError, writeTensors } from './write-tensors.ts';

/** Bytes copied out of a backend at a time. */
const SLICE_BYTES = 8 << 20;
const OP = 'writeSafetensors';

/** Options of `writeSafetensors`. */
export interface WriteSafetensorsOptions {
  /** Strings for `__metadata__`; `{ format: 'pt' }` by default, without which transformers refuses the file. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Tensors written at the same time; the chunks of different ones must not share a buffer then. Default 1. */
  readonly atOnce?: number;
}

const OPTIONS = optionKinds<WriteSafetensorsOptions>({ metadata: anything, atOnce: aNumber });

/**
 * Writes `tensors` to `path`, atomically: under a temporary name in the same folder, synced, then renamed; on failure the
 * temporary file is removed and what was at `path` stays.
 * @param tensors by name; a Tensor is written as stored. Order in the file: wider types first, then the order given
 * @throws TypeError for a type safetensors does not have (block types), RangeError when data and shape disagree in size
 * @example await writeSafetensors('out/model.safetensors', { weight: tensor([[1, 2], [3, 4]]) })
 * Source: safetensors README, section "Format".
 */
export async function writeSafetensors(
  path: PlaceLike,
  tensors: Readonly<Record<string, TensorBytes | Tensor>>,
  options: WriteSafetensorsOptions = {},
): Promise<void> {
  checkOptions(OP, options, OPTIONS);
  if (!isPlace(path) && path !== '')
    throw new TypeError(`${OP}: expected a path first, got ${describe(path)}`);
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
  for (const { name, byteLength } of header.tensors) {
    const source = tensors[name];
    const given =
      source instanceof Tensor || typeof source.data === 'function' ? byteLength : source.data.byteLength;
    if (given !== byteLength) throw sizeError(OP, name, byteLength, given);
  }
  const { folder, file } = await outputPlace(path);
  await folder.write(file, async (out) => {
    await out.write(header.bytes, 0);
    await writeTensors(out, {
      op: OP,
      tensors: header.tensors,
      chunksOf(name) {
        const source = tensors[name];
        return source instanceof Tensor ? tensorChunks(source) : chunksOf(source);
      },
      atOnce: options.atOnce ?? 1,
    });
  });
}

/** A tensor's bytes as stored, 8 MiB at a time. */
export function* tensorChunks({ storage, byteLength }: Tensor): Generator<Uint8Array> {
  for (let at = 0; at < byteLength; at += SLICE_BYTES) {
    yield ownerOf(storage).read(storage, at, Math.min(SLICE_BYTES, byteLength - at));
  }
}
