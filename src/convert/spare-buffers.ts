/**
 * Buffers for the tensors of one conversion, used again: fresh ones cost page faults, and V8 collects garbage
 * for every 64 MiB of them.
 */
export class SpareBuffers {
  readonly #bySize = new Map<number, Uint8Array<ArrayBuffer>[]>();

  /** So many bytes, with anything in them. */
  take(bytes: number): Uint8Array<ArrayBuffer> {
    return this.#bySize.get(bytes)?.pop() ?? new Uint8Array(bytes);
  }

  /** Takes back what `take` gave; it must not be used from then on. */
  give(buffer: Uint8Array<ArrayBuffer>): void {
    const spare = this.#bySize.get(buffer.byteLength);
    if (spare === undefined) this.#bySize.set(buffer.byteLength, [buffer]);
    else spare.push(buffer);
  }
}
