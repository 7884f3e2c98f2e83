/**
 * The safetensors header: 8 bytes of little-endian length, then a JSON object
 * `{ name: { dtype, shape, data_offsets } }` padded with spaces; the data follows. All checks that the format
 * requires are made here, so readers can trust offsets.
 *
 * Source: safetensors README ("Format") and the validation in safetensors/src/tensor.rs.
 */
import { type ByteSource, checkSource } from './byte-source.ts';
import { FormatError } from './format-error.ts';
import { JsonReader } from './json-reader.ts';
import {
  type StorageType,
  safetensorsTypeOf,
  storageByteLength,
  storageLayout,
  storageTypeOfSafetensors,
} from './storage-type.ts';
import type { TensorEntry, TensorInfo } from './tensor-info.ts';

/** What stands before the data of a safetensors file. */
export interface SafetensorsHeader {
  /** By name, in the order of the header. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The `__metadata__` object; empty when there is none. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Byte of the file at which the data begins. */
  readonly dataOffset: number;
}

/** The limit of the reference implementation. Without one, a wrong length could exhaust memory. */
const MAX_HEADER_BYTES = 100_000_000;
const PREFIX_BYTES = 8;
/**
 * Most tensors: far more than any model has. Each takes at least 50 bytes of header and four times that in
 * memory.
 */
const MAX_ITEMS = 1 << 18;
const MAX_DIMS = 64;

/**
 * Reads and checks the header of a safetensors file; the data is not read.
 * @param source two reads: 8 bytes, then the header
 * @throws FormatError with the byte at fault: a length outside the file or over 100 MB, invalid JSON, a key
 *   given twice, an unknown dtype, a shape that does not match its bytes, tensors that overlap or leave a
 *   gap, data that is shorter or longer than the header says
 * @returns tensors with offsets from the start of the file
 * Source: safetensors README, section "Format".
 */
export async function readSafetensorsHeader(source: ByteSource): Promise<SafetensorsHeader> {
  checkSource('readSafetensorsHeader', source);
  const { name: file, size } = source;
  const fail = (at: number, detail: string) => new FormatError(file, at, detail);
  if (size < PREFIX_BYTES) {
    throw fail(size, `expected 8 bytes of header length, got a file of ${size} bytes`);
  }
  const prefix = await source.read(0, PREFIX_BYTES);
  const view = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES);
  const headerBytes = Number(view.getBigUint64(0, true));
  const limit = Math.min(MAX_HEADER_BYTES, size - PREFIX_BYTES);
  if (headerBytes < 2 || headerBytes > limit) {
    const got = `${headerBytes} (not a safetensors file, or cut short)`;
    throw fail(0, `expected a header of 2 to ${limit} bytes, got ${got}`);
  }
  const bytes = await source.read(PREFIX_BYTES, headerBytes);
  if (bytes[0] !== 0x7b) {
    const got = `byte 0x${bytes[0].toString(16).padStart(2, '0')}`;
    throw fail(PREFIX_BYTES, `expected a header that starts with "{", got ${got}`);
  }
  const json = new JsonReader(file, bytes, PREFIX_BYTES);
  const dataOffset = PREFIX_BYTES + headerBytes;
  const tensors = new Map<string, TensorInfo>();
  const located: LocatedInfo[] = [];
  let metadata: Record<string, string> = {};
  json.object((name, at) => {
    if (name === '__metadata__') {
      metadata = readMetadata(json, at);
      return;
    }
    if (tensors.size === MAX_ITEMS) throw json.fail(at, `expected at most ${MAX_ITEMS} tensors, got more`);
    const info = readEntry(json, name, at, dataOffset, size);
    tensors.set(name, info);
    located.push({ info, at });
  });
  json.end();
  checkLayout(json, located, dataOffset, source);
  return { tensors, metadata, dataOffset };
}

interface LocatedInfo {
  readonly info: TensorInfo;
  /** Index of its entry in the JSON text, for errors. */
  readonly at: number;
}

function readMetadata(json: JsonReader, at: number): Record<string, string> {
  const entries: [string, string][] = [];
  const isObject = json.object((key, itemAt) => {
    const value = json.string();
    if (value === undefined) {
      const got = json.describe(itemAt);
      throw json.fail(itemAt, `__metadata__ ${JSON.stringify(key)}: expected a string, got ${got}`);
    }
    if (entries.push([key, value]) > MAX_ITEMS) {
      throw json.fail(itemAt, `__metadata__: expected at most ${MAX_ITEMS} strings, got more`);
    }
  });
  if (!isObject) {
    throw json.fail(at, `__metadata__: expected an object of strings, got ${json.describe(at)}`);
  }
  // fromEntries defines own properties, so a key "__proto__" is a key.
  return Object.fromEntries(entries);
}

