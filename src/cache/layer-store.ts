/**
 * The memory of one layer's keys and values: `slots` slots of one token each. This file knows how a token is
 * stored; the cache knows what a slot means (a position, an index in a ring or in a block).
 *
 * A head takes whole blocks of its dtype: with `q8_0` (34 bytes per 32 values) H is zero-padded to a multiple
 * of 32, which does not change dot products.
 */

import { isRecorded } from '../autograd/tape.ts';
import type { Backend } from '../backend/backend.ts';
import type { KeyValueSegment } from '../backend/calls/attention.ts';
import type { Operand } from '../backend/calls/call.ts';
import { convert, copyStrided, fill } from '../backend/calls/copy.ts';
import { backendOf } from '../backend/registry.ts';
import type { CacheView } from '../ops/attend.ts';
import { byteLengthOf, DTYPES } from '../tensor/dtype.ts';
import { shapeText } from '../tensor/shape.ts';
import { ownerOf, release, retain } from '../tensor/storage.ts';
import { Tensor } from '../tensor/tensor.ts';
import type { CacheDType, CacheLayer } from './cache.ts';
import type { CacheParts, CacheSides } from './parts.ts';

/** Keys or values: one storage, `[slots, K, H padded]`. */
interface Side {
  readonly operand: Operand;
  readonly headDim: number;
  /** Elements from one head to the next. */
  readonly headStride: number;
  /** Elements from one token to the next. */
  readonly tokenStride: number;
}

/** Keys or values as a tensor of a file: `[tokens, ...shape]`; blocks of `q8_0` as their bytes. */
export interface StoredSide {
  readonly name: 'key' | 'value';
  readonly dtype: 'f32' | 'f16' | 'bf16' | 'u8';
  readonly shape: readonly number[];
  /** Bytes of one token. */
  readonly tokenBytes: number;
}

/** The rows that a pass writes. */
interface Rows {
  readonly count: number;
  readonly first: number | undefined;
  /** Tokens of the longest. */
  readonly longest: number;
}

export class LayerStore {
  readonly numKeyValueHeads: number;
  readonly window: number | undefined;
  /** Bytes allocated. */
  readonly bytes: number;
  readonly #backend: Backend;
  readonly #slots: number;
  readonly #key: Side;
  /** For a latent layer: the keys' memory, of which the first columns are read. */
  readonly #value: Side;

  /** @throws RangeError when out of memory; nothing stays allocated then */
  constructor(backend: Backend, layer: CacheLayer, slots: number, { key, value }: CacheSides) {
    const { numKeyValueHeads: K, headDim: H, valueHeadDim: Hv = H, latentDim } = layer;
    this.numKeyValueHeads = K;
    this.window = layer.window;
    this.#backend = backend;
    this.#slots = slots;
    this.#key = allocate(backend, key, slots, K, H);
    this.bytes = this.#key.operand.storage.byteLength;
    if (latentDim !== undefined) {
      this.#value = { ...this.#key, headDim: latentDim };
      return;
    }
    try {
      this.#value = allocate(backend, value, slots, K, Hv);
    } catch (error) {
      free(this.#key);
      throw error;
    }
    this.bytes += this.#value.operand.storage.byteLength;
  }

  /** Whether values are columns of the keys. */
  get #latent(): boolean {
    return this.#value.operand === this.#key.operand;
  }

  /**
   * @param firstRow the row of `key` and `value` that `tokens[0]` is for; undefined: they have these rows only
   * @throws RangeError or TypeError when `key` and `value` are not `[B, T >= longest, K, H]` of this backend
   */
  check(
    op: string,
    layer: number,
    key: Tensor,
    value: Tensor | undefined,
    tokens: readonly number[],
    firstRow?: number,
  ): void {
    // In-place writes are not recorded: without this error the gradient would silently be 0.
    if (isRecorded(key, value)) throw new Error(`${op}: keys and values in a cache have no gradient`);
    let longest = 0;
    for (const count of tokens) if (count > longest) longest = count;
    const rows = { count: tokens.length, first: firstRow, longest };
    this.#check(op, `key of layer ${layer}`, key, this.#key, rows);
    if (!this.#latent) {
      this.#check(op, `value of layer ${layer}`, value, this.#value, rows);
    } else if (value !== undefined) {
      throw new TypeError(
        `${op}: expected no value for layer ${layer}, whose values are columns of its keys`,
      );
    }
  }

