/**
 * The GGUF header, versions 2 and 3, little-endian: counts, metadata (with the tokenizer), tensor infos. The
 * file has the fastest dim first; shapes are given reversed, row-major as everywhere in this library.
 *
 * Source: ggml/docs/gguf.md; the checks of gguf.cpp in llama.cpp.
 */
import { type ByteSource, checkSource } from './byte-source.ts';
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
/**
 * A vocabulary takes a few MB, so a header is one read for a small model and two or three for a large one.
 */
const FIRST_WINDOW = 1 << 20;
/** The smallest key-value pair (empty key, u8) and the smallest tensor info (empty name, no dims). */
const MIN_PAIR_BYTES = 8 + 4 + 1;
const MIN_INFO_BYTES = 8 + 4 + 4 + 8;
/**
 * Most pairs, and most tensors: far more than any model has. In memory each takes ten times its bytes in the
 * file.
 */
const MAX_ITEMS = 1 << 18;

/**
 * What has been read so far. With a larger window, parsing continues at byte `at`, the end of the last whole
 * item.
 */
interface Draft {
  at: number;
  counts?: { readonly version: 2 | 3; readonly tensors: number; readonly pairs: number };
  readonly metadata: Map<string, GgufValue>;
  readonly metadataTypes: Map<string, string>;
  readonly infos: LocatedInfo[];
}

interface LocatedInfo {
  readonly info: TensorInfo;
  /** Byte of the file at which the info itself begins, for errors. */
  readonly at: number;
}

/**
 * Reads and checks the header of a GGUF file; tensor data is not read.
 * @param source read from byte 0 in a window that grows fourfold, never past the end of the file
 * @throws FormatError with the byte at fault: not a GGUF file, version 1, big-endian, a count larger than the
 *   file, an unknown value or tensor type, a name given twice, a tensor that is misaligned, overlaps another
 *   one or ends outside the file
 * Source: ggml/docs/gguf.md.
 */
export async function readGgufHeader(source: ByteSource): Promise<GgufHeader> {
  checkSource('readGgufHeader', source);
  const { name: file, size } = source;
  const draft: Draft = { at: 0, metadata: new Map(), metadataTypes: new Map(), infos: [] };
  let bytes = await source.read(0, Math.min(size, FIRST_WINDOW));
  for (;;) {
    try {
      return parse(new GgufCursor(file, bytes, size, draft.at), draft);
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

/** Continues at `draft.at`. @throws MoreBytesNeeded when the window ends inside an item */
function parse(cursor: GgufCursor, draft: Draft): GgufHeader {
  draft.counts ??= readCounts(cursor);
  draft.at = cursor.at;
  const { version, tensors: tensorCount, pairs: pairCount } = draft.counts;
  const { metadata, metadataTypes, infos } = draft;
  while (metadata.size < pairCount) {
    const at = cursor.at;
    const key = cursor.string('a metadata key');
    if (key === '') throw cursor.fail(at, 'expected a metadata key, got an empty one');
    if (metadata.has(key)) throw cursor.fail(at, `expected each metadata key once, got ${key} again`);
    const { type, value } = readGgufValue(cursor, key);
    if (key === 'general.alignment') checkAlignment(cursor, type, value, at);
    metadata.set(key, value);
    metadataTypes.set(key, type);
    draft.at = cursor.at;
  }
  while (infos.length < tensorCount) {
    infos.push({ info: readInfo(cursor), at: draft.at });
    draft.at = cursor.at;
  }
  const alignment = (metadata.get('general.alignment') as number | undefined) ?? DEFAULT_ALIGNMENT;
  const dataOffset = Math.ceil(draft.at / alignment) * alignment;
  const tensors = fileTensors(cursor, infos, alignment, dataOffset);
  return { file: cursor.file, version, metadata, metadataTypes, tensors, alignment, dataOffset };
}

function readCounts(cursor: GgufCursor): NonNullable<Draft['counts']> {
  const magic = cursor.u32('GGUF magic');
  if (magic !== MAGIC) {
    throw cursor.fail(0, `expected the magic "GGUF", got 0x${magic.toString(16).padStart(8, '0')}`);
  }
  const version = cursor.u32('GGUF version');
  if (version >= 0x10000 && (version & 0xffff) === 0) {
    const got = `a big-endian one (version ${version >>> 24})`;
    throw cursor.fail(4, `expected a little-endian GGUF file, got ${got}`);
  }
  if (version !== 2 && version !== 3) {
    throw cursor.fail(4, `expected GGUF version 2 or 3, got ${version}`);
  }
  const tensors = cursor.itemCount('tensor count', MIN_INFO_BYTES, MAX_ITEMS);
  return { version, tensors, pairs: cursor.itemCount('metadata count', MIN_PAIR_BYTES, MAX_ITEMS) };
}

function checkAlignment(cursor: GgufCursor, type: string, value: GgufValue, at: number): void {
  const ok = type === 'u32' && typeof value === 'number' && value > 0 && (value & (value - 1)) === 0;
  if (!ok)
    throw cursor.fail(at, `general.alignment: expected a u32 power of two, got ${String(value)} (${type})`);
}

/** Its offset counts from the data section, whose place is known only after the last info. */
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
  if (dtype === undefined) throw cursor.fail(typeAt, `${name}: expected a known ggml type, got id ${id}`);
  let byteLength: number;
  try {
    byteLength = storageByteLength(dtype, shape);
  } catch (error) {
    throw cursor.fail(dimsAt, `${name}: ${(error as Error).message}`);
  }
  const byteOffset = cursor.count(`offset of ${name}`);
  return { name, dtype, shape, byteOffset, byteLength };
}

/** The tensors with offsets from the start of the file. @throws FormatError for a tensor in a wrong place */
function fileTensors(
  cursor: GgufCursor,
  infos: readonly LocatedInfo[],
  alignment: number,
  dataOffset: number,
): Map<string, TensorInfo> {
  const tensors = new Map<string, TensorInfo>();
  const filled: LocatedInfo[] = [];
  for (const { info: stored, at } of infos) {
    const info = { ...stored, byteOffset: dataOffset + stored.byteOffset };
    const { name, byteOffset, byteLength } = info;
    if (stored.byteOffset % alignment !== 0) {
      const steps = `expected an offset in steps of ${alignment}`;
      throw cursor.fail(at, `${name}: ${steps}, got ${stored.byteOffset}`);
    }
    if (byteOffset + byteLength > cursor.size) {
      const got = `${byteLength} bytes at ${byteOffset} (file cut short?)`;
      throw cursor.fail(at, `${name}: expected data inside the file's ${cursor.size} bytes, got ${got}`);
    }
    if (tensors.has(name)) throw cursor.fail(at, `expected each tensor name once, got ${name} again`);
    tensors.set(name, info);
    if (byteLength > 0) filled.push({ info, at });
  }
  filled.sort((a, b) => a.info.byteOffset - b.info.byteOffset);
  for (let i = 1; i < filled.length; i++) {
    const { info: before } = filled[i - 1];
    const { info, at } = filled[i];
    const end = before.byteOffset + before.byteLength;
    if (info.byteOffset < end) {
      const expected = `expected data after ${before.name} (up to byte ${end})`;
      throw cursor.fail(at, `${info.name}: ${expected}, got byte ${info.byteOffset}`);
    }
  }
  return tensors;
}
