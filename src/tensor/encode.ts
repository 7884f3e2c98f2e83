/**
 * Encodes and decodes numbers as bytes of a dtype. The host is little-endian, as are all platforms of Node
 * and browsers.
 */
import { decodeBlocks } from './decode-blocks.ts';
import type { DType } from './dtype.ts';
import { bfloatToNumber, halfToNumber, numberToBfloat, numberToHalf } from './half.ts';

/**
 * What `data()` and `dataSync()` return: Float32Array for f32, f16, bf16 and block types, else the typed
 * array of the dtype.
 */
export type NumericArray = Float64Array | Float32Array | Int32Array | Uint32Array | Uint8Array;

/** The bytes of `values` as `dtype`. Block types are not supported. */
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
      throw new TypeError(`encode: expected a plain dtype, got block type ${dtype}`);
  }
}

/** `size` elements of `dtype` from `bytes` (the result may alias it); narrower floats are widened to f32. */
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
