/**
 * The backend over the C kernels, native and WASM alike: it writes each call's arguments as doubles into the
 * host's call block and runs one operation. `KernelHost` holds what differs between the two: memory, files,
 * threads.
 */
import { addressOf, newStorage, release, retain, type Storage } from '../tensor/storage.ts';
import type { Backend, BackendFile, BackendName } from './backend.ts';
import { type ArgumentsOf, type Call, type CallHost, packerOf } from './calls/call.ts';
import { CALLS } from './calls/index.ts';
import { checkFileRange, checkRange, isCount, type MemoryUsage, outOfMemory } from './memory-range.ts';

/** What a build of the kernels provides. Addresses are numbers below 2^53; 0 means none. */
export interface KernelHost extends CallHost {
  readonly name: BackendName;
  readonly description: string;
  alloc(byteLength: number): number;
  free(address: number, byteLength: number): void;
  /** Bytes of live buffers, and how many there can be, where memory has a limit of its own. */
  usage?(): MemoryUsage;
  /** Reports to V8 memory that its garbage collector must free; negative when freed. */
  reportExternalMemory(byteLength: number): void;
  read(address: number, byteLength: number): Uint8Array<ArrayBuffer>;
  write(address: number, bytes: Uint8Array): void;
  /** Runs the operation on the block. */
  run(op: number): void;
  openFile(
    path: string,
    useMmap: boolean,
  ): {
    size: number;
    map(byteOffset: number, byteLength: number): MappedBytes;
    close(): void;
  };
  setThreads(threads: number): Promise<void>;
  /** Starts the threads wanted. */
  startThreads?(): Promise<void>;
}

/** Bytes of a file in the host's memory, and how to release them. */
export interface MappedBytes {
  readonly address: number;
  free(): void;
}

interface Packer {
  readonly operation: number;
  readonly pack: ReturnType<typeof packerOf>;
}

const PACKERS: ReadonlyMap<Call, Packer> = new Map(
  CALLS.map((call, operation) => [call, { operation, pack: packerOf(call) }]),
);

export class KernelBackend implements Backend {
  readonly name: BackendName;
  readonly #host: KernelHost;
  /** Storages inside mapped files or other storages; all others come from `alloc`. */
  readonly #mapped = new WeakMap<Storage, MappedBytes>();

  constructor(host: KernelHost) {
    this.name = host.name;
    this.#host = host;
  }

  get description(): string {
    return this.#host.description;
  }

  allocate(byteLength: number): Storage {
    const address = isCount(byteLength) ? this.#host.alloc(byteLength) : 0;
    if (address === 0) throw outOfMemory(this.name, byteLength, this.#host.usage?.());
    return newStorage(this, byteLength, address);
  }

  free(storage: Storage): void {
    const mapped = this.#mapped.get(storage);
    if (mapped) {
      mapped.free();
      return;
    }
    this.#host.free(addressOf(storage), storage.byteLength);
  }

  reportExternalMemory(storage: Storage, sign: 1 | -1): void {
    if (!this.#mapped.has(storage)) this.#host.reportExternalMemory(sign * storage.byteLength);
  }

  read(storage: Storage, byteOffset: number, byteLength: number): Uint8Array<ArrayBuffer> {
    checkRange('read', storage, byteOffset, byteLength);
    return this.#host.read(addressOf(storage) + byteOffset, byteLength);
  }

  write(storage: Storage, bytes: Uint8Array, byteOffset = 0): void {
    checkRange('write', storage, byteOffset, bytes.byteLength);
    this.#host.write(addressOf(storage) + byteOffset, bytes);
  }

  view(storage: Storage, byteOffset: number, byteLength: number): Storage {
    checkRange('view', storage, byteOffset, byteLength);
    const address = addressOf(storage) + byteOffset;
    const part = newStorage(this, byteLength, address);
    retain(storage);
    this.#mapped.set(part, { address, free: () => release(storage) });
    return part;
  }

  openFile(path: string, useMmap = true): BackendFile {
    const file = this.#host.openFile(path, useMmap);
    let closed = false;
    return {
      size: file.size,
      storage: (byteOffset, byteLength) => {
        if (closed) throw new Error(`${path}: read after close()`);
        checkFileRange(path, file.size, byteOffset, byteLength);
        const mapped = file.map(byteOffset, byteLength);
        const storage = newStorage(this, byteLength, mapped.address);
        this.#mapped.set(storage, mapped);
        return storage;
      },
      close() {
        if (!closed) file.close();
        closed = true;
      },
    };
  }

  setThreads(threads: number): Promise<void> {
    return this.#host.setThreads(threads);
  }

  async startThreads(): Promise<void> {
    await this.#host.startThreads?.();
  }

  run<C extends Call>(call: C, args: NoInfer<ArgumentsOf<C>>): void {
    const { operation, pack } = PACKERS.get(call) as Packer;
    pack(this.#host, args as never);
    this.#host.run(operation);
  }
}
