/**
 * The input of the header parsers: anything with a size and random-access reads (a file, a Blob, a URL with
 * range requests, bytes in memory). Parsers read as little as they need and nothing past `size`.
 */

/** Random-access bytes. They do not change, and `size` is fixed when the source is created. */
export interface ByteSource {
  /** What errors call the source: a path or a URL. */
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /**
   * Reads bytes `[offset, offset + length)`.
   * @param offset bytes from the start, an integer >= 0
   * @param length bytes wanted, with `offset + length <= size`
   * @throws RangeError when the range is not inside the source, FormatError when the source ends before
   *   `size`
   * @returns exactly `length` bytes; they may alias the source's memory and must not be written to
   */
  read(offset: number, length: number): Promise<Uint8Array>;
}

/**
 * A source over bytes in memory.
 * @param name what errors call it
 * @param bytes aliased, not copied
 * @returns a source whose reads are views of `bytes`
 */
export function bytesSource(name: string, bytes: Uint8Array): ByteSource {
  if (!(bytes instanceof Uint8Array)) {
    throw new TypeError(`bytesSource: expected bytes as a Uint8Array, got ${typeof bytes}`);
  }
  return {
    name,
    size: bytes.byteLength,
    async read(offset: number, length: number): Promise<Uint8Array> {
      checkRange(name, bytes.byteLength, offset, length);
      return bytes.subarray(offset, offset + length);
    },
  };
}

/** @throws TypeError unless `source` can be read. */
export function checkSource(op: string, source: ByteSource): void {
  if (typeof source?.read === 'function') return;
  throw new TypeError(`${op}: expected a source of bytes (fileSource, bytesSource), got ${typeof source}`);
}

/**
 * Checks the arguments of a read, for implementers of ByteSource.
 * @throws RangeError when `[offset, offset + length)` is not inside `[0, size)` or is not made of integers
 */
export function checkRange(name: string, size: number, offset: number, length: number): void {
  const ok = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (!ok || offset + length > size) {
    throw new RangeError(
      `${name}: expected a read inside its ${size} bytes, got ${length} bytes at byte ${offset}`,
    );
  }
}
