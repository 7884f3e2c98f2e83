/**
 * Numbers to and from the bytes of a dtype: the one place that knows f16, bf16 and the block layouts in TypeScript.
 * Hosts are little-endian, as every platform Node and the browsers run on is.
 *
 * Source: IEEE 754 binary16; bfloat16 = upper half of binary32 (round to nearest even); ggml-common.h blocks.
 */
import { type DType, DTYPES } from './dtype.ts';

export type NumericArray = Float64Array | Float32Array | Int32Array | Uint32Array | Uint8Array;

/** One f32 and its bits. */
const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

/** f16 bits to number; exact. */
export function halfToNumber(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Number to f16 bits, rounding to nearest even; overflow gives infinity. */
export function numberToHalf(value: number): number {
  float[0] = value;
  const bits = word[0];
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal result: the value in units of 2^-24, rounded half to even.
    const units = Math.abs(value) * 2 ** 24;
    const floor = Math.floor(units);
    const rest = units - floor;
    return sign | (rest > 0.5 || (rest === 0.5 && floor & 1) ? floor + 1 : floor);
  }
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}

/** bf16 bits to number; exact. */
export function bfloatToNumber(bits: number): number {
  word[0] = bits << 16;
  return float[0];
}

/** Number to bf16 bits, rounding to nearest even. */
export function numberToBfloat(value: number): number {
  float[0] = value;
  const bits = word[0];
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The bytes of `values` as `dtype`; block types are not written here. */
export function encode(dtype: DType, values: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  const bytes = (array: ArrayBufferView<ArrayBuffer>) => new Uint8Array(array.buffer, 0, array.byteLength);
  switch (dtype) {
    case 'f64':
      return bytes(Float64Array.from(values));
    case 'f32':
      return bytes(Float32Array.from(values));
    case 'i32':
      return bytes(Int32Array.from(values));
    case 'u32':
      return bytes(Uint32Array.from(values));
    case 'u8':
      return Uint8Array.from(values);
    case 'bool':
      return Uint8Array.from(values, (value) => (value ? 1 : 0));
    case 'f16':
      return bytes(toBits(values, numberToHalf));
    case 'bf16':
      return bytes(toBits(values, numberToBfloat));
    default:
      throw new TypeError(`encode: block type ${dtype} is read, not written`);
  }
}

/** `size` elements of `dtype` from `bytes` (which it may alias): widened to f32 where the type is narrower. */
export function decode(dtype: DType, bytes: Uint8Array<ArrayBuffer>, size: number): NumericArray {
  const aligned = bytes.byteOffset % 8 === 0 ? bytes : bytes.slice();
  const { buffer, byteOffset } = aligned;
  switch (dtype) {
    case 'f64':
      return new Float64Array(buffer, byteOffset, size);
    case 'f32':
      return new Float32Array(buffer, byteOffset, size);
    case 'i32':
      return new Int32Array(buffer, byteOffset, size);
    case 'u32':
      return new Uint32Array(buffer, byteOffset, size);
    case 'u8':
    case 'bool':
      return aligned.subarray(0, size);
    case 'f16':
      return fromBits(new Uint16Array(buffer, byteOffset, size), halfToNumber);
    case 'bf16':
      return fromBits(new Uint16Array(buffer, byteOffset, size), bfloatToNumber);
    default:
      return decodeBlocks(dtype, aligned, size);
  }
}

// Plain loops: TypedArray.from with a function takes about ten times as long.
function toBits(values: ArrayLike<number>, convert: (value: number) => number): Uint16Array<ArrayBuffer> {
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) out[i] = convert(values[i]);
  return out;
}

function fromBits(values: Uint16Array, convert: (bits: number) => number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(values.length);
  for (let i = 0; i < out.length; i++) out[i] = convert(values[i]);
  return out;
}

function decodeBlocks(dtype: 'q8_0' | 'q4_0' | 'q4_1', bytes: Uint8Array, size: number): Float32Array {
  const { blockLength, blockBytes } = DTYPES[dtype];
  const out = new Float32Array(size);
  for (let block = 0; block * blockLength < size; block++) {
    const at = block * blockBytes;
    const scale = halfToNumber(bytes[at] | (bytes[at + 1] << 8));
    const base = block * blockLength;
    if (dtype === 'q8_0') {
      for (let i = 0; i < 32; i++) out[base + i] = scale * ((bytes[at + 2 + i] << 24) >> 24);
      continue;
    }
    // q4: byte i holds value i in its low half and value i + 16 in its high half.
    const min = dtype === 'q4_1' ? halfToNumber(bytes[at + 2] | (bytes[at + 3] << 8)) : -8 * scale;
    const data = at + (dtype === 'q4_1' ? 4 : 2);
    for (let i = 0; i < 16; i++) {
      out[base + i] = scale * (bytes[data + i] & 15) + min;
      out[base + 16 + i] = scale * (bytes[data + i] >> 4) + min;
    }
  }
  return out;
}
