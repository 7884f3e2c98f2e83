/** Matrix products, projections by stored weights, embeddings and RoPE. */
import * as gqa from '../../src/index.ts';
import { linears } from '../../src/ops/linear.ts';
import { between, integers, LENGTHS, type OpCase, type OpCases, opCases } from './op-case.ts';

function product(
  name: string,
  a: number[],
  b: number[],
  attrs: gqa.MatmulOptions = {},
  tolerance = 3e-6,
): OpCase<gqa.MatmulOptions> {
  const K = attrs.transposeA ? a[a.length - 2] : a[a.length - 1];
  return {
    name: `${name} [${a}] x [${b}]`,
    shapes: { a, b },
    attrs,
    tolerance: (tolerance * Math.max(8, K)) / 8,
  };
}

export const matmulCases: OpCases = opCases<gqa.MatmulOptions>({
  op: 'matmul',
  run: ({ a, b }, options) => gqa.matmul(a, b, options),
  rows: [
    ...LENGTHS.flatMap((n) => [
      product('K', [3, n], [n, 5]),
      product('M', [n, 5], [5, 3]),
      product('N', [3, 5], [5, n]),
      product('N transposed', [3, 5], [n, 5], { transposeB: true }),
      product('M transposed', [5, n], [5, 3], { transposeA: true }),
    ]),
    product('both transposed', [7, 3], [5, 7], { transposeA: true, transposeB: true }),
    product('batch', [2, 3, 5], [2, 5, 7]),
    product('batch transposed', [2, 3, 5, 7], [2, 3, 11, 7], { transposeB: true }),
    product('batch transposed A', [2, 3, 7, 5], [2, 3, 7, 11], { transposeA: true }),
    product('one b', [2, 3, 5], [5, 7]),
    product('one b, transposed A', [2, 5, 3], [5, 7], { transposeA: true }),
    product('one a', [3, 5], [2, 5, 7]),
    product('batch of one', [1, 3, 5], [4, 5, 7]),
    product('partly broadcast', [2, 1, 3, 5], [7, 5, 11]),
    product('both partly broadcast', [2, 1, 3, 5], [1, 7, 5, 11]),
    product('tiles', [131, 67], [67, 137]),
    product('deep', [17, 521], [521, 19]),
    product('wide', [5, 31], [31, 523]),
    product('empty K', [3, 0], [0, 5]),
    product('empty M', [0, 3], [3, 5]),
  ],
});

type WeightDType = 'f32' | 'f16' | 'bf16' | 'q8_0' | 'q4_0' | 'q4_1';
const WEIGHTS: WeightDType[] = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'q4_1'];

/** `parts` output sizes of one input; bias on the odd ones. */
function projection(
  dtype: WeightDType,
  rows: number[],
  inFeatures: number,
  parts: number[],
): OpCase<{ parts: number }> {
  const shapes: Record<string, number[]> = { x: [...rows, inFeatures] };
  const dtypes: Record<string, gqa.DType> = {};
  parts.forEach((out, i) => {
    shapes[`w${i}`] = [out, inFeatures];
    dtypes[`w${i}`] = dtype;
    if (i % 2 === 1 || parts.length === 1) shapes[`b${i}`] = [out];
  });
  const outs = parts.reduce((sum, out) => sum + out, 0);
  const count = rows.reduce((product, dim) => product * dim, 1);
  return {
    name: `${dtype} [${rows}, ${inFeatures}] to ${parts}`,
    shapes,
    dtypes,
    attrs: { parts: parts.length },
    // Backends may quantise x to 8 bits against 4- and 8-bit weights: about 1/254 of x's largest per block,
    // averaged out.
    tolerance: gqaBlock(dtype) ? 2e-2 : 2e-6 * Math.sqrt(inFeatures),
    flops: 2 * count * inFeatures * outs,
  };
}

function gqaBlock(dtype: WeightDType): boolean {
  return dtype.startsWith('q');
}

export const linearCases: OpCases = opCases<{ parts: number }>({
  op: 'linear',
  run: (inputs, { parts }) => {
    const { x } = inputs;
    const weights = Array.from({ length: parts }, (_, i) => ({
      weight: inputs[`w${i}`],
      bias: inputs[`b${i}`],
    }));
    return parts === 1 ? gqa.linear(x, weights[0].weight, weights[0].bias) : linears(x, weights);
  },
  rows: WEIGHTS.flatMap((dtype) => [
    ...(gqaBlock(dtype) ? [32, 64, 96, 160, 288] : [...LENGTHS, 257]).flatMap((n) => [
      projection(dtype, [1], n, [7]),
      projection(dtype, [3], n, [5, 2, 3]),
    ]),
    ...[1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33].map((rows) => projection(dtype, [rows], 64, [13])),
    ...[1, 3, 15, 16, 17, 31, 33, 65, 131].map((out) => projection(dtype, [2], 96, [out])),
    projection(dtype, [2, 3], 64, [11, 4, 4]),
    projection(dtype, [67], 288, [131, 17]),
    projection(dtype, [0], 64, [5]),
    // No features: the bias, or zeros.
    ...[1, 3, 8, 17].map((rows) => projection(dtype, [rows], 0, [5, 3])),
  ]),
});

export const embeddingCases: OpCases = opCases<null>({
  op: 'embedding',
  run: ({ table, ids }) => gqa.embedding(table, ids),
  rows: WEIGHTS.flatMap((dtype) =>
    (gqaBlock(dtype) ? [32, 96] : [1, 3, 7, 17, 65]).flatMap((dim) =>
      [[11], [2, 3], [0]].map((ids) => ({
        name: `${dtype} [13, ${dim}] ids [${ids}]`,
        shapes: { table: [13, dim], ids },
        dtypes: { table: dtype, ids: 'i32' as const },
        draw: { ids: integers(0, 13) },
        attrs: null,
        tolerance: 1e-6,
      })),
    ),
  ),
});

export const ropeCases: OpCases = opCases<gqa.RopeOptions>({
  op: 'rope',
  run: ({ x, cos, sin }, options) => gqa.rope(x, cos, sin, options),
  rows: [false, true].flatMap((interleaved) => [
    ...[1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 32, 33].map((half) => ({
      name: `half ${half} interleaved ${interleaved}`,
      shapes: { x: [2, 3, 5, 2 * half], cos: [2, 3, half], sin: [2, 3, half] },
      draw: { cos: between(-1, 1), sin: between(-1, 1) },
      attrs: { interleaved },
      tolerance: 1e-6,
    })),
    {
      name: `partial interleaved ${interleaved}`,
      shapes: { x: [2, 3, 5, 23], cos: [2, 3, 7], sin: [2, 3, 7] },
      attrs: { interleaved },
      tolerance: 1e-6,
    },
    {
      name: `one table for all rows interleaved ${interleaved}`,
      shapes: { x: [2, 3, 5, 14], cos: [3, 7], sin: [3, 7] },
      attrs: { interleaved },
      tolerance: 1e-6,
    },
    {
      name: `without batch interleaved ${interleaved}`,
      shapes: { x: [3, 5, 14], cos: [3, 7], sin: [3, 7] },
      attrs: { interleaved },
      tolerance: 1e-6,
    },
  ]),
});
