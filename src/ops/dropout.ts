/**
 * Dropout: sets random elements to 0 and scales the others so that the mean is unchanged. The mask is a
 * function of the key, so backward recomputes it instead of storing it.
 *
 * Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting"; the
 * mask is JAX's.
 */

import { describe } from '../arguments/kinds.ts';
import { record, withoutRecording } from '../autograd/tape.ts';
import { fill } from '../backend/calls/copy.ts';
import { binary } from '../backend/calls/elementwise.ts';
import { random } from '../backend/calls/random.ts';
import type { KeyWords } from '../random/key.ts';
import { scope } from '../tensor/scope.ts';
import { broadcastStrides, type Shape, stridesOf } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { div, mul } from './binary.ts';
import { allocate, commonBackend, floatDType } from './operands.ts';

/** The dropout rate and the key of its mask. */
export interface DropoutMask {
  /** Probability of dropping an element, 0 <= rate < 1; kept ones are divided by 1 - rate. Default 0. */
  readonly dropoutRate?: number;
  /** A threefry key: u32 tensor `[2]`, or its two words; needed when the rate is not 0. */
  readonly dropoutKey?: Tensor | readonly [number, number];
}

/**
 * `x / (1 - rate)` where `bernoulli(key, 1 - rate)` is true, 0 elsewhere.
 * @param x f32 (f64 on the reference backend).
 * @param rate 0 < rate < 1, as `checkDropout` gives it.
 * @param maskShape broadcastable to x's; default x's shape: one draw per element.
 * @returns x's shape and dtype.
 */
export function dropout(x: Tensor, rate: number, key: KeyWords, maskShape: Shape = x.shape): Tensor {
  const backend = commonBackend('dropout', x);
  floatDType('dropout', x);
  const keep = 1 - rate;
  // Dropout is linear in x and equal to its transpose, so the vjp is dropout with the same key.
  const masked = (of: Tensor): Tensor =>
    scope(() => {
      // bernoulli(key, keep) as f32 1 and 0: the comparison runs in f32, because converting bools would cost
      // more than all the rest.
      const mask = allocate(backend, 'f32', maskShape);
      const plain = { minval: 0, maxval: 1, factor: 1, low: -Infinity, high: Infinity, scale: 1 };
      backend.run(random, { kind: 'uniform', out: mask, count: mask.size, key, ...plain });
      const limit = allocate(backend, 'f32', []);
      backend.run(fill, { out: limit, count: 1, value: keep });
      const [aStrides, bStrides] = [stridesOf(maskShape), broadcastStrides([], maskShape)];
      backend.run(binary, { op: 'less', out: mask, a: mask, b: limit, shape: maskShape, aStrides, bStrides });
      return mul(div(of, keep), mask);
    });
  const out = withoutRecording(() => masked(x));
  record({ inputs: [x], outputs: [out], saved: [], vjp: ([g]) => [masked(g as Tensor)] });
  return out;
}

/**
 * The checked rate and key words; undefined when the rate is 0.
 * @throws RangeError for a rate outside [0, 1) or words that are not u32; TypeError for a missing key or one
 *   of another type.
 */
export function checkDropout(op: string, mask: DropoutMask): { rate: number; key: KeyWords } | undefined {
  const { dropoutRate: rate = 0, dropoutKey } = mask;
  if (!(rate >= 0 && rate < 1)) throw new RangeError(`${op}: expected 0 <= dropoutRate < 1, got ${rate}`);
  if (rate === 0) return undefined;
  if (dropoutKey === undefined)
    throw new TypeError(`${op}: expected a dropoutKey with dropoutRate ${rate}, got none`);
  if (dropoutKey instanceof Tensor && dropoutKey.dtype !== 'u32') {
    throw new TypeError(`${op}: expected dropoutKey of u32, got ${dropoutKey.dtype}`);
  }
  if (!(dropoutKey instanceof Tensor) && !Array.isArray(dropoutKey)) {
    throw new TypeError(
      `${op}: expected dropoutKey as a u32 tensor or two words, got ${describe(dropoutKey)}`,
    );
  }
  const words = Array.from(dropoutKey instanceof Tensor ? dropoutKey.dataSync() : dropoutKey);
  if (words.length !== 2 || words.some((word) => !Number.isInteger(word) || word < 0 || word >= 2 ** 32)) {
    throw new RangeError(`${op}: expected dropoutKey of two 32-bit words, got [${words.join(', ')}]`);
  }
  return { rate, key: [words[0], words[1]] };
}
