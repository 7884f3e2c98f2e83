/**
 * The GGUF header, versions 2 and 3, little-endian: counts, metadata (which carries the tokenizer), tensor infos. Tensor
 * dims are stored fastest first and come out reversed, so shapes here are row-major like everyone else's.
 *
 * Source: ggml/docs/gguf.md; the checks of gguf.cpp in llama.cpp.
 */
import type { ByteSource } from './byte-source.ts';
import { checkSource } from './byte-source.ts';
import { FormatError } from './format-error.ts';
import { GgufCursor, MoreBytesNeeded } from './gguf-cursor.ts';
import { type GgufValue, MAX_DIMS, readGgufValue } from './gguf-value.ts';
import { storageByteLength, storageTypeOfGgml } from './storage-type.ts';
import type { TensorInfo } from './tensor-info.ts';

export type { GgufTypedArray, GgufValue } from './gguf-value.ts';

/** What stands before the data of a GGUF file. */
export interface GgufHeader {
  /** The source's name, for errors about its values. */
  readonly file: string;
  /** GGUF version of the file, 2 or 3. */
  readonly version: 2 | 3;
  /** By key, in file order. */
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** The stored type of each key (`u32`, `string`, `[f32]`, …), for writing it back. */
  readonly metadataTypes: ReadonlyMap<string, string>;
  /** By name, in file order; offsets from the start of the file. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Bytes to which tensor data is aligned: `general.alignment`, 32 by default. */
  readonly alignment: number;
  /** Byte of the file at which tensor data begins. */
  readonly dataOffset: number;
}

const MAGIC = 0x46554747;
const DEFAULT_ALIGNMENT = 32;
/** First window. Vocabularies take a few MB, so a header is one read for a small model and two or three for a large one. */
const FIRST_WINDOW = 1 << 20;
/** The least a key-value pair takes (empty key, u8) and a tensor info (empty name, no dims). */
const MIN_PAIR_BYTES = 8 + 4 + 1;
const MIN_INFO_BYTES = 8 + 4 + 4 + 8;
/** In memory each takes ten times that; no model has so many of either. */
const MAX_ITEMS = 1 << 18;

interface Draft {
  version: 2 | 3;
  tensorCount: number;
  pairCount: number;
  metadata: Map<string, GgufValue>;
  metadataTypes: Map<string, string>;
  infos: RawInfo[];
}

interface RawInfo {
  readonly info: TensorInfo;
  /** Where the info stands in the file. */
  readonly at: number;
}

/**
 * Reads and checks the header of a GGUF file; tensor data is not read.
 * @param source read from byte 0 in a window that grows fourfold, never past the end of the file
 * @throws FormatError with the byte at fault: no GGUF, version 1, big-endian, a count larger than the file, an unknown
 * value or tensor type, a name given twice, a tensor outside of the file, misaligned or over another one
 * Source: ggml/docs/gguf.md.
 */
export async function readGgufHeader(source: ByteSource): Promise<GgufHeader> {
  checkSource('readGgufHeader', source);
  const { name: file, size } = source;
  const draft: Draft = {
    version: 3,
    tensorCount: -1,
    pairCount: -1,
    metadata: new Map(),
    metadataTypes: new Map(),
    infos: [],
  };
  let bytes = await source.read(0, Math.min(size, FIRST_WINDOW));
  let done = 0;
  for (;;) {
    const cursor = new GgufCursor(file, bytes, size, done);
    try {
      parse(cursor, draft, (at) => {
        done = at;
      });
      return finish(draft, file, size, done);
    } catch (error) {
      if (!(error instanceof MoreBytesNeeded)) throw error;
      bytes = await widen(source, bytes, Math.min(size, Math.max(error.end, bytes.length * 4)));
    }
  }
}

async function widen(source: ByteSource, bytes: Uint8Array, end: number): Promise<Uint8Array> {
  const wider = new Uint8Array(end);
  wider.set(bytes);
  wider.set(await source.read(bytes.length, end - bytes.length), bytes.length);
  return wider;
}

/** Goes on where `draft` stands; `commit` marks each finished item, so that a retry repeats at most one. */
function parse(cursor: GgufCursor, draft: Draft, commit: (at: number) => void): void {
  if (draft.pairCount < 0) {
    readCounts(cursor, draft);
    commit(cursor.at);
  }
  while (draft.metadata.size < draft.pairCount) {
    const at = cursor.at;
    const key = cursor.string('a metadata key');
    if (key === '') throw cursor.fail(at, 'expected a metadata key, got an empty one');
    if (draft.metadata.has(key)) throw cursor.fail(at, `expected each metadata key once, got ${key} again`);
    const { type, value } = readGgufValue(cursor, key);
    if (key === 'general.alignment') checkAlignment(cursor, type, value, at);
    draft.metadata.set(key, value);
    draft.metadataTypes.set(key, type);
    commit(cursor.at);
  }
  while (draft.infos.length < draft.tensorCount) {
    const at = cursor.at;
    draft.infos.push({ info: readInfo(cursor), at });
    commit(cursor.at);
  }
}

