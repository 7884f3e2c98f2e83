/**
 * Divides the tensors of a checkpoint among files of limited size, as Hugging Face does.
 *
 * Source: huggingface_hub serialization/_base.py (split_state_dict_into_shards_factory, parse_size_to_int).
 */
import { show } from '../arguments/kinds.ts';
import { storageByteLength } from '../format/storage-type.ts';
import type { TensorBytes } from './tensor-bytes.ts';

const UNITS: Readonly<Record<string, number>> = { KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 };

/**
 * @param size bytes, or a number with KB, MB, GB, TB (powers of 1000)
 * @throws TypeError, RangeError unless `size` is a positive integer, or a text such as `5GB`
 * @returns bytes
 */
export function shardBytes(op: string, size: number | string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?) ?([KMGT]B)$/i.exec(`${size}`) ?? [];
  const bytes = typeof size === 'string' ? Math.floor(Number(number) * UNITS[unit?.toUpperCase()]) : size;
  if (typeof size !== 'string' && typeof size !== 'number') {
    throw new TypeError(
      `${op}: expected maxShardSize to be bytes or a text such as '5GB', got ${show(size)}`,
    );
  }
  if (Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  throw new RangeError(`${op}: expected maxShardSize to be bytes or a text such as '5GB', got ${show(size)}`);
}

/**
 * Fills file after file in the order of the tensors; one larger than the limit gets its own.
 * @returns the file name of each tensor; undefined when one file holds all
 */
export function shardTensors(
  tensors: ReadonlyMap<string, TensorBytes>,
  maxBytes: number,
): ReadonlyMap<string, string> | undefined {
  const shardOf = new Map<string, number>();
  let [count, filled] = [1, 0];
  for (const [name, { dtype, shape }] of tensors) {
    const bytes = storageByteLength(dtype, shape);
    if (filled > 0 && filled + bytes > maxBytes) [count, filled] = [count + 1, 0];
    filled += bytes;
    shardOf.set(name, count);
  }
  if (count === 1) return undefined;
  const digits = (value: number) => String(value).padStart(5, '0');
  const file = (shard: number) => `model-${digits(shard)}-of-${digits(count)}.safetensors`;
  return new Map([...shardOf].map(([name, shard]) => [name, file(shard)]));
}
