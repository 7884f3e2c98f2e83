/**
 * The thirteen value types of GGUF metadata. Numeric arrays become typed arrays (one copy, no boxing).
 *
 * Source: ggml/docs/gguf.md, `gguf_metadata_value_type`.
 */
import type { GgufCursor } from './gguf-cursor.ts';

/** Of a tensor: ggml's GGML_MAX_DIMS. */
export const MAX_DIMS = 4;

/** A numeric array of GGUF metadata; the class follows the stored type (64-bit integers are bigints). */
export type GgufTypedArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

/**
 * u64 and i64 are numbers while they are safe integers, and bigints beyond. A string that is not UTF-8 is its bytes: llama.cpp takes
 * such files. A reader that needs the text throws.
 */
export type GgufValue =
  | number
  | bigint
  | boolean
  | string
  | GgufTypedArray
  | readonly string[]
  | readonly boolean[]
  | readonly GgufValue[];

interface Scalar {
  readonly name: string;
  readonly bytes: number;
  readonly read: (view: DataView) => number | bigint;
  readonly array: new (buffer: ArrayBuffer) => GgufTypedArray;
}

const STRING = 8;
const BOOL = 7;
const ARRAY = 9;
const MAX_DEPTH = 4;
/** In memory a bool takes eight times its byte, a short string 40 bytes, an array 200: no file may ask for more of them than any has. */
const MAX_BOOLS = 1 << 20;
const MAX_STRINGS = 1 << 21;
const MAX_INNER_ARRAYS = 1 << 16;

const SCALARS: Readonly<Record<number, Scalar>> = {
  0: { name: 'u8', bytes: 1, read: (v) => v.getUint8(0), array: Uint8Array },
  1: { name: 'i8', bytes: 1, read: (v) => v.getInt8(0), array: Int8Array },
  2: { name: 'u16', bytes: 2, read: (v) => v.getUint16(0, true), array: Uint16Array },
  3: { name: 'i16', bytes: 2, read: (v) => v.getInt16(0, true), array: Int16Array },
  4: { name: 'u32', bytes: 4, read: (v) => v.getUint32(0, true), array: Uint32Array },
  5: { name: 'i32', bytes: 4, read: (v) => v.getInt32(0, true), array: Int32Array },
  6: { name: 'f32', bytes: 4, read: (v) => v.getFloat32(0, true), array: Float32Array },
  10: { name: 'u64', bytes: 8, read: (v) => narrow(v.getBigUint64(0, true)), array: BigUint64Array },
  11: { name: 'i64', bytes: 8, read: (v) => narrow(v.getBigInt64(0, true)), array: BigInt64Array },
  12: { name: 'f64', bytes: 8, read: (v) => v.getFloat64(0, true), array: Float64Array },
};

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** A value with the type it is stored as (`u32`, `string`, `[f32]`), which a writer needs to write it back. */
export interface TypedGgufValue {
  readonly type: string;
  readonly value: GgufValue;
}

/**
 * Reads a type id and the value after it.
 * @param key named in errors
 * @throws FormatError for an unknown type id, a count larger than the file, a bool that is not 0 or 1,
 * arrays nested more than 4 deep or more than 65,536 of them
 */
export function readGgufValue(cursor: GgufCursor, key: string): TypedGgufValue {
  return readOfType(cursor, key, cursor.u32(`type of ${key}`), 0);
}

function readOfType(cursor: GgufCursor, key: string, type: number, depth: number): TypedGgufValue {
  if (type === STRING) return { type: 'string', value: cursor.text(key) };
  if (type === BOOL) return { type: 'bool', value: readBool(cursor, key) };
  if (type === ARRAY) return readArray(cursor, key, depth);
  const scalar = SCALARS[type];
  if (scalar === undefined) {
    throw cursor.fail(cursor.at - 4, `${key}: expected a value type 0 to 12, got ${type}`);
  }
  return { type: scalar.name, value: scalar.read(cursor.view(cursor.skip(scalar.bytes, key), scalar.bytes)) };
}

function readBool(cursor: GgufCursor, key: string): boolean {
  const at = cursor.skip(1, key);
  const byte = cursor.view(at, 1).getUint8(0);
  if (byte > 1) throw cursor.fail(at, `${key}: expected a bool of 0 or 1, got ${byte}`);
  return byte === 1;
}

function readArray(cursor: GgufCursor, key: string, depth: number): TypedGgufValue {
  const typeAt = cursor.at;
  const type = cursor.u32(`element type of ${key}`);
  if (depth >= MAX_DEPTH) {
    throw cursor.fail(typeAt, `${key}: expected arrays at most ${MAX_DEPTH} deep, got a deeper one`);
  }
  const scalar = SCALARS[type];
  if (scalar !== undefined) {
    const count = cursor.itemCount(`count of ${key}`, scalar.bytes);
    const start = cursor.skip(count * scalar.bytes, key);
    return { type: `[${scalar.name}]`, value: new scalar.array(cursor.copy(start, count * scalar.bytes)) };
  }
  if (type === STRING) {
    const count = cursor.itemCount(`count of ${key}`, 8, MAX_STRINGS);
    const strings: (string | Uint8Array)[] = [];
    for (let i = 0; i < count; i++) strings.push(cursor.text(key));
    return { type: '[string]', value: strings };
  }
  if (type === BOOL) {
    const count = cursor.itemCount(`count of ${key}`, 1, MAX_BOOLS);
    const flags: boolean[] = [];
    for (let i = 0; i < count; i++) flags.push(readBool(cursor, key));
    return { type: '[bool]', value: flags };
  }
  if (type === ARRAY) {
    // Each inner array takes at least its type and its count.
    const count = cursor.itemCount(`count of ${key}`, 12, MAX_INNER_ARRAYS - cursor.innerArrays);
    cursor.innerArrays += count;
    const items: GgufValue[] = [];
    let inner = '[]';
    for (let i = 0; i < count; i++) {
      const item = readArray(cursor, key, depth + 1);
      inner = item.type;
      items.push(item.value);
    }
    return { type: `[${inner}]`, value: items };
  }
  throw cursor.fail(typeAt, `${key}: expected an element type 0 to 12, got ${type}`);
}
