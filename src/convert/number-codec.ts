/**
 * Weights between their stored bytes and f32, in slices: plain loops over typed arrays, for speed on whole
 * checkpoints. Block types are written block by block.
 */
import type { StorageType } from '../format/storage-type.ts';
import { storageLayout } from '../format/storage-type.ts';
import { type DType, isDType } from '../tensor/dtype.ts';
import { decode, encode } from '../tensor/encode.ts';
import { numberToBfloat } from '../tensor/half.ts';
import {
  type BlockEncoder,
  encodeQ4Block,
  encodeQ5Block,
  encodeQ5MinBlock,
  encodeQ8Block,
} from './quantize-blocks.ts';
import { encodeQ4KBlock, encodeQ5KBlock, encodeQ6KBlock } from './quantize-k.ts';

const INTEGERS = /^(bool|[iu]\d+)$/;
const FLOATS = new Set<StorageType>(['f64', 'f32', 'f16', 'bf16']);
const ENCODERS: Partial<Record<StorageType, BlockEncoder>> = {
  q4_0: encodeQ4Block,
  q5_0: encodeQ5Block,
  q5_1: encodeQ5MinBlock,
  q8_0: encodeQ8Block,
  q4_k: encodeQ4KBlock,
  q5_k: encodeQ5KBlock,
  q6_k: encodeQ6KBlock,
};

/** Whether conversion can compute with a type. */
export function isReadable(dtype: StorageType): boolean {
  return isDType(dtype) && !INTEGERS.test(dtype);
}

export function isWritable(dtype: StorageType): boolean {
  return FLOATS.has(dtype) || dtype in ENCODERS;
}

/** Bytes of `count` values, whole blocks. */
export function bytesOf(dtype: StorageType, count: number): number {
  const { blockLength, blockBytes } = storageLayout(dtype);
  return (count / blockLength) * blockBytes;
}

const tables = new Map<StorageType, Float32Array>();

/** Lookup table of the 65,536 values of a 16-bit type; undefined for other types. */
function tableOf(dtype: StorageType): Float32Array | undefined {
  if (dtype !== 'f16' && dtype !== 'bf16') return undefined;
  let table = tables.get(dtype);
  if (table === undefined) {
    const codes = Uint16Array.from({ length: 65536 }, (_, i) => i);
    table = Float32Array.from(decode(dtype, new Uint8Array(codes.buffer), 65536));
    tables.set(dtype, table);
  }
  return table;
}

let words = new Uint32Array(0);

/** A reused buffer of at least this many words: allocating one per slice takes as long as the work on it. */
function scratch(length: number): Uint32Array<ArrayBuffer> {
  if (words.length < length) words = new Uint32Array(length);
  return words;
}

/**
 * The values of `bytes` (8-aligned) as numbers, exactly. Valid until the next call here.
 */
export function decoded(
  dtype: StorageType,
  bytes: Uint8Array<ArrayBuffer>,
  length: number,
): Float32Array | Float64Array {
  const { buffer, byteOffset } = bytes;
  if (dtype === 'f32') return new Float32Array(buffer, byteOffset, length);
  if (dtype === 'f64') return new Float64Array(buffer, byteOffset, length);
  const table = tableOf(dtype);
  if (table !== undefined) {
    const codes = new Uint16Array(buffer, byteOffset, length);
    const out = new Float32Array(scratch(length).buffer, 0, length);
    for (let i = 0; i < length; i++) out[i] = table[codes[i]];
    return out;
  }
  return Float64Array.from(decode(dtype as DType, bytes, length));
}

/**
 * sum += weight * values for each of `list` (bytes, 8-aligned), in its order: as many values as `sum` holds.
 */
export function addScaled(
  dtype: StorageType,
  list: readonly Uint8Array<ArrayBuffer>[],
  weights: readonly number[],
  sum: Float64Array,
): void {
  const { length } = sum;
  const table = tableOf(dtype);
  if (table !== undefined && list.length === 4) {
    // One loop without intermediate floats in memory takes a fifth of the time.
    const [a, b, c, d] = list.map(({ buffer, byteOffset }) => new Uint16Array(buffer, byteOffset, length));
    const [wa, wb, wc, wd] = weights;
    for (let i = 0; i < length; i++) {
      sum[i] = sum[i] + wa * table[a[i]] + wb * table[b[i]] + wc * table[c[i]] + wd * table[d[i]];
    }
    return;
  }
  list.forEach((bytes, s) => {
    const values = decoded(dtype, bytes, length);
    const weight = weights[s];
    for (let i = 0; i < length; i++) sum[i] += weight * values[i];
  });
}

/** As `decoded`, into `out`: as many values as it holds. */
export function decodeInto(dtype: StorageType, bytes: Uint8Array<ArrayBuffer>, out: Float64Array): void {
  out.set(decoded(dtype, bytes, out.length));
}

/** `values` as stored bytes, rounded to nearest even, or as blocks. Returns a view of `target`. */
export function encodeInto(
  dtype: StorageType,
  values: Float64Array,
  target: Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset } = target;
  const { length } = values;
  const out = target.subarray(0, bytesOf(dtype, length));
  if (dtype === 'f32') new Float32Array(buffer, byteOffset, length).set(values);
  else if (dtype === 'f64') new Float64Array(buffer, byteOffset, length).set(values);
  else if (dtype === 'bf16') encodeBfloats(values, new Uint16Array(buffer, byteOffset, length));
  else if (dtype === 'f16') out.set(encode('f16', values));
  else encodeBlocks(dtype, values, out);
  return out;
}

function encodeBfloats(values: Float64Array, to: Uint16Array): void {
  const { length } = to;
  for (let i = 0; i < length; i++) to[i] = numberToBfloat(values[i]);
}

function encodeBlocks(dtype: StorageType, values: Float64Array, out: Uint8Array): void {
  const encode = ENCODERS[dtype] as BlockEncoder;
  const { blockLength, blockBytes } = storageLayout(dtype);
  // ggml rounds f32 values.
  const block = new Float32Array(blockLength);
  for (let i = 0; i * blockLength < values.length; i++) {
    block.set(values.subarray(i * blockLength, (i + 1) * blockLength));
    encode(block, out.subarray(i * blockBytes, (i + 1) * blockBytes));
  }
}
