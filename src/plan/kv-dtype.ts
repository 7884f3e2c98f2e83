/**
 * Storage types of keys and values: a plain type, or a block type of ggml. Their types may differ.
 */
import { STORAGE_TYPES, type StorageType, storageLayout } from '../format/storage-type.ts';

/** One type for both, or one each. */
export type KvDtype = StorageType | { readonly key: StorageType; readonly value: StorageType };

/** Types that a cache can have: floating-point types and blocks. */
export const KV_DTYPES: readonly StorageType[] = STORAGE_TYPES.filter(
  (type) => !/^([iu]\d+|bool|f64|f8_e8m0)$/.test(type),
);

export interface KeyValueTypes {
  readonly key: StorageType;
  readonly value: StorageType;
}

/** @throws RangeError for a type that a cache cannot have */
export function keyValueTypes(dtype: KvDtype): KeyValueTypes {
  const { key, value } = typeof dtype === 'object' && dtype !== null ? dtype : { key: dtype, value: dtype };
  for (const type of [key, value]) {
    if (!KV_DTYPES.includes(type)) {
      throw new RangeError(`expected kvDtype to be one of ${KV_DTYPES.join(', ')}, got ${String(type)}`);
    }
  }
  return { key, value };
}

/** `f16`, or `q8_0/f16` for keys in q8_0 and values in f16. */
export function kvDtypeText(dtype: KvDtype): string {
  const { key, value } = keyValueTypes(dtype);
  return key === value ? key : `${key}/${value}`;
}

/** Bytes of `rows` rows of `length` values, each padded to whole blocks (34 bytes per 32 values of q8_0). */
export function rowBytes(type: StorageType, length: number, rows: number): number {
  const { blockLength, blockBytes } = storageLayout(type);
  return rows * Math.ceil(length / blockLength) * blockBytes;
}
