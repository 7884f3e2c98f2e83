/**
 * Random keys as in JAX: threefry2x32, partitionable. A key is a u32 tensor `[2]`. The same key always gives
 * the same numbers; derive new keys by `split` and `foldIn`.
 *
 * Source: jax/_src/random/threefry2x32.py (threefry_seed, _threefry_split_foldlike, _threefry_fold_in).
 */
import { describe } from '../arguments/kinds.ts';
import type { Backend } from '../backend/backend.ts';
import { backendOf, getBackend } from '../backend/registry.ts';
import { threefry2x32 } from '../backend/threefry.ts';
import { encode } from '../tensor/encode.ts';
import { shapeText } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';

export type KeyWords = readonly [number, number];

/** Words of the keys made here, so that deriving from a key does not read backend memory. */
const known = new WeakMap<Tensor, KeyWords>();

/**
 * The key of a seed, on the current backend.
 * @param seed an integer; only the lowest 32 bits are used, as in JAX without 64-bit types. `bigint` for
 *   seeds past 2^53.
 * @throws TypeError unless `seed` is an integer.
 * @returns u32 `[2]`.
 * @example
 * const [paramsKey, dropoutKey] = split(key(0));
 */
export function key(seed: number | bigint): Tensor {
  if (typeof seed !== 'bigint' && !Number.isSafeInteger(seed)) {
    throw new TypeError(`key: expected an integer seed, got ${describe(seed)}`);
  }
  return makeKey(getBackend(), [0, Number(BigInt.asUintN(32, BigInt(seed)))]);
}

/** JAX's older name of `key`. */
export function PRNGKey(seed: number | bigint): Tensor {
  return key(seed);
}

/**
 * Derives `n` new keys from one, which should not be used again.
 * @param n default 2.
 * @throws RangeError unless `n` is a non-negative integer.
 * @returns an array of n keys, u32 `[2]` each.
 */
export function split(from: Tensor, n = 2): Tensor[] {
  const words = keyWords('split', from);
  if (!Number.isInteger(n) || n < 0)
    throw new RangeError(`split: expected a non-negative number of keys, got ${describe(n)}`);
  return Array.from({ length: n }, (_, i) => makeKey(backendOf(from), threefry2x32(words, 0, i)));
}

/**
 * Derives a key from a key and an integer, such as a step or a layer index.
 * @param data 0 … 2^32 - 1.
 * @throws RangeError for anything else.
 */
export function foldIn(from: Tensor, data: number): Tensor {
  const words = keyWords('foldIn', from);
  if (!Number.isInteger(data) || data < 0 || data >= 2 ** 32) {
    throw new RangeError(`foldIn: expected data from 0 to 2^32 - 1, got ${describe(data)}`);
  }
  return makeKey(backendOf(from), threefry2x32(words, 0, data));
}

/** A key of two words, on the current backend. */
export function keyOf(words: KeyWords): Tensor {
  return makeKey(getBackend(), words);
}

/** The two words of a key. @throws TypeError for anything but a u32 tensor `[2]`. */
export function keyWords(op: string, from: Tensor): KeyWords {
  if (!(from instanceof Tensor)) throw new TypeError(`${op}: expected a key, got ${typeof from}`);
  if (from.dtype !== 'u32' || from.shape.length !== 1 || from.shape[0] !== 2) {
    throw new TypeError(`${op}: expected a key (u32 [2]), got ${from.dtype} ${shapeText(from.shape)}`);
  }
  if (from.isDisposed) throw new Error(`${op}: expected a live key, got one after dispose()`);
  const words = known.get(from);
  if (words) return words;
  const [a, b] = from.dataSync();
  return [a, b];
}

function makeKey(backend: Backend, words: KeyWords): Tensor {
  const storage = backend.allocate(8);
  backend.write(storage, encode('u32', words));
  const made = new Tensor(storage, 'u32', [2]);
  known.set(made, words);
  return made;
}
