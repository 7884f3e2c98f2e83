/**
 * Builds the header of a GGUF file, version 3: what `readGgufHeader` reads, in the types it was read with.
 *
 * Source: ggml/docs/gguf.md.
 */
import { type GgufTypedArray, type GgufValue, MAX_DIMS } from './gguf-value.ts';
import { ggmlTypeOf, type StorageType, storageByteLength } from './storage-type.ts';
import type { TensorInfo } from './tensor-info.ts';

/** A value with its stored type: `u32`, `string`, `[f32]`, `[[string]]`. */
export interface GgufPair {
  readonly type: string;
  readonly value: GgufValue;
}

/** A tensor to be written; shape row-major. */
export interface GgufEntry {
  readonly name: string;
  readonly dtype: StorageType;
  readonly shape: readonly number[];
}

export interface EncodedGgufHeader {
  /** Padded up to the data section. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** In the order given; offsets from the start of the file. */
  readonly tensors: readonly TensorInfo[];
  readonly alignment: number;
}

const VERSION = 3;
const DEFAULT_ALIGNMENT = 32;
const TYPE_IDS: Readonly<Record<string, number>> = {
  ...{ u8: 0, i8: 1, u16: 2, i16: 3, u32: 4, i32: 5, f32: 6, bool: 7, string: 8, u64: 10, i64: 11, f64: 12 },
};
const ARRAY = 9;

/**
 * @param metadata in file order; `general.alignment` is obeyed
 * @throws TypeError for a value type or tensor type GGUF does not have, RangeError for a name given twice
 */
export function encodeGgufHeader(
  metadata: ReadonlyMap<string, GgufPair>,
  entries: readonly GgufEntry[],
): EncodedGgufHeader {
  const out = new GgufBytes();
  const alignment = Number(metadata.get('general.alignment')?.value ?? DEFAULT_ALIGNMENT);
  if (!Number.isInteger(Math.log2(alignment)) || alignment > 2 ** 31) {
    throw new RangeError(
      `encodeGgufHeader: expected general.alignment to be a power of two, got ${alignment}`,
    );
  }
  out.text('GGUF');
  out.scalar('u32', VERSION);
  out.scalar('u64', entries.length);
  out.scalar('u64', metadata.size);
  for (const [key, { type, value }] of metadata) {
    out.string(key);
    out.typed(key, type, value);
  }
  const placed: TensorInfo[] = [];
  const seen = new Set<string>();
  let end = 0;
  for (const { name, dtype, shape } of entries) {
    const id = ggmlTypeOf(dtype);
    if (id === undefined)
      throw new TypeError(`encodeGgufHeader: ${name}: expected a type of GGUF, got ${dtype}`);
    if (seen.has(name)) throw new RangeError(`encodeGgufHeader: expected unique names, got ${name} again`);
    seen.add(name);
    if (shape.length > MAX_DIMS)
      throw new RangeError(
        `encodeGgufHeader: ${name}: expected at most ${MAX_DIMS} dims, got ${shape.length}`,
      );
    const byteLength = storageByteLength(dtype, shape);
    placed.push({ name, dtype, shape: [...shape], byteOffset: end, byteLength });
    out.string(name);
    out.scalar('u32', shape.length);
    for (const dim of [...shape].reverse()) out.scalar('u64', dim);
    out.scalar('u32', id);
    out.scalar('u64', end);
    end = Math.ceil((end + byteLength) / alignment) * alignment;
  }
  const bytes = out.padded(alignment);
  return {
    bytes,
    alignment,
    tensors: placed.map((info) => ({ ...info, byteOffset: bytes.length + info.byteOffset })),
  };
}

/** Little-endian bytes that grow. */
class GgufBytes {
  #bytes = new Uint8Array(1 << 16);
  #length = 0;

  #room(count: number): number {
    const at = this.#length;
    this.#length += count;
    if (this.#length > this.#bytes.length) {
      const wider = new Uint8Array(Math.max(this.#length, this.#bytes.length * 2));
      wider.set(this.#bytes);
      this.#bytes = wider;
    }
    return at;
  }

  #append(bytes: Uint8Array): void {
    const at = this.#room(bytes.length);
    this.#bytes.set(bytes, at);
  }

  text(ascii: string): void {
    const bytes = new TextEncoder().encode(ascii);
    this.#append(bytes);
  }

  /** @param value a text, or the bytes of one that is not UTF-8 */
  string(value: string | Uint8Array): void {
    const bytes = typeof value === 'string' ? new TextEncoder().encode(value) : value;
    this.scalar('u64', bytes.length);
    this.#append(bytes);
  }

  typed(key: string, type: string, value: GgufValue): void {
    const id = type.startsWith('[') ? ARRAY : TYPE_IDS[type];
    if (id === undefined)
      throw new TypeError(`encodeGgufHeader: ${key}: expected a type of GGUF, got ${type}`);
    this.scalar('u32', id);
    this.#value(key, type, value);
  }

  #value(key: string, type: string, value: GgufValue): void {
    if (type === 'string') this.string(value instanceof Uint8Array ? value : String(value));
    else if (type.startsWith('[')) this.#array(key, type, value);
    else this.scalar(type, value as number | bigint | boolean);
  }

  #array(key: string, type: string, value: GgufValue): void {
    const inner = type.slice(1, -1);
    const items = value as ArrayLike<GgufValue>;
    // The type of an empty array of arrays is not known further; u32 is as good as any.
    const id = inner.startsWith('[') ? ARRAY : (TYPE_IDS[inner] ?? TYPE_IDS.u32);
    this.scalar('u32', id);
    this.scalar('u64', items.length);
    if (ArrayBuffer.isView(value)) {
      const { buffer, byteOffset, byteLength } = value as GgufTypedArray;
      this.#append(new Uint8Array(buffer, byteOffset, byteLength));
      return;
    }
    for (let i = 0; i < items.length; i++) this.#value(key, inner, items[i]);
  }

  scalar(type: string, value: number | bigint | boolean): void {
    const size = { u8: 1, i8: 1, bool: 1, u16: 2, i16: 2, u64: 8, i64: 8, f64: 8 }[type] ?? 4;
    const at = this.#room(size);
    const view = new DataView(this.#bytes.buffer, at, size);
    if (type === 'u64' || type === 'i64') view.setBigInt64(0, BigInt.asIntN(64, BigInt(value)), true);
    else if (type === 'f64') view.setFloat64(0, Number(value), true);
    else if (type === 'f32') view.setFloat32(0, Number(value), true);
    else if (size === 4) view.setUint32(0, Number(value), true);
    else if (size === 2) view.setUint16(0, Number(value), true);
    else view.setUint8(0, Number(value));
  }

  padded(alignment: number): Uint8Array<ArrayBuffer> {
    const length = Math.ceil(this.#length / alignment) * alignment;
    const out = new Uint8Array(length);
    out.set(this.#bytes.subarray(0, this.#length));
    return out;
  }
}
