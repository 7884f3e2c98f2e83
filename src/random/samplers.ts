/**
 * Samplers whose elements are independent functions of their own bits: one kernel call each. Equal to JAX's
 * on x86 bit for bit, including polynomial approximations.
 *
 * Source: jax/_src/random/core.py.
 */

import { aNumber, describe } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { ArgumentsOf } from '../backend/calls/call.ts';
import { random } from '../backend/calls/random.ts';
import { backendOf } from '../backend/registry.ts';
import { byteLengthOf } from '../tensor/dtype.ts';
import { checkedShape, type Shape, sizeOf } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { erf } from './erf.ts';
import { keyWords } from './key.ts';

const f = Math.fround;
const SQRT2 = f(Math.SQRT2);
/** XLA divides by a constant in this way. */
const INVERSE_SQRT2 = f(1 / SQRT2);
/** The f32 next to -1, towards 0: the smallest value whose erf_inv is finite. */
const ABOVE_MINUS_ONE = -1 + 2 ** -24;

/** Options of `uniform`. */
export interface UniformOptions {
  /** Default 0. */
  readonly minval?: number;
  /** Default 1. */
  readonly maxval?: number;
}

const UNIFORM_OPTIONS = optionKinds<UniformOptions>({ minval: aNumber, maxval: aNumber });

/**
 * Random bits.
 * @param shape default `[]`.
 * @returns u32, on the key's backend, as for all samplers.
 */
export function bits(key: Tensor, shape: Shape = []): Tensor {
  return draw('bits', key, shape, { kind: 'bits' });
}

/**
 * Uniform over `[minval, maxval)`, with 2^23 distinct values.
 * @param shape default `[]`.
 * @returns f32.
 */
export function uniform(key: Tensor, shape: Shape = [], options: UniformOptions = {}): Tensor {
  checkOptions('uniform', options, UNIFORM_OPTIONS);
  return scaledUniform('uniform', key, shape, options.minval ?? 0, options.maxval ?? 1, 1);
}

/**
 * Standard normal: `sqrt(2) erf_inv(u)`.
 * @param shape default `[]`.
 * @returns f32.
 */
export function normal(key: Tensor, shape: Shape = []): Tensor {
  return factorNormal('normal', key, shape, SQRT2);
}

/**
 * Standard normal, truncated to `(lower, upper)`.
 * @param shape default `[]`.
 * @returns f32.
 */
export function truncatedNormal(key: Tensor, lower: number, upper: number, shape: Shape = []): Tensor {
  return scaledTruncatedNormal('truncatedNormal', key, lower, upper, shape, 1);
}

/**
 * Gumbel: `-log(-log(u))`.
 * @param shape default `[]`.
 * @returns f32.
 */
export function gumbel(key: Tensor, shape: Shape = []): Tensor {
  return draw('gumbel', key, shape, { kind: 'gumbel', minval: 2 ** -126 });
}

/**
 * True with probability `p`.
 * @param p default 0.5.
 * @param shape default `[]`.
 * @returns bool.
 */
export function bernoulli(key: Tensor, p = 0.5, shape: Shape = []): Tensor {
  checkNumbers('bernoulli', p);
  return draw('bernoulli', key, shape, { kind: 'bernoulli', high: p });
}

/**
 * `uniform(key, shape, { minval, maxval }) * scale` in one kernel call, for initializers; rounds twice, as
 * the product would.
 */
export function scaledUniform(
  op: string,
  key: Tensor,
  shape: Shape,
  minval: number,
  maxval: number,
  scale: number,
): Tensor {
  checkNumbers(op, minval, maxval, scale);
  return draw(op, key, shape, { kind: 'uniform', minval, maxval, scale });
}

/** `factor * erf_inv(u)`: a normal of standard deviation `factor / sqrt(2)`. */
export function factorNormal(op: string, key: Tensor, shape: Shape, factor: number): Tensor {
  return draw(op, key, shape, { kind: 'normal', minval: ABOVE_MINUS_ONE, factor });
}

/** `truncatedNormal(key, lower, upper, shape) * scale`. */
export function scaledTruncatedNormal(
  op: string,
  key: Tensor,
  lower: number,
  upper: number,
  shape: Shape,
  scale: number,
): Tensor {
  checkNumbers(op, lower, upper, scale);
  return draw(op, key, shape, {
    kind: 'normal',
    minval: erf(f(f(lower) * INVERSE_SQRT2)),
    maxval: erf(f(f(upper) * INVERSE_SQRT2)),
    factor: SQRT2,
    low: neighbour(f(lower), 1),
    high: neighbour(f(upper), -1),
    scale,
  });
}

const word = new Int32Array(1);
const float = new Float32Array(word.buffer);

/** The next f32 above (direction 1) or below (-1); the largest finite one inside an infinite bound. */
function neighbour(x: number, direction: 1 | -1): number {
  if (x === 0) return direction * 2 ** -149;
  float[0] = x;
  word[0] += x > 0 ? direction : -direction;
  return float[0];
}

function checkNumbers(op: string, ...values: readonly number[]): void {
  for (const value of values) {
    if (typeof value !== 'number' || Number.isNaN(value))
      throw new TypeError(`${op}: expected a number, got ${describe(value)}`);
  }
}

type RandomCall = Omit<ArgumentsOf<typeof random>, 'out' | 'count' | 'key'>;
type Draw = Partial<RandomCall> & Pick<RandomCall, 'kind'>;

function draw(op: string, key: Tensor, shape: Shape, call: Draw): Tensor {
  const words = keyWords(op, key);
  const own = checkedShape(op, shape);
  const backend = backendOf(key);
  const dtype = call.kind === 'bits' ? 'u32' : call.kind === 'bernoulli' ? 'bool' : 'f32';
  const out = new Tensor(backend.allocate(byteLengthOf(dtype, sizeOf(own))), dtype, own);
  const plain = { minval: 0, maxval: 1, factor: 1, low: -Infinity, high: Infinity, scale: 1 };
  backend.run(random, { out, count: out.size, key: words, ...plain, ...call });
  return out;
}
