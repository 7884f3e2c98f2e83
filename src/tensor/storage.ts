/**
 * Reference-counted backend memory. Tensors and caches hold references (a reshape adds one); the backend
 * frees the memory when none is left.
 *
 * For programs the object is opaque: only the functions below access the address, owner and reference count,
 * so that no address or size used by kernels comes from outside.
 */
export interface StorageOwner {
  readonly name: string;
  /** A fresh copy of `byteLength` bytes from `byteOffset`. @throws RangeError outside the storage */
  read(storage: Storage, byteOffset: number, byteLength: number): Uint8Array<ArrayBuffer>;
  /** Frees the memory. Called when no reference is left. */
  free(storage: Storage): void;
  /**
   * Reports to V8 memory that its garbage collector must free (sign 1), or no longer must (-1), so that it
   * runs in time. Memory freed by a scope, a tape or an owner is not reported: that would cause more full
   * collections.
   */
  reportExternalMemory(storage: Storage, sign: 1 | -1): void;
}

/** Required by the constructor, which programs could call as `tensor.storage.constructor`. */
const MAKER = Symbol('maker');

/** Makes a storage without references. @param address an address (native), an offset (WASM), or 0 */
export function newStorage(owner: StorageOwner, byteLength: number, address: number): Storage {
  return new Storage(MAKER, owner, byteLength, address);
}

export let ownerOf: (storage: Storage) => StorageOwner;
export let addressOf: (storage: Storage) => number;
/** Adds a reference. */
export let retain: (storage: Storage) => void;
/** Removes a reference; the last one frees the memory. */
export let release: (storage: Storage) => void;
/** Whether there is more than one reference. The holder of the only one may overwrite the memory. */
export let isShared: (storage: Storage) => boolean;
/** Whether the memory was freed. */
export let isFreed: (storage: Storage) => boolean;

/** A piece of a backend's memory. Opaque to programs. */
export class Storage {
  readonly #owner: StorageOwner;
  readonly #byteLength: number;
  readonly #address: number;
  #holders = 0;
  #freed = false;

  /** @throws TypeError unless called by a backend */
  constructor(maker: symbol, owner: StorageOwner, byteLength: number, address: number) {
    if (maker !== MAKER) throw new TypeError('Storage: made by backends, not by programs');
    this.#owner = owner;
    this.#byteLength = byteLength;
    this.#address = address;
  }

  /** Size in bytes. */
  get byteLength(): number {
    return this.#byteLength;
  }

  static {
    ownerOf = (storage) => storage.#owner;
    addressOf = (storage) => storage.#address;
    retain = (storage) => {
      if (storage.#freed) throw new Error('Storage: used after it was freed');
      storage.#holders++;
    };
    release = (storage) => {
      if (storage.#freed || --storage.#holders > 0) return;
      storage.#freed = true;
      storage.#owner.free(storage);
    };
    isShared = (storage) => storage.#holders > 1;
    isFreed = (storage) => storage.#freed;
  }
}
