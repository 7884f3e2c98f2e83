/**
 * Element types of tensors. Plain types have a fixed size per element; block types, as in GGML, store 32
 * values of a row (`q8_0`, `q4_0` …) or 256 (`q4_k`, `q6_k` …) with their scales, so a row must be a multiple
 * of the block.
 *
 * Source: ggml-common.h block layouts (block_q4_0 to block_iq4_xs, block_mxfp4).
 */
import { describe } from '../arguments/kinds.ts';

/** Types with a fixed size per element. f64 exists only on the reference backend. */
export type PlainDType = 'f64' | 'f32' | 'f16' | 'bf16' | 'i32' | 'u32' | 'u8' | 'bool';
/**
 * GGML's block types: 32 values of a row (`_k` and `iq4_xs`: 256) with their scales, so a row must be a
 * multiple of the block.
 */
export type BlockDType =
  | ('q8_0' | 'q4_0' | 'q4_1' | 'q5_0' | 'q5_1' | 'iq4_nl' | 'mxfp4')
  | ('q2_k' | 'q3_k' | 'q4_k' | 'q5_k' | 'q6_k' | 'iq4_xs');
/** The element type of a tensor. */
export type DType = PlainDType | BlockDType;

/** Values and bytes per block; plain types have blocks of one value. */
export const DTYPES: Readonly<Record<DType, { blockLength: number; blockBytes: number }>> = {
  f64: { blockLength: 1, blockBytes: 8 },
  f32: { blockLength: 1, blockBytes: 4 },
  f16: { blockLength: 1, blockBytes: 2 },
  bf16: { blockLength: 1, blockBytes: 2 },
  i32: { blockLength: 1, blockBytes: 4 },
  u32: { blockLength: 1, blockBytes: 4 },
  u8: { blockLength: 1, blockBytes: 1 },
  bool: { blockLength: 1, blockBytes: 1 },
  q8_0: { blockLength: 32, blockBytes: 34 },
  q4_0: { blockLength: 32, blockBytes: 18 },
  q4_1: { blockLength: 32, blockBytes: 20 },
  q5_0: { blockLength: 32, blockBytes: 22 },
  q5_1: { blockLength: 32, blockBytes: 24 },
  q4_k: { blockLength: 256, blockBytes: 144 },
  q5_k: { blockLength: 256, blockBytes: 176 },
  q6_k: { blockLength: 256, blockBytes: 210 },
  q2_k: { blockLength: 256, blockBytes: 84 },
  q3_k: { blockLength: 256, blockBytes: 110 },
  iq4_xs: { blockLength: 256, blockBytes: 136 },
  iq4_nl: { blockLength: 32, blockBytes: 18 },
  mxfp4: { blockLength: 32, blockBytes: 17 },
};

/** Type guard for the dtypes of this library. */
export function isDType(name: unknown): name is DType {
  return typeof name === 'string' && Object.hasOwn(DTYPES, name);
}

/** @throws The check of dtype options. @throws TypeError unless `value` is a dtype */
export function aDType(op: string, name: string, value: DType): void {
  if (isDType(value)) return;
  const got = typeof value === 'string' ? JSON.stringify(value) : describe(value);
  throw new TypeError(`${op}: expected ${name} to be one of ${Object.keys(DTYPES).join(', ')}, got ${got}`);
}

/** True for the block-quantised types. */
export function isBlockDType(dtype: DType): dtype is BlockDType {
  return DTYPES[dtype].blockLength > 1;
}

/** Bytes of `elements` values of `dtype`; for block types a multiple of the block. */
export function byteLengthOf(dtype: DType, elements: number): number {
  const { blockLength, blockBytes } = DTYPES[dtype];
  return (elements / blockLength) * blockBytes;
}
