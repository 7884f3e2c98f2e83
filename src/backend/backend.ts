/**
 * The interface every backend implements: memory, files, and `run` for the kernel calls described in calls/.
 * Ops check arguments and allocate outputs; a backend does not check again. Operands are contiguous and
 * row-major unless a call takes strides; strides and offsets count elements unless a name says bytes. Outputs
 * never overlap inputs unless the call says "in place".
 *
 * Three implementations: `native` and `wasm` (the C kernels, src/backend/kernel-backend.ts) and `reference`
 * (plain TypeScript with f64 accumulation, the oracle).
 */
import type { Storage, StorageOwner } from '../tensor/storage.ts';
import type { ArgumentsOf, Call } from './calls/call.ts';

/**
 * `native` and `wasm` run the C kernels; `reference` is plain TypeScript in double precision, slow and used
 * as the oracle.
 */
export type BackendName = 'native' | 'wasm' | 'reference';

/**
 * An open file of tensor data: memory-mapped by the native backend by default, read in slices by the others.
 */
export interface BackendFile {
  readonly size: number;
  /** The bytes from `byteOffset` as storage; stays valid after `close()`. */
  storage(byteOffset: number, byteLength: number): Storage;
  close(): void;
}

export interface Backend extends StorageOwner {
  readonly name: BackendName;
  /** For display: instruction set and threads, such as `native (avx512, 2 threads)`. */
  readonly description: string;

  /** Uninitialised memory. @throws RangeError when out of memory. */
  allocate(byteLength: number): Storage;
  write(storage: Storage, bytes: Uint8Array, byteOffset?: number): void;
  /** A part of a storage, which stays allocated until all its parts are freed too. */
  view(storage: Storage, byteOffset: number, byteLength: number): Storage;
  /** @param useMmap false reads it into memory instead of mapping it; for backends that map */
  openFile(path: string, useMmap?: boolean): BackendFile;
  /**
   * Number of threads kernels may use, the calling one included. No effect on the reference backend. It takes
   * effect before this returns on the native backend, and when the promise resolves on WASM.
   */
  setThreads(threads: number): Promise<void>;
  /** Starts the threads wanted; without it they start with the first call that has work for them. */
  startThreads(): Promise<void>;

  /** Runs a kernel. @throws UnsupportedError for a dtype that the kernel does not support */
  run<C extends Call>(call: C, args: NoInfer<ArgumentsOf<C>>): void;
}
