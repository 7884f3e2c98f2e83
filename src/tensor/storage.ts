/**
 * A piece of a backend's memory. Tensors share it by reference count (a reshape is a second tensor on the same
 * storage); the backend takes the memory back when the count reaches zero.
 */
export interface StorageOwner {
  readonly name: string;
  /** A fresh copy of `byteLength` bytes from `byteOffset`. */
  read(storage: Storage, byteOffset: number, byteLength: number): Uint8Array<ArrayBuffer>;
  /** Takes the memory back. Called when the last holder has let go. */
  free(storage: Storage): void;
  /**
   * Tells the garbage collector of memory that is freed when it finds the holder gone (sign 1), or no longer so (-1): it then comes in time.
   * What a scope, a tape or an owner frees is none of its concern: told of that too it ran once in ten training steps.
   */
  weigh(storage: Storage, sign: 1 | -1): void;
}

export class Storage {
  readonly owner: StorageOwner;
  readonly byteLength: number;
  /** Where the bytes are: an address (native), an offset into the memory (WASM), unused by the reference backend. */
  readonly address: number;
  /** Whether the owner may make another piece of memory of it once it is freed; not where `isFreed` is asked for later. */
  isReusable = true;
  private references = 1;

  constructor(owner: StorageOwner, byteLength: number, address: number) {
    this.owner = owner;
    this.byteLength = byteLength;
    this.address = address;
  }

  /** Makes another piece of memory of what is freed. */
  reuse(byteLength: number, address: number): this {
    (this as { byteLength: number }).byteLength = byteLength;
    (this as { address: number }).address = address;
    this.references = 1;
    return this;
  }

  /** Whether more than one tensor holds it; one that is not shared may be overwritten by its only holder. */
  get isShared(): boolean {
    return this.references > 1;
  }

  /** Whether the backend has taken the memory back. */
  get isFreed(): boolean {
    return this.references <= 0;
  }

  retain(): this {
    this.references++;
    return this;
  }

  release(): void {
    if (--this.references === 0) this.owner.free(this);
  }
}
