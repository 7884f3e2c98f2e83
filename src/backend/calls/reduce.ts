/** Reductions along one dimension, and softmax rows (kernels/reduce.c). */

export const REDUCE_OPS = ['sum', 'max', 'min'] as const;
export type ReduceOp = (typeof REDUCE_OPS)[number];

/**
 * f32 `[outer, n, inner] -> [outer, inner]`. An empty sum is 0; an empty max is -Infinity, an empty min
 * Infinity.
 */
export const reduce = {
  name: 'reduce',
  fields: {
    op: REDUCE_OPS as typeof REDUCE_OPS,
    out: 'f32',
    x: 'f32',
    outer: 'number',
    n: 'number',
    inner: 'number',
  },
} as const;

/** f32 rows `[rows, n]`; a row of -Infinity only gives zeros. May be in place. */
export const softmax = {
  name: 'softmax',
  fields: { out: 'f32', x: 'f32', rows: 'number', n: 'number' },
} as const;
