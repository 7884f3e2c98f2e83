/**
 * `Tensor`: an immutable, contiguous, row-major array on one backend. Ops make new ones; nothing changes a tensor in
 * place. Reading is `await t.data()` on every backend and `t.dataSync()` on the CPU backends.
 */
import { DTYPES, type DType } from './dtype.ts';
import { decode, type NumericArray } from './encode.ts';
import { type Disposable, track, untrack } from './scope.ts';
import { checkShape, type Shape, shapeText, sharedShape, sizeOf } from './shape.ts';
import type { Storage } from './storage.ts';

export type NestedArray = number | NestedArray[];

export class Tensor {
  readonly shape: Shape;
  readonly dtype: DType;
  /** The backend memory; shared with reshapes of this tensor. */
  readonly storage: Storage;
  /** Where its scope or safety net has it (scope.ts), if one does: a scope looks. */
  scopePlace = 0;
  net: Disposable['net'] = undefined;
  /** Where a tape has its gradient (src/autograd/tape.ts), which knows its own places; 0 = none had it. */
  tapePlace = 0;
  #disposed = false;

  /**
   * Takes over one reference to `storage`. Programs call `tensor()`, `zeros()` and the ops instead.
   * @param tracked false: no scope and no safety net frees it, its maker does
   * @throws RangeError when the storage is smaller than the shape needs, or a block type's row is not whole blocks.
   */
  constructor(storage: Storage, dtype: DType, shape: Shape, tracked = true) {
    checkShape('Tensor', shape);
    const size = sizeOf(shape);
    const { blockLength, blockBytes } = DTYPES[dtype];
    if (blockLength > 1 && (shape.at(-1) ?? 1) % blockLength !== 0) {
      throw new RangeError(
        `Tensor: rows of ${dtype} hold blocks of ${blockLength}, got shape ${shapeText(shape)}`,
      );
    }
    const bytes = (size / blockLength) * blockBytes;
    if (bytes > storage.byteLength) {
      throw new RangeError(
        `Tensor: shape ${shapeText(shape)} of ${dtype} needs ${bytes} bytes, got ${storage.byteLength}`,
      );
    }
    this.storage = storage;
    this.dtype = dtype;
    this.shape = sharedShape(shape);
    if (tracked) track(this);
  }

  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }

  /** Bytes the elements take as stored. */
  get byteLength(): number {
    const { blockLength, blockBytes } = DTYPES[this.dtype];
    return (this.size / blockLength) * blockBytes;
  }

  get isDisposed(): boolean {
    return this.#disposed;
  }

  /**
   * The elements as a fresh typed array: Float64Array for f64, Float32Array for f32, f16, bf16 and the block types
   * (widened), Int32Array, Uint32Array, Uint8Array (u8 and bool).
   * @throws Error after `dispose()`.
   */
  async data(): Promise<NumericArray> {
    return this.dataSync();
  }

  /** As `data()`, at once; CPU backends only. */
  dataSync(): NumericArray {
    if (this.#disposed) throw new Error(`Tensor${shapeText(this.shape)}: read after dispose()`);
    return decode(this.dtype, this.storage.owner.read(this.storage, 0, this.byteLength), this.size);
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

  /** Frees the memory at once (when no reshape shares it). Safe to call twice. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    untrack(this);
    this.storage.release();
  }
}
