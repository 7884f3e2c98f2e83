/**
 * Random integers: ranges, permutations, choices by logits. Equal to JAX's. The kernel generates the bits;
 * the rest runs on the host.
 *
 * Source: jax/_src/random/core.py (_randint, _shuffle, _categorical).
 */

import { aNumber, describe, listOfNumbers } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { Backend } from '../backend/backend.ts';
import { backendOf } from '../backend/registry.ts';
import { encode } from '../tensor/encode.ts';
import { broadcastStrides, normalizeAxis, type Shape, shapeText, sizeOf } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { keyWords, split } from './key.ts';
import { bits, gumbel } from './samplers.ts';

/**
 * Uniform integers `minval … maxval - 1`; `minval` when the range is empty. As in JAX, 64 bits modulo the
 * range: the bias is about range / 2^64 unless the range is a power of two.
 * @param minval integer from -2^31 to 2^31 - 1, as maxval.
 * @throws RangeError for other bounds.
 * @returns i32.
 */
export function randint(key: Tensor, shape: Shape, minval: number, maxval: number): Tensor {
  for (const bound of [minval, maxval]) {
    if (!Number.isInteger(bound) || bound < -(2 ** 31) || bound >= 2 ** 31) {
      throw new RangeError(
        `randint: expected bounds from -2^31 to 2^31 - 1, got ${describe(minval)} and ${describe(maxval)}`,
      );
    }
  }
  const keys = split(key);
  const [higher, lower] = keys.map((half) => readAndFree(bits(half, shape)));
  for (const half of keys) half.dispose();
  const span = maxval > minval ? maxval - minval : 1;
  // 2^32 mod span, in 32-bit steps as in JAX.
  let multiplier = 2 ** 16 % span;
  multiplier = (Math.imul(multiplier, multiplier) >>> 0) % span;
  const values = new Int32Array(higher.length);
  for (let i = 0; i < values.length; i++) {
    const offset = (Math.imul(higher[i] % span, multiplier) + (lower[i] % span)) >>> 0;
    values[i] = minval + (offset % span);
  }
  return integers(backendOf(key), values, shape);
}

/**
 * The numbers 0 … n - 1 in random order.
 * @throws RangeError unless `n` is an integer from 0 to 2^31 - 1.
 * @returns i32 `[n]`.
 */
export function permutation(key: Tensor, n: number): Tensor {
  keyWords('permutation', key);
  if (!Number.isInteger(n) || n < 0 || n >= 2 ** 31) {
    throw new RangeError(`permutation: expected a length from 0 to 2^31 - 1, got ${describe(n)}`);
  }
  // Sorts by random words, in enough rounds to make ties unlikely.
  const rounds = Math.ceil((3 * Math.log(Math.max(1, n))) / Math.log(2 ** 32 - 1));
  let order = Int32Array.from({ length: n }, (_, i) => i);
  let current = key;
  for (let round = 0; round < rounds; round++) {
    const [next, subkey] = split(current);
    if (current !== key) current.dispose();
    current = next;
    const words = readAndFree(bits(subkey, [n]));
    subkey.dispose();
    // Packs (word, index) into one 64-bit number: a stable sort by word.
    const pairs = new Uint32Array(2 * n);
    for (let i = 0; i < n; i++) {
      pairs[2 * i] = i;
      pairs[2 * i + 1] = words[i];
    }
    new BigUint64Array(pairs.buffer).sort();
    order = Int32Array.from({ length: n }, (_, i) => order[pairs[2 * i]]);
  }
  if (current !== key) current.dispose();
  return integers(backendOf(key), order, [n]);
}

/** Options of `categorical`. */
export interface CategoricalOptions {
  /** The axis whose entries are the choices; default -1. */
  readonly axis?: number;
  /**
   * Result shape: leading axes for repeated draws, then a shape that `logits` without `axis` broadcasts to
   * (the default).
   */
  readonly shape?: Shape;
}

const OPTIONS = optionKinds<CategoricalOptions>({ axis: aNumber, shape: listOfNumbers });

/**
 * Samples indices with probabilities `softmax(logits)`, by the Gumbel-max trick.
 * @param logits f32, on the key's backend; -Infinity is never chosen unless all are; the first NaN always is
 *   (as in JAX).
 * @throws RangeError when `shape` does not end in a shape that logits without `axis` broadcasts to; TypeError
 *   for other dtypes.
 * @returns i32 indices along `axis`.
 */
export function categorical(key: Tensor, logits: Tensor, options: CategoricalOptions = {}): Tensor {
  if (!(logits instanceof Tensor) || logits.dtype !== 'f32') {
    throw new TypeError(
      `categorical: expected logits of f32, got ${logits instanceof Tensor ? logits.dtype : typeof logits}`,
    );
  }
  checkOptions('categorical', options, OPTIONS);
  const rank = logits.shape.length;
  const axis = normalizeAxis('categorical', options.axis ?? -1, rank);
  const batch = logits.shape.filter((_, i) => i !== axis);
  const shape = options.shape ?? batch;
  const lead = shape.length - batch.length;
  if (lead < 0 || batch.some((dim, i) => dim !== 1 && dim !== shape[lead + i])) {
    throw new RangeError(
      `categorical: expected a shape that ends in ${shapeText(batch)}, got ${shapeText(shape)}`,
    );
  }
  const choices = logits.shape[axis];
  if (choices === 0) {
    throw new RangeError(
      `categorical: expected at least one choice along axis ${axis}, got shape ${shapeText(logits.shape)}`,
    );
  }
  const full = [...shape.slice(0, lead + axis), choices, ...shape.slice(lead + axis)];
  const noise = readAndFree(gumbel(key, full));
  const values = logits.dataSync();
  const strides = broadcastStrides(logits.shape, full);
  const inner = sizeOf(shape.slice(lead + axis));
  const result = new Int32Array(sizeOf(shape));
  for (let i = 0; i < result.length; i++) {
    const start = Math.floor(i / inner) * choices * inner + (i % inner);
    let at = offsetOf(start, full, strides);
    let best = Number.NEGATIVE_INFINITY;
    for (let k = 0; k < choices; k++, at += strides[lead + axis]) {
      const score = Math.fround(noise[start + k * inner] + values[at]);
      if (score > best) {
        best = score;
        result[i] = k;
      } else if (Number.isNaN(score)) {
        result[i] = k;
        break;
      }
    }
  }
  return integers(backendOf(key), result, shape);
}

/** The offset, by `strides`, of the element with linear index `index` in `shape`. */
function offsetOf(index: number, shape: Shape, strides: readonly number[]): number {
  let offset = 0;
  let rest = index;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    offset += (rest % shape[axis]) * strides[axis];
    rest = Math.floor(rest / shape[axis]);
  }
  return offset;
}

/** Reads and frees a temporary tensor. */
function readAndFree(x: Tensor): ArrayLike<number> {
  const values = x.dataSync();
  x.dispose();
  return values;
}

function integers(backend: Backend, values: Int32Array, shape: Shape): Tensor {
  const storage = backend.allocate(values.byteLength);
  backend.write(storage, encode('i32', values));
  return new Tensor(storage, 'i32', shape);
}
