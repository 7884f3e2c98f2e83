/**
 * Builds the header of a GGUF file, version 3, from values with the types that `readGgufHeader` gives.
 *
 * Source: ggml/docs/gguf.md.
 */
import { describe, show } from '../arguments/kinds.ts';
import { type GgufPair, type GgufTypedArray, type GgufValue, MAX_DIMS, VALUE_TYPES } from './gguf-value.ts';
import { ggmlTypeOf, storageByteLength } from './storage-type.ts';
import type { TensorEntry, TensorInfo } from './tensor-info.ts';

export interface EncodedGgufHeader {
  /** Padded up to the data section. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** In the order given; offsets from the start of the file. */
  readonly tensors: readonly TensorInfo[];
  readonly alignment: number;
}

const VERSION = 3;
const DEFAULT_ALIGNMENT = 32;

/**
 * @param metadata in file order; tensors are aligned to its `general.alignment`
 * @throws TypeError for a value type or tensor type that GGUF does not have, or a value of another type than
 *   its key states; RangeError for an integer outside of its type's range, or a name given twice
 */
export function encodeGgufHeader(
  metadata: ReadonlyMap<string, GgufPair>,
  entries: readonly TensorEntry[],
): EncodedGgufHeader {
  const out = new GgufBytes();
  const alignment = Number(metadata.get('general.alignment')?.value ?? DEFAULT_ALIGNMENT);
  if (!Number.isInteger(Math.log2(alignment)) || alignment > 2 ** 31) {
    throw new RangeError(
      `encodeGgufHeader: expected general.alignment to be a power of two, got ${alignment}`,
    );
  }
  out.append(new TextEncoder().encode('GGUF'));
  out.number('u32', VERSION);
  out.number('u64', entries.length);
  out.number('u64', metadata.size);
  for (const [key, pair] of metadata) {
    if (typeof pair?.type !== 'string') {
      throw new TypeError(`encodeGgufHeader: ${key}: expected { type, value }, got ${describe(pair)}`);
    }
    out.string(key);
    out.number('u32', typeId(key, pair.type));
    out.value(key, pair.type, pair.value);
  }
  const infos = new Map<string, TensorInfo>();
  let dataEnd = 0;
  for (const { name, dtype, shape } of entries) {
    const id = ggmlTypeOf(dtype);
    const fail = (detail: string) => `encodeGgufHeader: ${name}: ${detail}`;
    if (id === undefined) throw new TypeError(fail(`expected a type of GGUF, got ${dtype}`));
    if (infos.has(name)) throw new RangeError(fail(`expected unique names, got ${name} again`));
    if (shape.length > MAX_DIMS) {
      throw new RangeError(fail(`expected at most ${MAX_DIMS} dims, got ${shape.length}`));
    }
    const byteLength = storageByteLength(dtype, shape);
    infos.set(name, { name, dtype, shape: [...shape], byteOffset: dataEnd, byteLength });
    out.string(name);
    out.number('u32', shape.length);
    for (const dim of [...shape].reverse()) out.number('u64', dim);
    out.number('u32', id);
    out.number('u64', dataEnd);
    dataEnd = Math.ceil((dataEnd + byteLength) / alignment) * alignment;
  }
  const bytes = out.padded(alignment);
  const fromStart = (info: TensorInfo) => ({ ...info, byteOffset: bytes.length + info.byteOffset });
  return { bytes, alignment, tensors: [...infos.values()].map(fromStart) };
}

/** @throws TypeError for a type that GGUF does not have */
function typeId(key: string, type: string): number {
  const id = VALUE_TYPES.findIndex(({ name }) => name === (type.startsWith('[') ? '[]' : type));
  if (id < 0) throw new TypeError(`encodeGgufHeader: ${key}: expected a type of GGUF, got ${type}`);
  return id;
}

/** @throws TypeError for a value of another kind than `type`, RangeError for an integer outside of its range */
function checkScalar(key: string, type: string, value: GgufValue): void {
  const isInteger = /^[ui]\d/.test(type);
  const isKind =
    type === 'bool'
      ? typeof value === 'boolean'
      : typeof value === 'number' || (isInteger && typeof value === 'bigint');
  if (isKind && !(isInteger && !fits(type, value as number | bigint))) return;
  const message = `encodeGgufHeader: ${key}: expected a value of type ${type}, got ${show(value)}`;
  throw isKind ? new RangeError(message) : new TypeError(message);
}

/** Whether an integer type, such as `u8`, has that value. */
function fits(type: string, value: number | bigint): boolean {
  if (typeof value === 'number' && !Number.isInteger(value)) return false;
  const bits = Number(type.slice(1));
  const exact = BigInt(value);
  return exact === (type.startsWith('u') ? BigInt.asUintN(bits, exact) : BigInt.asIntN(bits, exact));
}

/** Little-endian bytes that grow. */
class GgufBytes {
  #bytes = new Uint8Array(1 << 16);
  #length = 0;

  append(bytes: Uint8Array): void {
    const end = this.#length + bytes.length;
    if (end > this.#bytes.length) {
      const wider = new Uint8Array(Math.max(end, this.#bytes.length * 2));
      wider.set(this.#bytes);
      this.#bytes = wider;
    }
    this.#bytes.set(bytes, this.#length);
    this.#length = end;
  }

  /** @param value a text, or the bytes of one that is not UTF-8 */
  string(value: string | Uint8Array): void {
    const bytes = typeof value === 'string' ? new TextEncoder().encode(value) : value;
    this.number('u64', bytes.length);
    this.append(bytes);
  }

  number(type: string, value: number | bigint | boolean): void {
    const { array = Uint8Array } = VALUE_TYPES[typeId(type, type)];
    const item = type === 'u64' || type === 'i64' ? BigInt(value) : Number(value);
    this.#typedArray(array.of(item as never));
  }

  value(key: string, type: string, value: GgufValue): void {
    if (type.startsWith('[')) this.#array(key, type, value);
    else if (type !== 'string') {
      checkScalar(key, type, value);
      this.number(type, value as number | bigint | boolean);
    } else if (typeof value === 'string' || value instanceof Uint8Array) this.string(value);
    else throw new TypeError(`encodeGgufHeader: ${key}: expected a value of type string, got ${show(value)}`);
  }

  #array(key: string, type: string, items: GgufValue): void {
    const inner = type.slice(1, -1);
    // The inner type of an empty array of arrays is not known; any will do.
    const id = typeId(key, inner || 'u32');
    const { array } = VALUE_TYPES[id];
    const isTyped = array !== undefined && items instanceof array;
    if (!isTyped && !Array.isArray(items)) {
      throw new TypeError(
        `encodeGgufHeader: ${key}: expected a value of type ${type}, got ${describe(items)}`,
      );
    }
    this.number('u32', id);
    this.number('u64', items.length);
    if (isTyped) this.#typedArray(items);
    else for (const item of items) this.value(key, inner, item);
  }

  #typedArray({ buffer, byteOffset, byteLength }: GgufTypedArray): void {
    this.append(new Uint8Array(buffer, byteOffset, byteLength));
  }

  padded(alignment: number): Uint8Array<ArrayBuffer> {
    const out = new Uint8Array(Math.ceil(this.#length / alignment) * alignment);
    out.set(this.#bytes.subarray(0, this.#length));
    return out;
  }
}
