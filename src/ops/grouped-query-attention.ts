/** Grouped-query attention in its simplest form: no mask, head axis before the token axis. */

import { describe } from '../arguments/kinds.ts';
import { sameShape, shapeText } from '../tensor/shape.ts';
import { type NestedArray, Tensor } from '../tensor/tensor.ts';
import { dotProductAttention } from './attention.ts';
import { type TensorLike, tensor } from './creation.ts';
import { checkRank } from './operands.ts';

/**
 * `softmax(Q K^T / sqrt(d_k)) V`, each of the `numGroups` key/value heads shared by `heads / numGroups`
 * consecutive query heads.
 * @param Q `[batch, heads, seq, d_k]`, a tensor or nested arrays.
 * @param K `[batch, numGroups, seq, d_k]`, likewise.
 * @param V `[batch, numGroups, seq, d_v]`, likewise.
 * @param numGroups key/value heads; divides `heads`.
 * @throws RangeError when K or V do not have `numGroups` heads, or it does not divide `heads`.
 * @returns `[batch, heads, seq, d_v]`: nested arrays when all three were, else a tensor.
 *
 * Source: Ainslie et al. 2023, "GQA: training generalized multi-query transformer models from multi-head
 * checkpoints".
 *
 * @example
 * const out = groupedQueryAttention(Q, K, V, 2); // Q with 8 heads, K and V with 2
 */
export function groupedQueryAttention(Q: Tensor, K: Tensor, V: Tensor, numGroups: number): Tensor;
export function groupedQueryAttention(
  Q: number[][][][],
  K: number[][][][],
  V: number[][][][],
  numGroups: number,
): number[][][][];
export function groupedQueryAttention(
  Q: TensorLike,
  K: TensorLike,
  V: TensorLike,
  numGroups: number,
): NestedArray[];
export function groupedQueryAttention(
  Q: Tensor | TensorLike,
  K: Tensor | TensorLike,
  V: Tensor | TensorLike,
  numGroups: number,
): Tensor | NestedArray[];
export function groupedQueryAttention(
  Q: Tensor | TensorLike,
  K: Tensor | TensorLike,
  V: Tensor | TensorLike,
  numGroups: number,
): Tensor | NestedArray[] {
  const given = [Q, K, V];
  const made: Tensor[] = [];
  const [query, key, value] = given.map((x) => {
    if (x instanceof Tensor) return x;
    made.push(tensor(x));
    return made[made.length - 1];
  });
  try {
    checkGroups(query, key, value, numGroups);
    const out = dotProductAttention(query, key, value, { layout: 'BNTH' });
    if (made.length < given.length) return out;
    made.push(out);
    return out.toArray() as NestedArray[];
  } finally {
    for (const x of made) x.dispose();
  }
}

function checkGroups(query: Tensor, key: Tensor, value: Tensor, numGroups: number): void {
  const op = 'groupedQueryAttention';
  if (!Number.isInteger(numGroups) || numGroups < 1) {
    throw new RangeError(`${op}: expected numGroups to be a positive integer, got ${describe(numGroups)}`);
  }
  checkRank(op, 'Q', query, 4);
  checkRank(op, 'K', key, 4);
  checkRank(op, 'V', value, 4);
  if (key.shape[1] !== numGroups || value.shape[1] !== numGroups) {
    throw new RangeError(
      `${op}: expected K and V with numGroups=${numGroups} heads, got ${shapeText(key.shape)} and ${shapeText(value.shape)}`,
    );
  }
  if (query.shape[0] !== key.shape[0] || query.shape[3] !== key.shape[3]) {
    throw new RangeError(
      `${op}: expected Q and K with the same batch and d_k, got ${shapeText(query.shape)} and ${shapeText(key.shape)}`,
    );
  }
  if (!sameShape(key.shape.slice(0, 3), value.shape.slice(0, 3))) {
    throw new RangeError(
      `${op}: expected K and V with the same batch and seq, got ${shapeText(key.shape)} and ${shapeText(value.shape)}`,
    );
  }
  if (query.shape[1] % numGroups !== 0) {
    throw new RangeError(
      `${op}: expected numGroups to divide the heads of Q, got ${numGroups} and ${query.shape[1]}`,
    );
  }
}
