/**
 * A position in the first bytes of a GGUF file. Reading is synchronous over a window of bytes. When the
 * window ends inside the file it throws MoreBytesNeeded, and the caller reads a larger window and repeats the
 * last item. (Awaiting every field would cost more than parsing it.) Little-endian throughout.
 */
import { FormatError } from './format-error.ts';

/**
 * The largest real headers (vocabularies of 262,144 tokens) take 15 MB. Without a bound, a wrong length in a
 * huge file could exhaust memory.
 */
const MAX_HEADER_BYTES = 1 << 26;

/** Not a fault of the file: parsing needs the bytes up to `end`. */
export class MoreBytesNeeded extends Error {
  readonly end: number;
  constructor(end: number) {
    super(`a window up to byte ${end} is needed`);
    this.end = end;
  }
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export class GgufCursor {
  readonly file: string;
  /** Size of the file in bytes. */
  readonly size: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** Bytes from the start of the file. */
  at: number;
  /** Arrays inside arrays that have been read so far. */
  innerArrays = 0;

  /**
   * @param bytes the file from byte 0 up to the end of the window; aliased
   * @param size of the whole file
   * @param at where to start
   */
  constructor(file: string, bytes: Uint8Array, size: number, at: number) {
    this.file = file;
    this.size = size;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = at;
  }

  fail(at: number, detail: string): FormatError {
    return new FormatError(this.file, at, detail);
  }

  /** Moves past `length` bytes and returns where they began; `what` names them in the error. */
  skip(length: number, what: string): number {
    const start = this.at;
    const end = start + length;
    if (end > this.size) {
      const rest = this.size - start;
      throw this.fail(start, `expected ${length} bytes of ${what}, got ${rest} before the end of the file`);
    }
    if (end > MAX_HEADER_BYTES) {
      const limit = `expected a header below ${MAX_HEADER_BYTES} bytes`;
      throw this.fail(start, `${limit}, got ${length} bytes of ${what}`);
    }
    if (end > this.#bytes.length) throw new MoreBytesNeeded(end);
    this.at = end;
    return start;
  }

  u8(what: string): number {
    return this.#bytes[this.skip(1, what)];
  }

  u32(what: string): number {
    return this.#view.getUint32(this.skip(4, what), true);
  }

  /** A count or an offset stored as u64: an integer below 2^53. */
  count(what: string): number {
    const start = this.skip(8, what);
    const value = Number(this.#view.getBigUint64(start, true));
    if (Number.isSafeInteger(value)) return value;
    throw this.fail(start, `expected ${what} below 2^53, got about ${value}`);
  }

  /**
   * A count of items of at least `minBytes` each: at most `maxCount`, and no more than the rest of the file
   * can hold.
   */
  itemCount(what: string, minBytes: number, maxCount: number = Number.POSITIVE_INFINITY): number {
    const start = this.at;
    const count = this.count(what);
    const room = Math.floor((this.size - this.at) / minBytes);
    if (count > room) {
      throw this.fail(start, `expected a ${what} of at most ${room} in the rest of the file, got ${count}`);
    }
    if (count > maxCount) throw this.fail(start, `expected a ${what} of at most ${maxCount}, got ${count}`);
    return count;
  }

  /** u64 length, then UTF-8. */
  string(what: string): string {
    const at = this.at;
    const text = this.text(what);
    if (typeof text === 'string') return text;
    throw this.fail(at + 8, `expected ${what} in UTF-8, got other bytes`);
  }

  /** The same for a text that may never be needed: bytes that are not UTF-8 are returned as they are. */
  text(what: string): string | Uint8Array {
    const length = this.itemCount(`length of ${what}`, 1);
    const start = this.skip(length, what);
    try {
      return decoder.decode(this.#bytes.subarray(start, start + length));
    } catch {
      return new Uint8Array(this.copy(start, length));
    }
  }

  /** A new, aligned copy of `length` bytes from `start`. */
  copy(start: number, length: number): ArrayBuffer {
    // Not slice(): on a Node Buffer that is a view, and its buffer the whole pool.
    return new Uint8Array(this.#bytes.subarray(start, start + length)).buffer;
  }
}
