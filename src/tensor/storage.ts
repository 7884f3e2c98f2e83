/**
 * A piece of a backend's memory. Tensors and caches hold it by count (a reshape is a second holder of the same piece), and the
 * backend takes the memory back when no holder is left.
 *
 * What a program can reach is an opaque object: where the bytes are, their owner and the number of holders are read and changed by the
 * functions below alone, so that no number that kernels take for an address or a size comes from outside.
 */
export interface StorageOwner {
  readonly name: string;
  /** A fresh copy of `byteLength` bytes from `byteOffset`. @throws RangeError outside of the storage */
  read(storage: Storage, byteOffset: number, byteLength: number): Uint8Array<ArrayBuffer>;
  /** Takes the memory back. Called when no holder is left. */
  free(storage: Storage): void;
  /**
   * Reports memory that the garbage collector must free (sign 1), or need not (-1), so that it runs in time. Memory that a
   * scope, a tape or an owner frees is not reported: it would make full collections more frequent.
   */
  reportExternalMemory(storage: Storage, sign: 1 | -1): void;
}

/** The constructor takes this alone: programs reach it through `tensor.storage.constructor`, and must not make storages. */
const MAKER = Symbol('maker');

/** Makes a storage that nobody holds yet. @param address where the bytes are: an address (native), an offset (WASM), 0 otherwise */
export function newStorage(owner: StorageOwner, byteLength: number, address: number): Storage {
  return new Storage(MAKER, owner, byteLength, address);
}

export let ownerOf: (storage: Storage) => StorageOwner;
export let addressOf: (storage: Storage) => number;
/** One holder more. */
export let retain: (storage: Storage) => void;
/** One holder less; after the last the memory is freed. */
export let release: (storage: Storage) => void;
/** Whether more than one holds it; what is not shared may be overwritten by its only holder. */
export let isShared: (storage: Storage) => boolean;
/** Whether the backend has taken the memory back. */
export let isFreed: (storage: Storage) => boolean;

/** A piece of memory of a backend. Opaque: programs pass it on, and cannot read or change it. */
export class Storage {
  readonly #owner: StorageOwner;
  readonly #byteLength: number;
  readonly #address: number;
  #holders = 0;
  #freed = false;

  /** @throws TypeError for any caller but a backend */
  constructor(maker: symbol, owner: StorageOwner, byteLength: number, address: number) {
    if (maker !== MAKER) throw new TypeError('Storage: made by backends, not by programs');
    this.#owner = owner;
    this.#byteLength = byteLength;
    this.#address = address;
  }

  /** Bytes of the piece. */
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