function readEntry(json: JsonReader, name: string, at: number, dataOffset: number, size: number): TensorInfo {
  const fail = (where: number, detail: string) =>
    json.fail(where, `tensor ${JSON.stringify(name)}: ${detail}`);
  let dtype: StorageType | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  let shapeAt = at;
  let offsetsAt = at;
  const isObject = json.object((key, valueAt) => {
    if (key === 'dtype') {
      const stored = json.string();
      dtype = stored === undefined ? undefined : storageTypeOfSafetensors(stored);
      if (dtype === undefined) {
        throw fail(valueAt, `expected a dtype such as F32, F16 or BF16, got ${json.describe(valueAt)}`);
      }
    } else if (key === 'shape') {
      shapeAt = valueAt;
      shape = json.integers(MAX_DIMS);
      if (!shape) {
        throw fail(valueAt, `shape: expected an array of integers in 0..2^53, at most ${MAX_DIMS} of them`);
      }
    } else if (key === 'data_offsets') {
      offsetsAt = valueAt;
      offsets = json.integers(2);
      if (offsets?.length !== 2) throw fail(valueAt, 'data_offsets: expected two integers in 0..2^53');
    } else json.skip();
  });
  if (!isObject) throw fail(at, `expected an object, got ${json.describe(at)}`);
  if (!dtype || !shape || !offsets) {
    throw fail(at, `expected ${!dtype ? 'dtype' : !shape ? 'shape' : 'data_offsets'}, got none`);
  }
  const [begin, end] = offsets;
  if (end < begin || dataOffset + end > size) {
    throw fail(offsetsAt, `expected data_offsets inside 0..${size - dataOffset}, got ${begin}..${end}`);
  }
  let byteLength: number;
  try {
    byteLength = storageByteLength(dtype, shape);
  } catch (error) {
    throw fail(shapeAt, (error as Error).message);
  }
  if (byteLength !== end - begin) {
    throw fail(
      offsetsAt,
      `expected ${byteLength} bytes for shape [${shape.join(', ')}] of ${dtype}, got ${end - begin}`,
    );
  }
  return { name, dtype, shape, byteOffset: dataOffset + begin, byteLength };
}

/** @throws FormatError unless the tensors fill the data section without gaps */
function checkLayout(json: JsonReader, located: LocatedInfo[], dataOffset: number, source: ByteSource): void {
  located.sort((a, b) => a.info.byteOffset - b.info.byteOffset || a.info.byteLength - b.info.byteLength);
  let next = dataOffset;
  for (const { info, at } of located) {
    if (info.byteOffset !== next) {
      const what = info.byteOffset < next ? 'an overlap with the tensor before it' : 'a gap before it';
      const got = `${info.byteOffset - dataOffset}: ${what}`;
      const expected = `expected data at ${next - dataOffset}`;
      throw json.fail(at, `tensor ${JSON.stringify(info.name)}: ${expected}, got ${got}`);
    }
    next += info.byteLength;
  }
  if (next !== source.size) {
    const rest = source.size - next;
    throw new FormatError(source.name, next, `expected the end of the file, got ${rest} more bytes`);
  }
}

/** A header ready to write, and the place of each tensor's data. */
export interface EncodedSafetensorsHeader {
  /** Length prefix, JSON and padding; a multiple of 8 bytes. The data follows directly. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /**
   * In the order of the data: wider elements first, so that each tensor is aligned; else the caller's order.
   */
  readonly tensors: readonly TensorInfo[];
}

/**
 * Builds the header of a file that holds `entries`, without gaps.
 * @param entries names unique; `__metadata__` is not a name
 * @param metadata strings for `__metadata__`; left out when empty
 * @throws TypeError for a dtype that safetensors does not have (block types), RangeError for a bad shape or
 *   name
 * Source: safetensors README, section "Format".
 */
export function encodeSafetensorsHeader(
  entries: readonly TensorEntry[],
  metadata: Readonly<Record<string, string>> = {},
): EncodedSafetensorsHeader {
  const ordered = [...entries].sort(
    (a, b) => storageLayout(b.dtype).blockBytes - storageLayout(a.dtype).blockBytes,
  );
  const parts: string[] = [];
  if (Object.keys(metadata).length > 0) parts.push(`"__metadata__":${JSON.stringify(metadata)}`);
  const infos = new Map<string, TensorInfo>();
  let dataEnd = 0;
  for (const { name, dtype, shape } of ordered) {
    const stored = safetensorsTypeOf(dtype);
    const quoted = JSON.stringify(name);
    const fail = (detail: string) => `encodeSafetensorsHeader: ${quoted}: ${detail}`;
    if (stored === undefined) throw new TypeError(fail(`expected a type of safetensors, got ${dtype}`));
    if (infos.has(name) || name === '__metadata__') {
      throw new RangeError(fail(`expected unique names, got ${quoted} again`));
    }
    if (!shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0)) {
      throw new RangeError(fail(`expected dims >= 0, got [${shape.join(', ')}]`));
    }
    const byteLength = storageByteLength(dtype, shape);
    infos.set(name, { name, dtype, shape: [...shape], byteOffset: dataEnd, byteLength });
    const offsets = [dataEnd, dataEnd + byteLength];
    parts.push(`${quoted}:${JSON.stringify({ dtype: stored, shape, data_offsets: offsets })}`);
    dataEnd += byteLength;
  }
  const json = new TextEncoder().encode(`{${parts.join(',')}}`);
  const headerBytes = Math.ceil(json.length / 8) * 8;
  if (headerBytes > MAX_HEADER_BYTES) {
    throw new RangeError(
      `encodeSafetensorsHeader: expected at most 100 MB of header, got ${headerBytes} bytes`,
    );
  }
  const bytes = new Uint8Array(PREFIX_BYTES + headerBytes).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes), true);
  bytes.set(json, PREFIX_BYTES);
  const fromStart = (info: TensorInfo) => ({ ...info, byteOffset: bytes.length + info.byteOffset });
  return { bytes, tensors: [...infos.values()].map(fromStart) };
}
