/**
 * Storage types of files: plain element types, and ggml's block types, where `blockLength` values along the
 * last dimension share `blockBytes` bytes. Types without a kernel are here too, since headers need their byte
 * lengths.
 *
 * Source: ggml/src/ggml-common.h (block structs, QK_K = 256) and the enum ggml_type; safetensors README
 * (dtypes).
 */

/** The name of a storage type, in lower case. */
export type StorageType =
  | ('f64' | 'f32' | 'f16' | 'bf16' | 'f8_e4m3' | 'f8_e5m2' | 'f8_e8m0')
  | ('i64' | 'i32' | 'i16' | 'i8' | 'u64' | 'u32' | 'u16' | 'u8' | 'bool')
  | ('q1_0' | 'q4_0' | 'q4_1' | 'q5_0' | 'q5_1' | 'q8_0' | 'q8_1')
  | ('q2_k' | 'q3_k' | 'q4_k' | 'q5_k' | 'q6_k' | 'q8_k')
  | ('iq1_s' | 'iq1_m' | 'iq2_xxs' | 'iq2_xs' | 'iq2_s')
  | ('iq3_xxs' | 'iq3_s' | 'iq4_nl' | 'iq4_xs')
  | ('tq1_0' | 'tq2_0' | 'mxfp4' | 'nvfp4');

/** `blockLength` values occupy `blockBytes` bytes; plain types have `blockLength` 1. */
export interface StorageLayout {
  readonly blockLength: number;
  readonly blockBytes: number;
}

/** Values per block, bytes per block, ggml's type id, safetensors' dtype. */
type Row = readonly [number, number, (number | undefined)?, string?];

const TYPES: Readonly<Record<StorageType, Row>> = {
  f64: [1, 8, 28, 'F64'],
  f32: [1, 4, 0, 'F32'],
  f16: [1, 2, 1, 'F16'],
  bf16: [1, 2, 30, 'BF16'],
  f8_e4m3: [1, 1, undefined, 'F8_E4M3'],
  f8_e5m2: [1, 1, undefined, 'F8_E5M2'],
  f8_e8m0: [1, 1, undefined, 'F8_E8M0'],
  i64: [1, 8, 27, 'I64'],
  i32: [1, 4, 26, 'I32'],
  i16: [1, 2, 25, 'I16'],
  i8: [1, 1, 24, 'I8'],
  u64: [1, 8, undefined, 'U64'],
  u32: [1, 4, undefined, 'U32'],
  u16: [1, 2, undefined, 'U16'],
  u8: [1, 1, undefined, 'U8'],
  bool: [1, 1, undefined, 'BOOL'],
  q4_0: [32, 18, 2],
  q4_1: [32, 20, 3],
  q5_0: [32, 22, 6],
  q5_1: [32, 24, 7],
  q8_0: [32, 34, 8],
  // Two half floats and 32 bytes, as in C; gguf-py's table says 40. ggml uses it for activations, not in
  // files.
  q8_1: [32, 36, 9],
  q2_k: [256, 84, 10],
  q3_k: [256, 110, 11],
  q4_k: [256, 144, 12],
  q5_k: [256, 176, 13],
  q6_k: [256, 210, 14],
  q8_k: [256, 292, 15],
  iq2_xxs: [256, 66, 16],
  iq2_xs: [256, 74, 17],
  iq3_xxs: [256, 98, 18],
  iq1_s: [256, 50, 19],
  iq4_nl: [32, 18, 20],
  iq3_s: [256, 110, 21],
  iq2_s: [256, 82, 22],
  iq4_xs: [256, 136, 23],
  iq1_m: [256, 56, 29],
  tq1_0: [256, 54, 34],
  tq2_0: [256, 66, 35],
  mxfp4: [32, 17, 39],
  nvfp4: [64, 36, 40],
  q1_0: [128, 18, 41],
};

/** Every storage type, in table order. */
export const STORAGE_TYPES: readonly StorageType[] = Object.freeze(Object.keys(TYPES) as StorageType[]);

/** @returns values per block and bytes per block of a type */
export function storageLayout(type: StorageType): StorageLayout {
  const [blockLength, blockBytes] = TYPES[type];
  return { blockLength, blockBytes };
}

/** @returns the type of a ggml type id (as in GGUF tensor infos); undefined for an unknown or removed id */
export function storageTypeOfGgml(id: number): StorageType | undefined {
  return STORAGE_TYPES.find((type) => TYPES[type][2] === id);
}

/** @returns the ggml type id; undefined for a type that GGUF does not have */
export function ggmlTypeOf(type: StorageType): number | undefined {
  return TYPES[type][2];
}

/** @returns the type of a safetensors dtype such as `BF16`; undefined for an unknown one */
export function storageTypeOfSafetensors(dtype: string): StorageType | undefined {
  return STORAGE_TYPES.find((type) => TYPES[type][3] === dtype);
}

/**
 * @returns the safetensors dtype such as `BF16`; undefined for a type that safetensors does not have (blocks)
 */
export function safetensorsTypeOf(type: StorageType): string | undefined {
  return TYPES[type][3];
}

/**
 * Bytes of a contiguous row-major tensor: `product(shape) / blockLength * blockBytes`.
 * @param shape row-major, non-negative integers; blocks run along the last dimension; `[]` is a scalar
 * @throws RangeError when the last dimension is not a multiple of the block length, or the length is not a
 *   safe integer
 */
export function storageByteLength(type: StorageType, shape: readonly number[]): number {
  const [blockLength, blockBytes] = TYPES[type];
  const last = shape.length === 0 ? 1 : shape[shape.length - 1];
  if (last % blockLength !== 0) {
    throw new RangeError(`expected a last dimension in whole ${type} blocks of ${blockLength}, got ${last}`);
  }
  // A product past 2^53 is inexact but still past 2^53, since factors are integers: one check at the end is
  // enough.
  let elements = 1;
  for (const dim of shape) elements *= dim;
  const bytes = (elements / blockLength) * blockBytes;
  if (!Number.isSafeInteger(elements) || !Number.isSafeInteger(bytes)) {
    throw new RangeError(`expected fewer than 2^53 bytes, got shape [${shape.join(', ')}] of ${type}`);
  }
  return bytes;
}
