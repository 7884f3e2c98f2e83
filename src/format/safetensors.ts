/**
 * The safetensors header: 8 bytes of little-endian length, a JSON object `{ name: { dtype, shape, data_offsets } }`
 * padded with spaces, then the data. Every check the format asks for is made here, so that a reader may trust offsets.
 *
 * Source: safetensors README ("Format") and the validation in safetensors/src/tensor.rs.
 */
import type { ByteSource } from './byte-source.ts';
import { checkSource } from './byte-source.ts';
import { FormatError } from './format-error.ts';
import {
  type StorageType,
  safetensorsTypeOf,
  storageByteLength,
  storageLayout,
  storageTypeOfSafetensors,
} from './storage-type.ts';
import { describe, type JsonNode, JsonText } from './strict-json.ts';
import type { TensorInfo } from './tensor-info.ts';

/** What stands before the data of a safetensors file. */
export interface SafetensorsHeader {
  /** By name, in the order of the header. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The `__metadata__` object; empty when there is none. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Byte of the file at which the data begins. */
  readonly dataOffset: number;
}

/** The cap that the reference implementation sets, so that a length field cannot ask for the memory of the machine. */
const MAX_HEADER_BYTES = 100_000_000;
const PREFIX_BYTES = 8;

/**
 * Reads and checks the header of a safetensors file; the data is not read.
 * @param source two reads: 8 bytes, then the header
 * @throws FormatError with the byte at fault: a length outside the file or over 100 MB, JSON that is not JSON, a key given
 * twice, an unknown dtype, a shape that does not fill its bytes, tensors that overlap or leave a gap, data that is
 * shorter or longer than the header says
 * @returns tensors with offsets from the start of the file
 * Source: safetensors README, section "Format".
 */
export async function readSafetensorsHeader(source: ByteSource): Promise<SafetensorsHeader> {
  checkSource('readSafetensorsHeader', source);
  const { name: file, size } = source;
  if (size < PREFIX_BYTES) {
    throw new FormatError(file, size, `expected 8 bytes of header length, got a file of ${size} bytes`);
  }
  const prefix = await source.read(0, PREFIX_BYTES);
  const view = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES);
  const headerBytes = Number(view.getBigUint64(0, true));
  const limit = Math.min(MAX_HEADER_BYTES, size - PREFIX_BYTES);
  if (headerBytes < 2 || headerBytes > limit) {
    throw new FormatError(
      file,
      0,
      `expected a header of 2 to ${limit} bytes, got ${headerBytes} (not a safetensors file, or cut short)`,
    );
  }
  const bytes = await source.read(PREFIX_BYTES, headerBytes);
  if (bytes[0] !== 0x7b) {
    throw new FormatError(
      file,
      PREFIX_BYTES,
      `expected a header that starts with "{", got byte 0x${hex(bytes[0])}`,
    );
  }
  const text = new JsonText(file, bytes, PREFIX_BYTES);
  const dataOffset = PREFIX_BYTES + headerBytes;
  const tensors = new Map<string, TensorInfo>();
  const places: Place[] = [];
  let metadata: Record<string, string> = {};
  for (const [name, node] of text.parseObject()) {
    if (name === '__metadata__') {
      metadata = parseMetadata(text, node);
      continue;
    }
    const info = parseEntry(text, name, node, dataOffset, size);
    tensors.set(name, info);
    places.push({ info, at: node.at });
  }
  checkLayout(text, places, dataOffset, source);
  return { tensors, metadata, dataOffset };
}

interface Place {
  readonly info: TensorInfo;
  readonly at: number;
}

function parseMetadata(text: JsonText, node: JsonNode): Record<string, string> {
  if (!(node.value instanceof Map)) {
    throw text.fail(node.at, `__metadata__: expected an object of strings, got ${describe(node)}`);
  }
  const entries: [string, string][] = [];
  for (const [key, item] of node.value) {
    if (typeof item.value !== 'string') {
      throw text.fail(
        item.at,
        `__metadata__ ${JSON.stringify(key)}: expected a string, got ${describe(item)}`,
      );
    }
    entries.push([key, item.value]);
  }
  // fromEntries defines own properties, so a key "__proto__" is a key.
  return Object.fromEntries(entries);
}

