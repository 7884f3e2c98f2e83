/** One tensor of a header, the same for safetensors and GGUF. */
import type { StorageType } from './storage-type.ts';

/** A tensor's place in its file. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: StorageType;
  /** Row-major: the last dimension is contiguous (GGUF's dims are reversed on reading). `[]` is a scalar. */
  readonly shape: readonly number[];
  /** Bytes from the start of the file, not of the data section. */
  readonly byteOffset: number;
  /** `storageByteLength(dtype, shape)`, and inside the file. */
  readonly byteLength: number;
}

/** A tensor to be written. */
export type TensorEntry = Pick<TensorInfo, 'name' | 'dtype' | 'shape'>;
