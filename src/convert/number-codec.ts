/**
 * Weights between their stored bytes and f32, in slices: plain loops over typed arrays, since a checkpoint passes through
 * them whole. Q8_0 is written as ggml writes it, block by block.
 *
 * Source: ggml-quants.c, quantize_row_q8_0_ref.
 */
import type { StorageType } from '../format/storage-type.ts';
import { storageLayout } from '../format/storage-type.ts';
import { type DType, isDType } from '../tensor/dtype.ts';
import { decode, encode } from '../tensor/encode.ts';

const INTEGERS = /^(bool|[iu]\d+)$/;
const WRITABLE = new Set<StorageType>(['f64', 'f32', 'f16', 'bf16', 'q8_0']);

/** Whether conversion can compute with a type. */
export function isReadable(dtype: StorageType): boolean {
  return isDType(dtype) && !INTEGERS.test(dtype);
}

export function isWritable(dtype: StorageType): boolean {
  return WRITABLE.has(dtype);
}

/** Bytes of `count` values, whole blocks. */
export function bytesOf(dtype: StorageType, count: number): number {
  const { blockLength, blockBytes } = storageLayout(dtype);
  return (count / blockLength) * blockBytes;
}

/** Every f16 as a number. */
let halves: ArrayLike<number> | undefined;

let words = new Uint32Array(0);

/** At least so many words, reused: fresh memory for each slice costs as much as the work on it. */
function scratch(length: number): Uint32Array<ArrayBuffer> {
  if (words.length < length) words = new Uint32Array(length);
  return words;
}

/** The values of `bytes` (8-aligned) as numbers that are exactly theirs: to be used before the next call here. */
export function decoded(
  dtype: StorageType,
  bytes: Uint8Array<ArrayBuffer>,
  length: number,
): Float32Array | Float64Array {
  const { buffer, byteOffset } = bytes;
  if (dtype === 'f32') return new Float32Array(buffer, byteOffset, length);
  if (dtype === 'f64') return new Float64Array(buffer, byteOffset, length);
  if (dtype === 'bf16') {
    const from = new Uint16Array(buffer, byteOffset, length);
    const word = scratch(length);
    for (let i = 0; i < length; i++) word[i] = from[i] << 16;
    return new Float32Array(word.buffer, 0, length);
  }
  if (dtype === 'f16') {
    halves ??= decode('f16', new Uint8Array(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer), 65536);
    const from = new Uint16Array(buffer, byteOffset, length);
    const out = new Float32Array(scratch(length).buffer, 0, length);
    for (let i = 0; i < length; i++) out[i] = halves[from[i]];
    return out;
  }
  return Float64Array.from(decode(dtype as DType, bytes, length));
}

/** As `decoded`, into `out`: as many values as it holds. */
export function decodeInto(dtype: StorageType, bytes: Uint8Array<ArrayBuffer>, out: Float64Array): void {
  out.set(decoded(dtype, bytes, out.length));
}

/** `values` as stored bytes, rounded to nearest even (Q8_0: ggml's rounding). Returns a view of `target`. */
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
  else encodeQ8(values, out);
  return out;
}

function encodeBfloats(values: Float64Array, to: Uint16Array): void {
  const word = scratch(values.length);
  new Float32Array(word.buffer).set(values);
  for (let i = 0; i < to.length; i++) {
    const bits = word[i];
    const noNumber = (bits & 0x7fffffff) > 0x7f800000;
    to[i] = noNumber ? (bits >>> 16) | 0x40 : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
  }
}

const BLOCK = 32;
const BLOCK_BYTES = 34;

/** scale = max |x| / 127 as f16, then round(x / scale), half away from zero, with the scale before its rounding. */
function encodeQ8(values: Float64Array, out: Uint8Array): void {
  for (let block = 0; block * BLOCK < values.length; block++) {
    const from = block * BLOCK;
    let largest = 0;
    for (let i = 0; i < BLOCK; i++) largest = Math.max(largest, Math.abs(Math.fround(values[from + i])));
    const scale = Math.fround(largest / 127);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    const at = block * BLOCK_BYTES;
    out.set(encode('f16', [scale]), at);
    for (let i = 0; i < BLOCK; i++) {
      const scaled = Math.fround(Math.fround(values[from + i]) * inverse);
      const whole = Math.floor(Math.abs(scaled) + 0.5);
      out[at + 2 + i] = scaled < 0 ? -whole : whole;
    }
  }
}
