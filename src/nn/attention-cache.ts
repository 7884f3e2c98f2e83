/** The decoding cache of `MultiHeadAttention`: keys, values, and one index for all batch rows, as in Flax. */

import { isFloat, isRecorded } from '../autograd/tape.ts';
import { copyStrided } from '../backend/calls/copy.ts';
import { backendOf } from '../backend/registry.ts';
import { MAX_COUNT } from '../ops/attention-call.ts';
import { mul } from '../ops/binary.ts';
import { cast } from '../ops/cast.ts';
import { tensor } from '../ops/creation.ts';
import { checkTensor, commonBackend } from '../ops/operands.ts';
import { sameShape, sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { tupleText } from './arguments.ts';
import { Cache } from './variable.ts';

/** Number of tokens in the cache: an i32 scalar tensor, with the same number on the host as `count`. */
export class CacheIndex extends Cache {
  #count = 0;

  constructor() {
    super(tensor(Int32Array.of(0), { shape: [] }));
  }

  /** Tokens in the cache. */
  get count(): number {
    return this.#count;
  }

  override get value(): Tensor {
    return super.value;
  }

  /**
   * Sets the number of tokens: a smaller one truncates the cache.
   * @throws RangeError unless it is a scalar integer >= 0; the index is unchanged then
   */
  override set value(next: Tensor) {
    checkTensor('cacheIndex', 'the value', next);
    const count = next.size === 1 ? next.dataSync()[0] : 0;
    if (!Number.isInteger(count) || count < 0 || count > MAX_COUNT) {
      throw new RangeError(`cacheIndex: expected a number of tokens from 0 to ${MAX_COUNT}, got ${count}`);
    }
    super.value = next;
    this.#count = count;
  }

  /** @internal Adds written tokens to the count. */
  advance(tokens: number): void {
    this.#count += tokens;
    const count = tensor(Int32Array.of(this.#count), { shape: [] });
    super.value = count;
    count.dispose();
  }
}

/**
 * Checks that tokens can be written. A program can assign the cache and its index, so each write is checked
 * against the memory.
 * @param cached `[...batch, maxLength, K, H]`. @param tokens `[...batch, T, K, H]`.
 * @param T expected number of tokens.
 * @throws RangeError when shapes differ, or the tokens do not fit from `start` on; TypeError for a cache that
 *   is not a float tensor; Error when it was disposed, is on another backend, or the tokens are being
 *   differentiated.
 */
export function checkTokens(
  op: string,
  name: string,
  cached: Tensor,
  tokens: Tensor,
  T: number,
  start: number,
): void {
  checkTensor(op, `the cached ${name}`, cached);
  checkTensor(op, name, tokens);
  const maxLength = cached.shape.at(-3) ?? 0;
  const expected = [...cached.shape.slice(0, -3), T, ...cached.shape.slice(-2)];
  if (cached.shape.length < 3 || !sameShape(expected, tokens.shape)) {
    throw new RangeError(
      `Autoregressive cache shape error, expected ${name} shape ${tupleText(expected)} instead got ${tupleText(tokens.shape)}.`,
    );
  }
  if (!isFloat(cached)) {
    throw new TypeError(`${op}: expected the cached ${name} to be of floats, got ${cached.dtype}`);
  }
  const [own, other] = [backendOf(cached), backendOf(tokens)];
  if (own !== other) {
    throw new Error(
      `${op}: expected the cache and its ${name} on one backend, got ${own.name} and ${other.name}`,
    );
  }
  commonBackend(op, cached, tokens);
  // In-place writes are not recorded: without this error the gradient would silently be 0.
  if (isRecorded(tokens)) {
    throw new Error(
      `${op}: keys and values in a cache have no gradient; differentiate a pass with decode: false`,
    );
  }
  checkRoom(op, maxLength, start, T);
}

/** @throws RangeError unless `count` tokens are in a cache of `maxLength` and there is room for `more` */
export function checkRoom(op: string, maxLength: number, count: number, more: number): void {
  if (Number.isInteger(count) && count >= 0 && count + more <= maxLength) return;
  throw new RangeError(
    `${op}: expected at most ${maxLength} tokens in the cache, got ${count} and ${more} more`,
  );
}

/**
 * Writes `[...batch, T, K, H]` into `[...batch, maxLength, K, H]` from token `start` on, rounded to its
 * dtype.
 */
export function writeTokens(op: string, cached: Tensor, tokens: Tensor, start: number): void {
  checkTokens(op, 'tokens', cached, tokens, tokens.shape.at(-3) ?? 0, start);
  const token = sizeOf(cached.shape.slice(-2));
  const [into, from] = [cached, tokens].map(({ shape }) => (shape.at(-3) as number) * token);
  const batch = sizeOf(cached.shape.slice(0, -3));
  const rounded = cast(tokens, cached.dtype);
  const to = { out: cached, outOffset: start * token, outStrides: [into, 1] };
  backendOf(cached).run(copyStrided, { x: rounded, xStrides: [from, 1], shape: [batch, from], ...to });
  rounded.dispose();
}

/**
 * The causal mask `[1, …, 1, T, maxLength]` of the newest `T` tokens over the cache, combined with `mask`.
 */
export function cacheMask(mask: Tensor | undefined, cached: Tensor, length: number, T: number): Tensor {
  const maxLength = cached.shape.at(-3) as number;
  const seen = Float32Array.from({ length: T * maxLength }, (_, i) =>
    Number((i % maxLength) - Math.floor(i / maxLength) <= length - T),
  );
  const ones = cached.shape.slice(0, -3).map(() => 1);
  const filled = tensor(seen, { shape: [...ones, 1, T, maxLength] });
  return mask ? mul(cast(cast(mask, 'bool'), 'f32'), filled) : filled;
}
