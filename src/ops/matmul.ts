/**
 * Matrix products of f32 tensors (f64 on the reference backend). For f16, bf16 and quantized weights use
 * `linear`.
 */

import { aBoolean } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { record } from '../autograd/tape.ts';
import type { MatmulPrecision } from '../backend/calls/call.ts';
import * as calls from '../backend/calls/matmul.ts';
import { broadcastShapes, type Shape, sameShape, shapeText, sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { broadcastTo, sumTo } from './broadcast-to.ts';
import { matmulPrecision, withMatmulPrecision } from './matmul-precision.ts';
import { allocate, checkRank, commonBackend, floatDType } from './operands.ts';
import { reshape } from './reshape.ts';

/** Options of `matmul`. */
export interface MatmulOptions {
  /** Read the last two axes of `a` swapped; default false. */
  readonly transposeA?: boolean;
  /** Read the last two axes of `b` swapped; default false. */
  readonly transposeB?: boolean;
}

const OPTIONS = optionKinds<MatmulOptions>({ transposeA: aBoolean, transposeB: aBoolean });

/**
 * `out[…, m, n] = sum_k a[…, m, k] * b[…, k, n]`, batch dimensions broadcast by NumPy's rule.
 * @param a `[…, M, K]` (`[…, K, M]` with `transposeA`), rank 2 or more.
 * @param b `[…, K, N]` (`[…, N, K]` with `transposeB`), rank 2 or more.
 * @throws RangeError when K differs or batch dimensions do not broadcast.
 * @returns `[…, M, N]`.
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  checkOptions('matmul', options, OPTIONS);
  const { transposeA = false, transposeB = false } = options;
  const backend = commonBackend('matmul', a, b);
  const dtype = floatDType('matmul', a, b);
  checkRank('matmul', 'a', a, 2, Number.POSITIVE_INFINITY);
  checkRank('matmul', 'b', b, 2, Number.POSITIVE_INFINITY);
  const [rowsA, columnsA] = a.shape.slice(-2);
  const [rowsB, columnsB] = b.shape.slice(-2);
  const [M, K] = transposeA ? [columnsA, rowsA] : [rowsA, columnsA];
  const [innerB, N] = transposeB ? [columnsB, rowsB] : [rowsB, columnsB];
  if (K !== innerB) {
    throw new RangeError(
      `matmul: expected equal inner dimensions, got ${K} of ${shapeText(a.shape)}${transposeA ? ' transposed' : ''}` +
        ` and ${innerB} of ${shapeText(b.shape)}${transposeB ? ' transposed' : ''}`,
    );
  }
  const precision = matmulPrecision();
  const batchShape = broadcastShapes('matmul', a.shape.slice(0, -2), b.shape.slice(0, -2));
  const out = allocate(backend, dtype, [...batchShape, M, N]);
  if (!transposeA && sizeOf(b.shape.slice(0, -2)) === 1) {
    // b has no batch: fold the batch of a into rows. [..., M, K] -> [... * M, K]
    const rows = sizeOf(batchShape) * M;
    const dims = { batch: 1, M: rows, N, K, transposeA, transposeB, aBatchStride: 0, bBatchStride: 0 };
    backend.run(calls.matmul, { out, a, b, precision, ...dims });
    recordProduct(a, b, out, precision, transposeA, transposeB);
    return out;
  }
  const x = repeated(a, batchShape);
  const y = repeated(b, batchShape);
  const [aBatchStride, bBatchStride] = [x.stride, y.stride];
  const dims = { batch: sizeOf(batchShape), M, N, K, transposeA, transposeB, aBatchStride, bBatchStride };
  backend.run(calls.matmul, { out, a: x.tensor, b: y.tensor, precision, ...dims });
  for (const { tensor } of [x, y]) if (tensor !== a && tensor !== b) tensor.dispose();
  recordProduct(a, b, out, precision, transposeA, transposeB);
  return out;
}

/** dA = G B^T and dB = A^T G; transposes change accordingly for operands stored transposed. */
function recordProduct(
  a: Tensor,
  b: Tensor,
  out: Tensor,
  precision: MatmulPrecision,
  transposeA: boolean,
  transposeB: boolean,
): void {
  record({
    inputs: [a, b],
    outputs: [out],
    saved: [a, b],
    vjp: ([gradient], [left, right], needed) => {
      const g = gradient as Tensor;
      const forA = () =>
        transposeA
          ? matmul(right, g, { transposeA: transposeB, transposeB: true })
          : matmul(g, right, { transposeB: !transposeB });
      const forB = () => {
        // b has no batch: fold the batch into rows, so the product also sums over it.
        const oneB = !transposeA && sizeOf(right.shape.slice(0, -2)) === 1;
        const flat = (x: Tensor) => (oneB ? reshape(x, [-1, x.shape[x.shape.length - 1]]) : x);
        const product = transposeB
          ? matmul(flat(g), flat(left), { transposeA: true, transposeB: transposeA })
          : matmul(flat(left), flat(g), { transposeA: !transposeA });
        return oneB ? reshape(product, right.shape) : sumTo(product, right.shape);
      };
      return withMatmulPrecision(precision, () => [
        needed[0] ? sumTo(forA(), left.shape) : undefined,
        needed[1] ? forB() : undefined,
      ]);
    },
  });
}

/**
 * The operand and the stride between its matrices; copied only when it broadcasts along some but not all
 * batch axes.
 */
function repeated(x: Tensor, batchShape: Shape): { tensor: Tensor; stride: number } {
  const matrix = x.shape.slice(-2);
  const own = x.shape.slice(0, -2);
  if (sizeOf(own) === 1) return { tensor: x, stride: 0 };
  const lead = batchShape.slice(0, batchShape.length - own.length);
  if (sizeOf(lead) === 1 && sameShape(own, batchShape.slice(lead.length)))
    return { tensor: x, stride: sizeOf(matrix) };
  return { tensor: broadcastTo(x, [...batchShape, ...matrix]), stride: sizeOf(matrix) };
}
