/** The keys and values that `MultiHeadAttention` keeps while decoding: one index for all batch rows, as Flax's. */
import { backendOf } from '../backend/registry.ts';
import { mul } from '../ops/binary.ts';
import { cast } from '../ops/cast.ts';
import { tensor } from '../ops/creation.ts';
import { sameShape, sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { tupleText } from './arguments.ts';
import { Cache } from './variable.ts';

/** Tokens in the cache: an i32 scalar tensor, and the same number at hand. */
export class CacheIndex extends Cache {
  #count = 0;

  constructor() {
    super(tensor(Int32Array.of(0), { shape: [] }));
  }

  get count(): number {
    return this.#count;
  }

  override get value(): Tensor {
    return super.value;
  }

  /** Cuts the cache back (or claims what is written there). */
  override set value(next: Tensor) {
    super.value = next;
    this.#count = Number(super.value.dataSync()[0]);
  }

  advance(tokens: number): void {
    this.#count += tokens;
    const count = tensor(Int32Array.of(this.#count), { shape: [] });
    super.value = count;
    count.dispose();
  }

  /**
   * @param cached `[...batch, maxLength, K, H]`. @param key `[...batch, T, K, H]`. @param value as `key`.
   * @throws RangeError when the keys or values are not the cache's, or have no room; Error when they are on another backend.
   */
  checkRoom(op: string, cached: Tensor, key: Tensor, value: Tensor): void {
    const T = key.shape.at(-3) as number;
    const maxLength = cached.shape.at(-3) as number;
    const expected = [...cached.shape.slice(0, -3), T, ...cached.shape.slice(-2)];
    for (const [name, x] of [['key', key] as const, ['value', value] as const]) {
      if (!sameShape(expected, x.shape)) {
        throw new RangeError(
          `Autoregressive cache shape error, expected ${name} shape ${tupleText(expected)} instead got ${tupleText(x.shape)}.`,
        );
      }
      const [own, other] = [backendOf(cached), backendOf(x)];
      if (own !== other) {
        throw new Error(
          `${op}: expected the cache and its ${name} on one backend, got ${own.name} and ${other.name}`,
        );
      }
    }
    if (this.#count + T > maxLength) {
      throw new RangeError(
        `${op}: expected at most ${maxLength} tokens in the cache, got ${this.#count} and ${T} more`,
      );
    }
  }
}

/** Writes `[...batch, T, K, H]` into `[...batch, maxLength, K, H]` from token `start` on, rounded to its dtype. */
export function writeTokens(cached: Tensor, tokens: Tensor, start: number): void {
  const token = sizeOf(cached.shape.slice(-2));
  const [into, from] = [cached, tokens].map(({ shape }) => (shape.at(-3) as number) * token);
  const batch = sizeOf(cached.shape.slice(0, -3));
  const rounded = cast(tokens, cached.dtype);
  const [outStrides, strides] = [
    [into, 1],
    [from, 1],
  ];
  backendOf(cached).copyStrided(cached, start * token, outStrides, rounded, 0, strides, [batch, from]);
  rounded.dispose();
}

/** Which of the cache's keys the newest `T` tokens see: `[1, …, 1, T, maxLength]`, and what `mask` allows of them. */
export function cacheMask(mask: Tensor | undefined, cached: Tensor, length: number, T: number): Tensor {
  const maxLength = cached.shape.at(-3) as number;
  const seen = Float32Array.from({ length: T * maxLength }, (_, i) =>
    Number((i % maxLength) - Math.floor(i / maxLength) <= length - T),
  );
  const ones = cached.shape.slice(0, -3).map(() => 1);
  const filled = tensor(seen, { shape: [...ones, 1, T, maxLength] });
  return mask ? mul(cast(cast(mask, 'bool'), 'f32'), filled) : filled;
}
