/**
 * Attention against PyTorch, JAX, Flax's dropout and a float64 formula, on every backend, and on the
 * reference backend in f64. In rows that may attend to nothing JAX gives the mean of V; here they must be
 * zeros.
 */
import { describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/backend.ts';
import { uniformAt } from '../../src/backend/threefry.ts';
import { type AttentionOptions, dotProductAttention, scope, type Tensor } from '../../src/index.ts';
import { storedTensor } from '../cases/inputs.ts';
import { backends, reference } from './backends.ts';
import { type GoldenFile, readGolden, recast } from './golden.ts';
import { difference } from './run-cases.ts';

interface GoldenCase {
  readonly name: string;
  readonly layout: 'BTNH' | 'BNTH';
  readonly B: number;
  readonly T: number;
  readonly S: number;
  readonly N: number;
  readonly Hv: number;
  readonly options: AttentionOptions;
  /** `[b, n, t]` of queries that may attend to nothing. */
  readonly emptyRows?: readonly (readonly [number, number, number])[];
}

const FILES = ['torch', 'jax', 'formula', 'flax-dropout'];
const runs: [label: string, backend: Backend, dtype: 'f32' | 'f64'][] = [
  ...backends.map((backend): [string, Backend, 'f32'] => [backend.name, backend, 'f32']),
  ['reference f64', reference, 'f64'],
];

for (const name of FILES) {
  const golden = readGolden<GoldenCase>(`attention/${name}`);
  for (const [label, backend, dtype] of runs) {
    describe(`${name} golden on ${label}`, () => {
      for (const row of golden.cases) {
        test(row.name, () => {
          const { output, logSumExp } = attend(golden, row, backend, dtype);
          expect(
            difference(...seen(row, output, golden.values(`${row.name}/output`), row.Hv), 1e-5),
          ).toBeUndefined();
          for (const at of emptyOffsets(row)) {
            expect(Array.from(output.subarray(at * row.Hv, (at + 1) * row.Hv))).toEqual(
              new Array(row.Hv).fill(0),
            );
          }
          // The formula gives a sink to queries past their row's length too; here they are no queries:
          // -Infinity.
          const sums = golden.input(`${row.name}/logSumExp`)?.values;
          if (sums && row.options.querySeqLengths) {
            expect(difference(...seen(row, logSumExp, sums, 1), 1e-5)).toBeUndefined();
          } else if (sums) {
            expect(difference(logSumExp, sums, 1e-5)).toBeUndefined();
          }
        });
      }
    });
  }
}

test('the dropout mask is bernoulli of the key, element by element', () => {
  const golden = readGolden<GoldenCase>('attention/flax-dropout');
  for (const { name, options } of golden.cases) {
    const [a, b] = Array.from(golden.values(`${name}/dropoutKey`));
    const keep = Array.from(golden.values(`${name}/keep`));
    const rate = Math.fround(1 - (options.dropoutRate ?? 0));
    expect(keep.map((_, i) => Number(uniformAt([a, b], i) < rate))).toEqual(keep);
  }
});

function attend(golden: GoldenFile<GoldenCase>, row: GoldenCase, backend: Backend, dtype: 'f32' | 'f64') {
  let output: ArrayLike<number> = [];
  let logSumExp: ArrayLike<number> = [];
  scope(() => {
    const operand = (key: string): Tensor | undefined => {
      const input = golden.input(`${row.name}/${key}`);
      if (!input) return undefined;
      return storedTensor(backend, input.dtype === 'f32' ? recast(input, dtype) : input);
    };
    const [query, key, value] = ['query', 'key', 'value'].map((one) => operand(one) as Tensor);
    const results = dotProductAttention(query, key, value, {
      ...row.options,
      layout: row.layout,
      bias: operand('bias'),
      mask: operand('mask'),
      sinks: operand('sinks'),
      dropoutKey: operand('dropoutKey'),
      returnLogSumExp: true,
    });
    [output, logSumExp] = results.map((result) => result.dataSync());
  });
  return { output: Float64Array.from(output), logSumExp };
}

/** Flat index of each empty query in `[B, T, N]` or `[B, N, T]`. */
function emptyOffsets({ layout, emptyRows = [], T, N }: GoldenCase): number[] {
  return emptyRows.map(([b, n, t]) => (layout === 'BTNH' ? (b * T + t) * N + n : (b * N + n) * T + t));
}

/** Both arrays without the empty queries' `width` numbers, which frameworks disagree on. */
function seen(
  row: GoldenCase,
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  width: number,
): [ArrayLike<number>, ArrayLike<number>] {
  const empty = new Set(emptyOffsets(row));
  const keep = (_: number, i: number) => !empty.has(Math.floor(i / width));
  return [Array.from(got).filter(keep), Array.from(want).filter(keep)];
}
