/**
 * The gradient of every row of a group. On the reference backend in f64 it is held to central differences
 * along random directions; on every other backend, in the row's dtypes, to the reference's.
 *
 * What is differentiated is the sum of all outputs, each element times a weight drawn from the row's seed;
 * outputs that are not finite (the log-sum-exp of a row that sees nothing) weigh 0, and inputs that are not
 * finite stand still.
 */
import { describe, expect, test } from 'vitest';
import { backendOf } from '../../src/backend/registry.ts';
import {
  add,
  cast,
  mul,
  reshape,
  scope,
  slice,
  sum,
  Tensor,
  UnsupportedError,
  valueAndGrad,
} from '../../src/index.ts';
import { encode } from '../../src/tensor/encode.ts';
import {
  type CaseInput,
  drawInputs,
  oracleTensor,
  randomFrom,
  seedOf,
  storedTensor,
} from '../cases/inputs.ts';
import { normal, type OpCase, type OpCases } from '../cases/op-case.ts';
import { backends, reference } from './backends.ts';
import { difference } from './run-cases.ts';

export interface GradientOptions {
  /** Inputs that are not differentiated. */
  readonly constants?: readonly string[];
  /** Rows that have no gradient to check, by name. */
  readonly without?: (row: OpCase) => boolean;
  /** How much wider than the row's own tolerance the other backends' gradients may be. Default 10. */
  readonly slack?: number;
}

const FLOATS = ['f32', 'f64', 'f16', 'bf16'];
const STEP = 1e-5;
const DIRECTIONS = 2;

export function runGradients(cases: OpCases, options: GradientOptions = {}): void {
  const { constants = [], without = () => false, slack = 10 } = options;
  const leafOf = (input: CaseInput) => FLOATS.includes(input.dtype) && !constants.includes(input.name);
  const rows = cases.rows.filter(
    (row) => !without(row) && drawInputs(row).some((input) => leafOf(input) && input.values.length > 0),
  );
  const wanted = new Map<OpCase, Gradients>();
  const oracle = (row: OpCase) => {
    let want = wanted.get(row);
    if (!want) {
      want = gradients(cases, row, drawInputs(row), leafOf, (input) => oracleTensor(reference, input));
      wanted.set(row, want);
    }
    return want;
  };

  describe(`gradient of ${cases.op} against differences`, () => {
    for (const row of rows) {
      test(row.name, () => {
        const want = oracle(row);
        for (const [name, values] of Object.entries(want.byInput)) {
          expect([name, Array.from(values).findIndex((x) => !Number.isFinite(x))]).toEqual([name, -1]);
        }
        checkDirections(cases, row, leafOf, want);
      });
    }
  });
  for (const backend of backends) {
    describe(`gradient of ${cases.op} on ${backend.name}`, () => {
      for (const row of rows) {
        test(row.name, (context) => {
          try {
            const got = gradients(cases, row, drawInputs(row), leafOf, (input) =>
              storedTensor(backend, input),
            );
            const want = oracle(row);
            for (const [name, values] of Object.entries(want.byInput)) {
              const failure = difference(got.byInput[name], values, slack * Math.max(row.tolerance, 1e-6));
              if (failure) throw new Error(`d${name} on ${backend.description}: ${JSON.stringify(failure)}`);
            }
          } catch (error) {
            if (backend === reference || !(error instanceof UnsupportedError)) throw error;
            context.skip(error.message);
          }
        });
      }
    });
  }
}

interface Gradients {
  readonly value: number;
  readonly byInput: Readonly<Record<string, ArrayLike<number>>>;
}

function gradients(
  cases: OpCases,
  row: OpCase,
  inputs: readonly CaseInput[],
  leafOf: (input: CaseInput) => boolean,
  make: (input: CaseInput) => Tensor,
): Gradients {
  let result: Gradients | undefined;
  scope(() => {
    const tensors = Object.fromEntries(inputs.map((input) => [input.name, make(input)]));
    const leaves = Object.fromEntries(inputs.filter(leafOf).map(({ name }) => [name, tensors[name]]));
    const [value, found] = valueAndGrad((chosen: Record<string, Tensor>) =>
      weighted(cases, row, { ...tensors, ...chosen }),
    )(leaves);
    result = {
      value: value.dataSync()[0],
      byInput: Object.fromEntries(Object.entries(found).map(([name, x]) => [name, x.dataSync()])),
    };
  });
  return result as Gradients;
}