function parseEntry(
  text: JsonText,
  name: string,
  node: JsonNode,
  dataOffset: number,
  size: number,
): TensorInfo {
  const fail = (at: number, detail: string) => text.fail(at, `tensor ${JSON.stringify(name)}: ${detail}`);
  if (!(node.value instanceof Map)) throw fail(node.at, `expected an object, got ${describe(node)}`);
  const entry: ReadonlyMap<string, JsonNode> = node.value;
  const field = (key: string): JsonNode => {
    const found = entry.get(key);
    if (found === undefined) throw fail(node.at, `expected ${key}, got none`);
    return found;
  };
  const dtypeNode = field('dtype');
  const dtype = typeof dtypeNode.value === 'string' ? storageTypeOfSafetensors(dtypeNode.value) : undefined;
  if (dtype === undefined) {
    throw fail(dtypeNode.at, `expected a dtype such as F32, F16 or BF16, got ${describe(dtypeNode)}`);
  }
  const shapeNode = field('shape');
  const shape = integers(shapeNode);
  if (shape === undefined) throw fail(shapeNode.at, 'shape: expected an array of integers in 0..2^53');
  const offsetsNode = field('data_offsets');
  const offsets = integers(offsetsNode);
  if (offsets?.length !== 2) throw fail(offsetsNode.at, 'data_offsets: expected two integers in 0..2^53');
  const [begin, end] = offsets;
  if (end < begin || dataOffset + end > size) {
    throw fail(offsetsNode.at, `expected data_offsets inside 0..${size - dataOffset}, got ${begin}..${end}`);
  }
  let byteLength: number;
  try {
    byteLength = storageByteLength(dtype, shape);
  } catch (error) {
    throw fail(shapeNode.at, (error as Error).message);
  }
  if (byteLength !== end - begin) {
    throw fail(
      offsetsNode.at,
      `expected ${byteLength} bytes for shape [${shape.join(', ')}] of ${dtype}, got ${end - begin}`,
    );
  }
  return { name, dtype, shape, byteOffset: dataOffset + begin, byteLength };
}

/** Plain digits only: `1.0` and `1e3` are no indices, and a number past 2^53 would be read inexactly. */
function integers(node: JsonNode): number[] | undefined {
  if (!Array.isArray(node.value)) return undefined;
  const numbers: number[] = [];
  for (const item of node.value as readonly JsonNode[]) {
    const raw = (item.value as { raw?: string } | null)?.raw;
    const number = raw !== undefined && /^\d+$/.test(raw) ? Number(raw) : -1;
    if (number < 0 || !Number.isSafeInteger(number)) return undefined;
    numbers.push(number);
  }
  return numbers;
}

function checkLayout(text: JsonText, places: Place[], dataOffset: number, source: ByteSource): void {
  places.sort((a, b) => a.info.byteOffset - b.info.byteOffset || a.info.byteLength - b.info.byteLength);
  let next = dataOffset;
  for (const { info, at } of places) {
    if (info.byteOffset !== next) {
      const what = info.byteOffset < next ? 'an overlap with the tensor before it' : 'a gap before it';
      throw text.fail(
        at,
        `tensor ${JSON.stringify(info.name)}: expected data at ${next - dataOffset}, got ${info.byteOffset - dataOffset}: ${what}`,
      );
    }
    next += info.byteLength;
  }
  if (next !== source.size) {
    const rest = source.size - next;
    throw new FormatError(source.name, next, `expected the end of the file, got ${rest} bytes of no tensor`);
  }
}

/** A tensor to be written. */
export interface SafetensorsEntry {
  readonly name: string;
  readonly dtype: StorageType;
  readonly shape: readonly number[];
}

/** A header ready to write, and where each tensor's data goes. */
export interface EncodedSafetensorsHeader {
  /** Length prefix, JSON and padding; a multiple of 8 bytes. The data follows directly. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** In the order of the data: wider elements first (so that each tensor is aligned), the caller's order within a width. */
  readonly tensors: readonly TensorInfo[];
}

/**
 * Builds the header of a file that holds `entries`, without gaps.
 * @param entries names unique; `__metadata__` is not a name
 * @param metadata strings for `__metadata__`; left out when empty
 * @throws TypeError for a dtype that safetensors does not have (block types), RangeError for a bad shape or name
 * Source: safetensors README, section "Format".
 */
export function encodeSafetensorsHeader(
  entries: readonly SafetensorsEntry[],
  metadata: Readonly<Record<string, string>> = {},
): EncodedSafetensorsHeader {
  const ordered = [...entries].sort(
    (a, b) => storageLayout(b.dtype).blockBytes - storageLayout(a.dtype).blockBytes,
  );
  const parts: string[] = [];
  if (Object.keys(metadata).length > 0) parts.push(`"__metadata__":${JSON.stringify(metadata)}`);
  const seen = new Set<string>(['__metadata__']);
  const placed: TensorInfo[] = [];
  let end = 0;
  for (const { name, dtype, shape } of ordered) {
    const stored = safetensorsTypeOf(dtype);
    const quoted = JSON.stringify(name);
    if (stored === undefined) {
      throw new TypeError(
        `encodeSafetensorsHeader: ${quoted}: expected a type safetensors stores, got ${dtype}`,
      );
    }
    if (seen.has(name))
      throw new RangeError(`encodeSafetensorsHeader: expected unique names, got ${quoted} again`);
    if (!shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0)) {
      throw new RangeError(
        `encodeSafetensorsHeader: ${quoted}: expected dims >= 0, got [${shape.join(', ')}]`,
      );
    }
    seen.add(name);
    const byteLength = storageByteLength(dtype, shape);
    placed.push({ name, dtype, shape: [...shape], byteOffset: end, byteLength });
    const offsets = [end, end + byteLength];
    parts.push(`${quoted}:${JSON.stringify({ dtype: stored, shape, data_offsets: offsets })}`);
    end += byteLength;
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
  const tensors = placed.map((info) => ({ ...info, byteOffset: bytes.length + info.byteOffset }));
  return { bytes, tensors };
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0');
}
