/**
 * The thirteen value types of GGUF metadata. Numeric arrays become typed arrays (one copy, no boxing).
 *
 * Source: ggml/docs/gguf.md, `gguf_metadata_value_type`.
 */
import type { GgufCursor } from './gguf-cursor.ts';

/** Most dims of a tensor: ggml's GGML_MAX_DIMS. */
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
 * u64 and i64 are numbers while they are safe integers, and bigints beyond. A string that is not UTF-8 is
 * given as its bytes, since llama.cpp accepts such files; a reader that needs the text throws.
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

/** A value with its stored type: `u32`, `string`, `[f32]`, `[[string]]`. */
export interface GgufPair {
  readonly type: string;
  readonly value: GgufValue;
}

interface ValueType {
  readonly name: string;
  /** The class of an array of such numbers. A single number is read and written as an array of one. */
  readonly array?: {
    readonly BYTES_PER_ELEMENT: number;
    new (buffer: ArrayBuffer): GgufTypedArray;
    of(...items: never[]): GgufTypedArray;
  };
  /** The fewest bytes of one item in the file. */
  readonly minBytes?: number;
  /**
   * Most items of an array. In memory a bool takes 8 bytes, a short string 40, an array 200; no known file
   * has so many.
   */
  readonly maxCount?: number;
}

/** In the order of their ids. */
export const VALUE_TYPES: readonly ValueType[] = [
  { name: 'u8', array: Uint8Array },
  { name: 'i8', array: Int8Array },
  { name: 'u16', array: Uint16Array },
  { name: 'i16', array: Int16Array },
  { name: 'u32', array: Uint32Array },
  { name: 'i32', array: Int32Array },
  { name: 'f32', array: Float32Array },
  { name: 'bool', minBytes: 1, maxCount: 1 << 20 },
  { name: 'string', minBytes: 8, maxCount: 1 << 21 },
  { name: '[]', minBytes: 12, maxCount: 1 << 16 }, // a type and a count; the most of all arrays of a file together
  { name: 'u64', array: BigUint64Array },
  { name: 'i64', array: BigInt64Array },
  { name: 'f64', array: Float64Array },
];
const [BOOL, STRING, ARRAY] = [7, 8, 9];
const MAX_DEPTH = 4;

/**
 * Reads a type id and the value after it.
 * @param key named in errors
 * @throws FormatError for an unknown type id, a count larger than the file, a bool that is not 0 or 1, arrays
 *   nested more than 4 deep or more than 65,536 of them
 */
export function readGgufValue(cursor: GgufCursor, key: string): GgufPair {
  return readOfType(cursor, key, cursor.u32(`type of ${key}`), 0);
}

function readOfType(cursor: GgufCursor, key: string, type: number, depth: number): GgufPair {
  if (type === STRING) return { type: 'string', value: cursor.text(key) };
  if (type === BOOL) return { type: 'bool', value: readBool(cursor, key) };
  if (type === ARRAY) return readArray(cursor, key, depth);
  const { name, array } = VALUE_TYPES[type] ?? {};
  if (name === undefined || array === undefined) {
    throw cursor.fail(cursor.at - 4, `${key}: expected a value type 0 to 12, got ${type}`);
  }
  const [number] = new array(cursor.copy(cursor.skip(array.BYTES_PER_ELEMENT, key), array.BYTES_PER_ELEMENT));
  return { type: name, value: Number.isSafeInteger(Number(number)) ? Number(number) : number };
}

function readBool(cursor: GgufCursor, key: string): boolean {
  const { at } = cursor;
  const byte = cursor.u8(key);
  if (byte > 1) throw cursor.fail(at, `${key}: expected a bool of 0 or 1, got ${byte}`);
  return byte === 1;
}

function readArray(cursor: GgufCursor, key: string, depth: number): GgufPair {
  const typeAt = cursor.at;
  const id = cursor.u32(`element type of ${key}`);
  if (depth >= MAX_DEPTH) {
    throw cursor.fail(typeAt, `${key}: expected arrays at most ${MAX_DEPTH} deep, got a deeper one`);
  }
  const type = VALUE_TYPES[id];
  if (type === undefined) {
    throw cursor.fail(typeAt, `${key}: expected an element type 0 to 12, got ${id}`);
  }
  const { name, array, minBytes = 1, maxCount = Number.POSITIVE_INFINITY } = type;
  if (array !== undefined) {
    const count = cursor.itemCount(`count of ${key}`, array.BYTES_PER_ELEMENT);
    const bytes = count * array.BYTES_PER_ELEMENT;
    return { type: `[${name}]`, value: new array(cursor.copy(cursor.skip(bytes, key), bytes)) };
  }
  const earlier = id === ARRAY ? cursor.innerArrays : 0;
  const count = cursor.itemCount(`count of ${key}`, minBytes, maxCount - earlier);
  if (id === ARRAY) cursor.innerArrays += count;
  const items: GgufValue[] = [];
  let inner = name;
  for (let i = 0; i < count; i++) {
    const item = readOfType(cursor, key, id, depth + 1);
    inner = item.type;
    items.push(item.value);
  }
  return { type: `[${inner}]`, value: items };
}