  /**
   * Stores `count` tokens of `[B, T, K, H]`, from token `from` (counted over B and T) on, in the slots from
   * `slot` on.
   */
  write(slot: number, key: Tensor, value: Tensor | undefined, from: number, count: number): void {
    if (count === 0) return;
    this.#checkSlots('write', slot, count);
    this.#writeSide(this.#key, slot, key, from, count);
    if (value) this.#writeSide(this.#value, slot, value, from, count);
  }

  /**
   * Copies tokens of `source`, a store of the same layer and dtypes (or this one); ranges must not overlap.
   */
  copy(slot: number, source: LayerStore, sourceSlot: number, count: number): void {
    if (count === 0) return;
    this.#checkSlots('copy', slot, count);
    source.#checkSlots('copy', sourceSlot, count);
    const sides = [[this.#key, source.#key] as const, [this.#value, source.#value] as const];
    for (const [to, from] of this.#latent ? sides.slice(0, 1) : sides) {
      const { operand: out, tokenStride } = to;
      const [outOffset, xOffset] = [slot * tokenStride, sourceSlot * tokenStride];
      this.#backend.run(convert, { out, outOffset, x: from.operand, xOffset, count: count * tokenStride });
    }
  }

  /** `length` tokens from `slot` on, as a segment for attention. */
  segment(slot: number, length: number): KeyValueSegment {
    this.#checkSlots('view', slot, length);
    const { operand: key, tokenStride } = this.#key;
    const { operand: value, tokenStride: valueStride } = this.#value;
    return {
      key: key.storage,
      keyByteOffset: byteLengthOf(key.dtype, slot * tokenStride),
      value: value.storage,
      valueByteOffset: byteLengthOf(value.dtype, slot * valueStride),
      length,
    };
  }

  view(rows: CacheView['rows'], pinned = 0): CacheView {
    return {
      keyDtype: this.#key.operand.dtype,
      valueDtype: this.#value.operand.dtype,
      numKeyValueHeads: this.numKeyValueHeads,
      headDim: this.#key.headDim,
      valueHeadDim: this.#value.headDim,
      keyTokenStride: this.#key.tokenStride,
      keyHeadStride: this.#key.headStride,
      valueTokenStride: this.#value.tokenStride,
      valueHeadStride: this.#value.headStride,
      rows,
      ...(this.window !== undefined && { window: this.window }),
      ...(pinned > 0 && { pinned }),
    };
  }

  /** The tensors of a file that hold this store's tokens, each token in one piece. */
  get stored(): readonly StoredSide[] {
    const key = storedSide('key', this.#key);
    return this.#latent ? [key] : [key, storedSide('value', this.#value)];
  }

  /** The bytes of `count` tokens from `slot` on. */
  read(name: StoredSide['name'], slot: number, count: number): Uint8Array {
    this.#checkSlots('read', slot, count);
    const { operand, tokenStride } = name === 'key' ? this.#key : this.#value;
    const bytes = byteLengthOf(operand.dtype, tokenStride);
    return this.#backend.read(operand.storage, slot * bytes, count * bytes);
  }

  /** Stores what `read` returned. */
  restore(name: StoredSide['name'], slot: number, content: Uint8Array): void {
    const { operand, tokenStride } = name === 'key' ? this.#key : this.#value;
    const bytes = byteLengthOf(operand.dtype, tokenStride);
    this.#checkSlots('restore', slot, content.byteLength / bytes);
    this.#backend.write(operand.storage, content, slot * bytes);
  }

  release(): void {
    free(this.#key);
    if (!this.#latent) free(this.#value);
  }

  /** Checked because slots become addresses; all accesses pass through here. */
  #checkSlots(method: string, slot: number, count: number): void {
    const whole = Number.isSafeInteger(slot) && Number.isSafeInteger(count);
    if (whole && slot >= 0 && count >= 0 && slot + count <= this.#slots) return;
    throw new RangeError(
      `${method}: expected tokens inside a cache's ${this.#slots} slots, got ${count} from slot ${slot} on`,
    );
  }

  #writeSide(side: Side, slot: number, x: Tensor, from: number, count: number): void {
    const { operand: out, headDim: H, headStride, tokenStride } = side;
    const K = this.numKeyValueHeads;
    const backend = this.#backend;
    const [outOffset, xOffset] = [slot * tokenStride, from * K * H];
    if (headStride === H) {
      backend.run(convert, { out, outOffset, x, xOffset, count: count * K * H });
      return;
    }
    // H is not a multiple of the block: pad each head with zeros first.
    const shape = [count, K, headStride];
    const padded: Operand = { storage: backend.allocate(count * tokenStride * 4), dtype: 'f32', shape };
    try {
      backend.run(fill, { out: padded, count: count * tokenStride, value: 0 });
      const to = { out: padded, outStrides: [tokenStride, headStride, 1] };
      backend.run(copyStrided, { x, xOffset, xStrides: [K * H, H, 1], shape: [count, K, H], ...to });
      backend.run(convert, { out, outOffset, x: padded, count: count * tokenStride });
    } finally {
      release(padded.storage);
    }
  }

  #check(op: string, name: string, x: Tensor | undefined, side: Side, { count, first, longest }: Rows): void {
    if (!(x instanceof Tensor))
      throw new TypeError(`${op}: expected ${name} to be a tensor, got ${typeof x}`);
    const { shape } = x;
    const K = this.numKeyValueHeads;
    if (first !== undefined && !(Number.isSafeInteger(first) && first >= 0)) {
      throw new RangeError(`${op}: expected firstRow to be a non-negative integer, got ${first}`);
    }
    const hasRows = first === undefined ? shape[0] === count : shape[0] >= first + count;
    const fits = shape.length === 4 && hasRows && shape[1] >= longest;
    if (!fits || shape[2] !== K || shape[3] !== side.headDim) {
      const batch = first === undefined ? count : `B >= ${first + count}`;
      throw new RangeError(
        `${op}: expected ${name} to be [${batch}, T >= ${longest}, ${K}, ${side.headDim}], got ${shapeText(shape)}`,
      );
    }
    if (x.isDisposed) throw new Error(`${op}: ${name} was disposed`);
    if (ownerOf(x.storage) !== this.#backend) {
      throw new TypeError(
        `${op}: expected tensors of the ${this.#backend.name} backend, got ${backendOf(x).name}`,
      );
    }
    if (side.operand.dtype === 'q8_0' && x.dtype !== 'f32') {
      throw new TypeError(`${op}: expected ${name} to be f32 for a q8_0 cache, got ${x.dtype}`);
    }
    if (!['f32', 'f16', 'bf16', 'f64'].includes(x.dtype)) {
      throw new TypeError(`${op}: expected ${name} to be of floats, got ${x.dtype}`);
    }
  }
}

/**
 * Allocates a store per layer; `parts` from `checkParts`.
 * @throws RangeError when out of memory; nothing stays allocated then
 */
export function allocateStores(
  { backend, layers, dtype }: CacheParts,
  slotsOf: (layer: CacheLayer) => number,
): LayerStore[] {
  const stores: LayerStore[] = [];
  try {
    for (const layer of layers) stores.push(new LayerStore(backend, layer, slotsOf(layer), dtype));
  } catch (error) {
    for (const store of stores) store.release();
    throw error;
  }
  return stores;
}

/** Frees the memory of caches that were dropped without `dispose`. */
export const droppedStores: FinalizationRegistry<readonly LayerStore[]> = new FinalizationRegistry(
  (stores) => {
    for (const store of stores) store.release();
  },
);

function storedSide(name: StoredSide['name'], { operand, headStride, tokenStride }: Side): StoredSide {
  const dtype = operand.dtype as CacheDType;
  const K = tokenStride / headStride;
  const tokenBytes = byteLengthOf(dtype, tokenStride);
  if (dtype === 'q8_0') return { name, dtype: 'u8', shape: [K, tokenBytes / K], tokenBytes };
  return { name, dtype, shape: [K, headStride], tokenBytes };
}

function allocate(backend: Backend, dtype: CacheDType, slots: number, K: number, H: number): Side {
  const { blockLength } = DTYPES[dtype];
  const headStride = Math.ceil(H / blockLength) * blockLength;
  const tokenStride = K * headStride;
  const storage = backend.allocate(byteLengthOf(dtype, slots * tokenStride));
  retain(storage);
  // The garbage collector frees a cache that was dropped without `dispose`.
  ownerOf(storage).reportExternalMemory(storage, 1);
  return { operand: { storage, dtype, shape: [slots, K, headStride] }, headDim: H, headStride, tokenStride };
}

function free({ operand: { storage } }: Side): void {
  ownerOf(storage).reportExternalMemory(storage, -1);
  release(storage);
}
