/**
 * Numbers to and from the bytes of a dtype. Hosts are little-endian, as every platform Node and the browsers run on is.
 */
import { decodeBlocks } from './decode-blocks.ts';
import type { DType } from './dtype.ts';
import { bfloatToNumber, halfToNumber, numberToBfloat, numberToHalf } from './half.ts';

/**
 * What `data()` and `dataSync()` return: Float32Array for f32, f16, bf16 and block types, else the array of the dtype.
 */
export type NumericArray = Float64Array | Float32Array | Int32Array | Uint32Array | Uint8Array;

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
