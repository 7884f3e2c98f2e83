/** Checks of byte ranges, made by all backends before they access memory or a file. */
import { isFreed, type Storage } from '../tensor/storage.ts';
import { unfreedAdvice } from '../tensor/unfreed-bytes.ts';

/**
 * Whether this is a valid byte count: above 2^53 a number is not exact, and in C a negative one becomes
 * large.
 */
export function isCount(byteLength: number): boolean {
  return Number.isSafeInteger(byteLength) && byteLength >= 0;
}

/** Memory of a backend with a limit of its own, in bytes. */
export interface MemoryUsage {
  readonly inUse: number;
  readonly limit: number;
}

export function outOfMemory(backend: string, byteLength: number, usage?: MemoryUsage): RangeError {
  const numbers = usage ? `, ${usage.inUse} of at most ${usage.limit} in use` : '';
  return new RangeError(
    `${backend}: out of memory allocating ${byteLength} bytes${numbers}${unfreedAdvice()}`,
  );
}

/** @throws RangeError unless the range lies in the storage; Error when the storage was freed */
export function checkRange(op: string, storage: Storage, byteOffset: number, byteLength: number): void {
  if (isFreed(storage))
    throw new Error(`${op}: expected live memory, got ${storage.byteLength} bytes after they were freed`);
  if (isCount(byteOffset) && isCount(byteLength) && byteOffset + byteLength <= storage.byteLength) return;
  throw new RangeError(
    `${op}: expected a range inside ${storage.byteLength} bytes, got ${byteLength} bytes from ${byteOffset} on`,
  );
}

/** @throws RangeError unless the range lies in a file of `size` bytes */
export function checkFileRange(path: string, size: number, byteOffset: number, byteLength: number): void {
  if (isCount(byteOffset) && isCount(byteLength) && byteOffset + byteLength <= size) return;
  throw new RangeError(
    `${path}: expected a range inside ${size} bytes, got bytes ${byteOffset} to ${byteOffset + byteLength}`,
  );
}
