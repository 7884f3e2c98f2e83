/**
 * Reused buffers for the tensors of one conversion. New ones cost page faults, and a garbage collection for
 * every 64 MiB.
 */
export class SpareBuffers {
  readonly #bySize = new Map<number, Uint8Array<ArrayBuffer>[]>();

  /** A buffer of this many bytes, not cleared. */
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