function readCounts(cursor: GgufCursor, draft: Draft): void {
  const magic = cursor.u32('GGUF magic');
  if (magic !== MAGIC) {
    throw cursor.fail(0, `expected the magic "GGUF", got 0x${magic.toString(16).padStart(8, '0')}`);
  }
  const version = cursor.u32('GGUF version');
  if (version >= 0x10000 && (version & 0xffff) === 0) {
    throw cursor.fail(
      4,
      `expected a little-endian GGUF file, got a big-endian one (version ${version >>> 24})`,
    );
  }
  if (version !== 2 && version !== 3) {
    throw cursor.fail(4, `expected GGUF version 2 or 3, got ${version}`);
  }
  draft.version = version;
  const tensorCount = cursor.itemCount('tensor count', MIN_INFO_BYTES, MAX_ITEMS);
  const pairCount = cursor.itemCount('metadata count', MIN_PAIR_BYTES, MAX_ITEMS);
  draft.tensorCount = tensorCount;
  draft.pairCount = pairCount;
}

function checkAlignment(cursor: GgufCursor, type: string, value: GgufValue, at: number): void {
  const ok = type === 'u32' && typeof value === 'number' && value > 0 && (value & (value - 1)) === 0;
  if (!ok)
    throw cursor.fail(at, `general.alignment: expected a u32 power of two, got ${String(value)} (${type})`);
}

/** The offset is still relative to the data section: that begins after the last info. */
function readInfo(cursor: GgufCursor): TensorInfo {
  const nameAt = cursor.at;
  const name = cursor.string('a tensor name');
  if (name === '') throw cursor.fail(nameAt, 'expected a tensor name, got an empty one');
  const dimsAt = cursor.at;
  const numDims = cursor.u32(`dims of ${name}`);
  if (numDims > MAX_DIMS)
    throw cursor.fail(dimsAt, `${name}: expected at most ${MAX_DIMS} dims, got ${numDims}`);
  const shape: number[] = [];
  for (let i = 0; i < numDims; i++) shape.unshift(cursor.count(`dims of ${name}`));
  const typeAt = cursor.at;
  const id = cursor.u32(`type of ${name}`);
  const dtype = storageTypeOfGgml(id);
  if (dtype === undefined)
    throw cursor.fail(typeAt, `${name}: expected a ggml type this reader knows, got id ${id}`);
  let byteLength: number;
  try {
    byteLength = storageByteLength(dtype, shape);
  } catch (error) {
    throw cursor.fail(dimsAt, `${name}: ${(error as Error).message}`);
  }
  const byteOffset = cursor.count(`offset of ${name}`);
  return { name, dtype, shape, byteOffset, byteLength };
}

function finish(draft: Draft, file: string, size: number, headerEnd: number): GgufHeader {
  const alignment = (draft.metadata.get('general.alignment') as number | undefined) ?? DEFAULT_ALIGNMENT;
  const dataOffset = Math.ceil(headerEnd / alignment) * alignment;
  const tensors = new Map<string, TensorInfo>();
  const places: RawInfo[] = [];
  for (const { info, at } of draft.infos) {
    const { name, byteLength } = info;
    const byteOffset = dataOffset + info.byteOffset;
    if (info.byteOffset % alignment !== 0) {
      throw new FormatError(
        file,
        at,
        `${name}: expected an offset in steps of ${alignment}, got ${info.byteOffset}`,
      );
    }
    if (byteOffset + byteLength > size) {
      throw new FormatError(
        file,
        at,
        `${name}: expected data inside the file's ${size} bytes, got ${byteLength} bytes at ${byteOffset} (file cut short?)`,
      );
    }
    if (tensors.has(name))
      throw new FormatError(file, at, `expected each tensor name once, got ${name} again`);
    const placed = { ...info, byteOffset };
    tensors.set(name, placed);
    if (byteLength > 0) places.push({ info: placed, at });
  }
  places.sort((a, b) => a.info.byteOffset - b.info.byteOffset);
  for (let i = 1; i < places.length; i++) {
    const before = places[i - 1].info;
    const { info, at } = places[i];
    if (before.byteOffset + before.byteLength > info.byteOffset) {
      throw new FormatError(
        file,
        at,
        `${info.name}: expected data after ${before.name} (up to byte ${before.byteOffset + before.byteLength}), got byte ${info.byteOffset}`,
      );
    }
  }
  const { version, metadata, metadataTypes } = draft;
  return { file, version, metadata, metadataTypes, tensors, alignment, dataOffset };
}
