/** `Tensor`: an immutable, contiguous, row-major array on one backend. */

import { printAsText } from '../arguments/inspect.ts';
import { describe } from '../arguments/kinds.ts';
import { DTYPES, type DType, isDType } from './dtype.ts';
import { decode, type NumericArray } from './encode.ts';
import { eventLoopTurn } from './event-loop.ts';
import { track, untrack } from './scope.ts';
import { checkedShape, type Shape, shapeText, sizeOf } from './shape.ts';
import { ownerOf, release, retain, Storage } from './storage.ts';
import { tensorText } from './tensor-text.ts';

/** Nested arrays of numbers, one level per axis, as `toArray` returns; a number for a scalar. */
export type NestedArray = number | NestedArray[];

/**
 * An immutable, contiguous, row-major array on one backend. Made by `tensor()`, `zeros()` and the ops; never
 * modified in place. Read it by `await t.data()` on every backend, or by `t.dataSync()` on the CPU backends.
 * @example
 * const t = tensor([[1, 2], [3, 4]]);
 * t.shape; // [2, 2]
 * await t.data(); // Float32Array [1, 2, 3, 4]
 * t.dispose(); // or let `scope` or the garbage collector free it
 */
export class Tensor {
  // Private, because kernels do not check them again.
  readonly #shape: Shape;
  readonly #size: number;
  readonly #dtype: DType;
  readonly #storage: Storage;
  #disposed = false;

  /**
   * Adds a reference to `storage`. Programs use `tensor()`, `zeros()` and the ops instead.
   * @param shape copied; or a tensor of the same shape
   * @throws RangeError when the storage is smaller than the shape needs, or a block type's row is not whole
   *   blocks; TypeError for arguments of a wrong type; Error when the storage was freed
   * @internal
   */
  constructor(storage: Storage, dtype: DType, shape: Shape | Tensor) {
    if (new.target !== Tensor) throw new TypeError('Tensor: cannot be extended');
    if (!(storage instanceof Storage)) {
      throw new TypeError(`Tensor: expected a backend's memory, got ${describe(storage)}`);
    }
    if (!isDType(dtype)) throw new TypeError(`Tensor: expected a dtype, got ${describe(dtype)}`);
    const own = shape instanceof Tensor ? shape.#shape : checkedShape('Tensor', shape);
    const size = sizeOf(own);
    const { blockLength, blockBytes } = DTYPES[dtype];
    if (blockLength > 1 && (own.at(-1) ?? 1) % blockLength !== 0) {
      throw new RangeError(
        `Tensor: rows of ${dtype} hold blocks of ${blockLength}, got shape ${shapeText(own)}`,
      );
    }
    const bytes = (size / blockLength) * blockBytes;
    if (bytes > storage.byteLength) {
      throw new RangeError(
        `Tensor: shape ${shapeText(own)} of ${dtype} needs ${bytes} bytes, got ${storage.byteLength}`,
      );
    }
    retain(storage);
    this.#storage = storage;
    this.#dtype = dtype;
    this.#shape = own;
    this.#size = size;
    // Frozen, so that own properties cannot shadow the getters.
    Object.preventExtensions(this);
    track(this);
  }

  /** Frozen. */
  get shape(): Shape {
    return this.#shape;
  }

  /** The element type. */
  get dtype(): DType {
    return this.#dtype;
  }

  /** The backend's memory (opaque), shared by reshapes of this tensor. */
  get storage(): Storage {
    return this.#storage;
  }

  /** Number of elements. */
  get size(): number {
    return this.#size;
  }

  /** Size of the elements in bytes, as stored. */
  get byteLength(): number {
    const { blockLength, blockBytes } = DTYPES[this.#dtype];
    return (this.#size / blockLength) * blockBytes;
  }

  /** Whether the tensor was freed by `dispose` or a scope; reading it then throws. */
  get isDisposed(): boolean {
    return this.#disposed;
  }

  /**
   * The elements as a fresh typed array: Float64Array for f64, Float32Array for f32, f16, bf16 and the block
   * types (widened), Int32Array, Uint32Array, Uint8Array (u8 and bool).
   * @throws Error after `dispose()`.
   */
  async data(): Promise<NumericArray> {
    const values = this.dataSync();
    // Finalizers run between turns of the event loop: without yielding, a loop of awaits would never free
    // dropped tensors.
    await eventLoopTurn();
    return values;
  }

  /** As `data()`, synchronous; CPU backends only. */
  dataSync(): NumericArray {
    if (this.#disposed) throw new Error(`Tensor${shapeText(this.shape)}: read after dispose()`);
    return decode(this.dtype, ownerOf(this.#storage).read(this.#storage, 0, this.byteLength), this.size);
  }

  /** The elements as nested arrays of `shape` (a number for a scalar). */
  toArray(): NestedArray {
    const flat = this.dataSync();
    let next = 0;
    const build = (axis: number): NestedArray => {
      if (axis === this.shape.length) return flat[next++];
      return Array.from({ length: this.shape[axis] }, () => build(axis + 1));
    };
    return build(0);
  }

  /** `Tensor f32 [2, 3] [[1, 2, 3], [4, 5, 6]]`; of an axis longer than 8 the first and last 3. */
  toString(): string {
    const head = `Tensor ${this.#dtype} ${shapeText(this.#shape)}`;
    return this.#disposed
      ? `${head} (disposed)`
      : `${head} ${tensorText(this.#storage, this.#dtype, this.#shape)}`;
  }

  static {
    printAsText(Tensor);
  }

  /** Frees the memory now (when no reshape shares it). Safe to call twice. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    untrack(this);
    release(this.#storage);
  }
}
