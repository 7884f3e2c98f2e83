/** Sums, means, extrema, softmax and the norms. */
import * as gqa from '../../src/index.ts';
import { between, LENGTHS, type OpCase, type OpCases, opCases } from './op-case.ts';

const REDUCE = { sum: gqa.sum, mean: gqa.mean, max: gqa.max, min: gqa.min } as const;
interface ReduceAttrs extends gqa.ReduceOptions {
  readonly op: keyof typeof REDUCE;
}
const AXES: (number | number[] | undefined)[] = [
  undefined,
  0,
  1,
  2,
  3,
  -1,
  [0, 1],
  [2, 3],
  [0, 2],
  [1, 3],
  [0, 1, 3],
  [],
];

export const reduceCases: OpCases = opCases<ReduceAttrs>({
  op: 'reduce',
  run: ({ x }, { op, ...options }) => REDUCE[op](x, options),
  rows: (Object.keys(REDUCE) as (keyof typeof REDUCE)[]).flatMap((op): OpCase<ReduceAttrs>[] => [
    ...AXES.flatMap((axis) =>
      [false, true].map((keepDims) => ({
        name: `${op} axis ${JSON.stringify(axis)} keepDims ${keepDims}`,
        shapes: { x: [3, 5, 7, 2] },
        attrs: { op, axis, keepDims },
        tolerance: 5e-6,
      })),
    ),
    ...LENGTHS.map((n) => ({
      name: `${op} rows [3, ${n}]`,
      shapes: { x: [3, n] },
      attrs: { op, axis: -1 },
      tolerance: 1e-6,
      flops: 3 * n,
    })),
    ...LENGTHS.map((n) => ({
      name: `${op} columns [5, ${n}]`,
      shapes: { x: [5, n] },
      attrs: { op, axis: 0 },
      tolerance: 1e-6,
    })),
    { name: `${op} scalar`, shapes: { x: [] }, attrs: { op }, tolerance: 1e-6 },
    { name: `${op} over nothing`, shapes: { x: [3, 0] }, attrs: { op, axis: 1 }, tolerance: 0 },
    { name: `${op} of nothing`, shapes: { x: [0, 3] }, attrs: { op, axis: 1 }, tolerance: 0 },
    {
      name: `${op} long`,
      shapes: { x: [100_003] },
      attrs: { op },
      draw: { x: between(0, 1) },
      tolerance: 1e-5,
    },
    {
      name: `${op} with NaN`,
      shapes: { x: [5, 33] },
      draw: { x: (uniform, i) => (i % 33 === 17 && i > 66 ? Number.NaN : uniform()) },
      attrs: { op, axis: 1 },
      tolerance: 1e-6,
    },
  ]),
});

const SOFTMAX = { softmax: gqa.softmax, logSoftmax: gqa.logSoftmax } as const;
interface SoftmaxAttrs {
  readonly op: keyof typeof SOFTMAX;
  readonly axis?: number;
}

export const softmaxCases: OpCases = opCases<SoftmaxAttrs>({
  op: 'softmax',
  run: ({ x }, { op, axis }) => SOFTMAX[op](x, axis === undefined ? {} : { axis }),
  rows: (Object.keys(SOFTMAX) as (keyof typeof SOFTMAX)[]).flatMap((op): OpCase<SoftmaxAttrs>[] => [
    ...LENGTHS.map((n) => ({
      name: `${op} [3, ${n}]`,
      shapes: { x: [3, n] },
      draw: { x: between(-20, 20) },
      attrs: { op },
      tolerance: 1e-6,
    })),
    ...[0, 3, -1].map((axis) => ({
      name: `${op} of rank 8, axis ${axis}`,
      shapes: { x: [2, 3, 1, 5, 1, 2, 1, 3] },
      attrs: { op, axis },
      tolerance: 1e-6,
    })),
    ...[0, 1, 2, -2].map((axis) => ({
      name: `${op} axis ${axis}`,
      shapes: { x: [3, 5, 7] },
      attrs: { op, axis },
      tolerance: 1e-6,
    })),
    {
      name: `${op} huge logits`,
      shapes: { x: [3, 17] },
      draw: { x: between(-1.6e38, 1.6e38) },
      attrs: { op },
      tolerance: 1e-6,
    },
    {
      name: `${op} with -Infinity and a row of it only`,
      shapes: { x: [5, 19] },
      draw: { x: (uniform, i) => (i < 19 || i % 3 === 0 ? -Infinity : uniform()) },
      attrs: { op },
      tolerance: 1e-6,
    },
    { name: `${op} of nothing`, shapes: { x: [3, 0] }, attrs: { op }, tolerance: 0 },
  ]),
});

interface NormAttrs {
  readonly op: 'rmsNorm' | 'layerNorm';
  readonly eps?: number;
  readonly weightOffset?: number;
}

export const normCases: OpCases = opCases<NormAttrs>({
  op: 'norm',
  run: ({ x, weight, bias }, { op, ...options }) =>
    op === 'rmsNorm' ? gqa.rmsNorm(x, weight, options) : gqa.layerNorm(x, weight, bias, options),
  rows: (['rmsNorm', 'layerNorm'] as const).flatMap((op): OpCase<NormAttrs>[] => [
    ...LENGTHS.map((n) => ({
      name: `${op} [3, ${n}]`,
      shapes: { x: [3, n], weight: [n], ...(op === 'layerNorm' ? { bias: [n] } : {}) },
      // The variance of one or two values may be tiny against eps 1e-6: f32 cannot resolve it, so eps is
      // larger here.
      attrs: { op, eps: 1e-3 },
      tolerance: 3e-6,
    })),
    { name: `${op} without weight`, shapes: { x: [2, 3, 67] }, attrs: { op }, tolerance: 2e-6 },
    {
      name: `${op} bf16 weight`,
      shapes: { x: [3, 67], weight: [67] },
      dtypes: { weight: 'bf16' },
      attrs: { op },
      tolerance: 2e-6,
    },
    {
      name: `${op} large mean`,
      shapes: { x: [3, 67], weight: [67] },
      draw: { x: between(100, 101) },
      attrs: { op },
      tolerance: 1e-4,
    },
    { name: `${op} zeros`, shapes: { x: [3, 17] }, draw: { x: () => 0 }, attrs: { op }, tolerance: 1e-6 },
    { name: `${op} of nothing`, shapes: { x: [0, 17] }, attrs: { op }, tolerance: 0 },
    ...(op === 'rmsNorm'
      ? [
          {
            name: 'rmsNorm weight offset',
            shapes: { x: [3, 31], weight: [31] },
            attrs: { op, weightOffset: 1, eps: 1e-5 },
            tolerance: 2e-6,
          },
        ]
      : []),
  ]),
});
