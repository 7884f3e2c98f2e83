/** The largest elements and where they are. */
import { aBoolean, aNumber } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { withoutRecording } from '../autograd/tape.ts';
import { scope } from '../tensor/scope.ts';
import { normalizeAxis, withLast } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { cast } from './cast.ts';
import { chooseExperts } from './experts.ts';
import { checkRank, commonBackend, floatDType } from './operands.ts';
import { reshape } from './reshape.ts';
import { transpose } from './transpose.ts';

/** Options of `argmax`. */
export interface ArgmaxOptions {
  /** Negative from the end; default: the index in the flattened tensor. */
  readonly axis?: number;
  /** Keep the reduced axis (without `axis`: all of them) with length 1; default false. */
  readonly keepDims?: boolean;
}

const OPTIONS = optionKinds<ArgmaxOptions>({ axis: aNumber, keepDims: aBoolean });

/**
 * The `k` largest elements of each row (last axis) and their indices, largest first, as `jax.lax.top_k`. Of
 * equal elements (0 and -0 are) the first comes first; NaN counts as larger than all numbers. The values have gradients. It
 * takes time proportional to `k`.
 * @param x `[…, n]` of a float dtype.
 * @param k 1 … n
 * @throws RangeError for another k, or a scalar.
 * @returns values of x's dtype and indices i32, both `[…, k]`
 * @example const [values, indices] = topK(tensor([3, 1, 2]), 2); // [3, 2] at [0, 2]
 */
export function topK(x: Tensor, k: number): [values: Tensor, indices: Tensor] {
  commonBackend('topK', x);
  checkRank('topK', 'x', x, 1, Number.POSITIVE_INFINITY);
  const n = x.shape[x.shape.length - 1];
  checkFloat('topK', x);
  aNumber('topK', 'k', k);
  if (!(Number.isInteger(k) && k >= 1 && k <= n)) {
    throw new RangeError(`topK: expected k from 1 to ${n}, got ${k}`);
  }
  const shape = withLast(x.shape, undefined).concat(k);
  return scope(() => {
    const rows = reshape(isNarrow(x) ? cast(x, 'f32') : x, [x.size / n, n]);
    const { values, ids } = chooseExperts(rows, { count: k });
    return [cast(reshape(values, shape), x.dtype), reshape(ids, shape)];
  });
}

/**
 * The index of the largest element, the first of equal ones, as `jax.numpy.argmax`; NaN counts as larger than
 * all numbers. It has no gradient.
 * @param x of a float dtype, rank up to 6 with `axis`.
 * @throws RangeError when there is no element along the axis, or the axis is outside `x`.
 * @returns i32, x's shape without the axis
 * @example argmax(tensor([[1, 5], [7, 2]]), { axis: -1 }); // [1, 0]
 */
export function argmax(x: Tensor, options: ArgmaxOptions = {}): Tensor {
  checkOptions('argmax', options, OPTIONS);
  commonBackend('argmax', x);
  checkFloat('argmax', x);
  const { axis, keepDims = false } = options;
  const rank = x.shape.length;
  const reduced = axis === undefined ? undefined : normalizeAxis('argmax', axis, rank);
  const isReduced = (i: number) => reduced === undefined || i === reduced;
  const count = reduced === undefined ? x.size : x.shape[reduced];
  if (count === 0)
    throw new RangeError(`argmax: expected at least one element, got shape [${x.shape.join(', ')}]`);
  const shape = x.shape.flatMap((dim, i) => (isReduced(i) ? (keepDims ? [1] : []) : [dim]));
  return withoutRecording(() =>
    scope(() => {
      const others = x.shape.flatMap((_, i) => (isReduced(i) ? [] : [i]));
      const rows = reduced === undefined ? reshape(x, [count]) : transpose(x, [...others, reduced]);
      return reshape(topK(rows, 1)[1], shape);
    }),
  );
}

function isNarrow({ dtype }: Tensor): boolean {
  return dtype === 'f16' || dtype === 'bf16';
}

/** @throws UnsupportedError for dtypes that are not floats */
function checkFloat(op: string, x: Tensor): void {
  if (!isNarrow(x)) floatDType(op, x);
}
