/** Batched matrix products (kernels/matmul.c). */
import { MATMUL_PRECISIONS } from './call.ts';

/**
 * f32 `out[M, N] = a @ b` for each of `batch` pairs; a is [M, K] ([K, M] when transposeA), b [K, N] ([N, K]
 * when transposeB); consecutive pairs are aBatchStride and bBatchStride elements apart (0 = the same matrix
 * each time).
 */
export const matmul = {
  name: 'matmul',
  fields: {
    out: 'f32',
    a: 'f32',
    b: 'f32',
    batch: 'number',
    M: 'number',
    N: 'number',
    K: 'number',
    transposeA: 'flag',
    transposeB: 'flag',
    aBatchStride: 'number',
    bBatchStride: 'number',
    precision: MATMUL_PRECISIONS as typeof MATMUL_PRECISIONS,
  },
} as const;