/** The scalar that is differentiated. */
function weighted(cases: OpCases, row: OpCase, tensors: Readonly<Record<string, Tensor>>): Tensor {
  const out = cases.run(tensors, row.attrs);
  const uniform = randomFrom(seedOf(`${row.name} weights`));
  return (
    (out instanceof Tensor ? [out] : out)
      .map((x) => (x.dtype === 'f16' || x.dtype === 'bf16' ? cast(x, 'f32') : x))
      // `mul` takes at most rank 6.
      .map((x) => (x.shape.length > 6 ? reshape(x, [-1]) : x))
      .map((x) => {
        const values = x.dataSync();
        const weights = Float64Array.from(values, (value, i) => {
          const weight = normal(uniform, i, x.shape);
          return Number.isFinite(value) ? weight : 0;
        });
        const finite = Float64Array.from(values, (value) => Number(Number.isFinite(value)));
        const like = (numbers: Float64Array) =>
          storedTensor(backendOf(x), {
            name: 'weights',
            dtype: x.dtype === 'f64' ? 'f64' : 'f32',
            shape: x.shape,
            bytes: encode(x.dtype === 'f64' ? 'f64' : 'f32', numbers),
            values: numbers,
          });
        // 0 times an infinity is NaN: such outputs are left out altogether.
        if (finite.includes(0)) {
          const kept = Array.from(finite.keys()).filter((i) => finite[i] === 1);
          if (kept.length === 0) return undefined;
          return weightedElements(x, kept, weights);
        }
        return sum(mul(x, like(weights)));
      })
      .filter((x) => x !== undefined)
      .reduce((total, x) => add(total, x))
  );
}

function weightedElements(x: Tensor, kept: readonly number[], weights: Float64Array): Tensor {
  const flat = reshape(x, [-1]);
  return kept.map((i) => mul(sum(sliceOne(flat, i)), weights[i])).reduce((total, item) => add(total, item));
}

function sliceOne(flat: Tensor, index: number): Tensor {
  return slice(flat, [index], [index + 1]);
}

/** `(f(x + h d) - f(x - h d)) / 2h` against the gradient along d. */
function checkDirections(
  cases: OpCases,
  row: OpCase,
  leafOf: (input: CaseInput) => boolean,
  want: Gradients,
): void {
  const inputs = drawInputs(row);
  for (let direction = 0; direction < DIRECTIONS; direction++) {
    const uniform = randomFrom(seedOf(`${row.name} direction ${direction}`));
    const moves = new Map(
      inputs.filter(leafOf).map((input) => [
        input.name,
        Float64Array.from(input.values, (value, i) => {
          const move = normal(uniform, i, input.shape);
          return Number.isFinite(value) ? move : 0;
        }),
      ]),
    );
    let along = 0;
    let size = 1;
    for (const [name, move] of moves) {
      move.forEach((d, i) => {
        along += d * want.byInput[name][i];
        size += (d * want.byInput[name][i]) ** 2;
      });
    }
    const at = (step: number) => {
      let value = Number.NaN;
      scope(() => {
        const tensors = inputs.map((input) => {
          const move = moves.get(input.name);
          if (!move) return [input.name, oracleTensor(reference, input)] as const;
          const values = Float64Array.from(input.values, (x, i) => x + step * move[i]);
          return [input.name, oracleTensor(reference, { ...input, values })] as const;
        });
        value = weighted(cases, row, Object.fromEntries(tensors)).dataSync()[0];
      });
      return value;
    };
    const slope = (step: number) => (at(step) - at(-step)) / (2 * step);
    let measured = slope(STEP);
    // Truncation grows with h^2, rounding with |f| / h; both are far below a wrong term.
    const allowed = 1e-6 * Math.sqrt(size) + (1e-14 * Math.abs(want.value)) / STEP + 1e-8;
    // Where the third derivative is large: Richardson's step from h and 2h takes its part out.
    if (Math.abs(measured - along) >= allowed) measured = (4 * measured - slope(2 * STEP)) / 3;
    expect(
      Math.abs(measured - along),
      `along direction ${direction}: got ${along}, measured ${measured}`,
    ).toBeLessThan(allowed);
  }
}
