/**
 * Runs every row of a group on every backend and compares with the reference backend in f64: "tolerance t" is
 * max |error| <= t * max(1, max |reference|); infinities and NaN must be in the same places.
 */
import { describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/backend.ts';
import { scope, Tensor, UnsupportedError } from '../../src/index.ts';
import { type CaseInput, drawInputs, oracleTensor, seedOf, storedTensor } from '../cases/inputs.ts';
import type { OpCase, OpCases } from '../cases/op-case.ts';
import { backends, reference, skipped } from './backends.ts';

interface Result {
  readonly shape: readonly number[];
  readonly values: ArrayLike<number>;
}

export function runCases(cases: OpCases): void {
  const wanted = new Map<OpCase, Result[]>();
  for (const backend of backends) {
    describe(`${cases.op} on ${backend.name}`, () => {
      for (const row of cases.rows) {
        test(row.name, (context) => {
          const inputs = drawInputs(row);
          let want = wanted.get(row);
          if (!want) {
            want = execute(cases, row, inputs, (input) => oracleTensor(reference, input));
            wanted.set(row, want);
          }
          const got = executeOrSkip(cases, row, inputs, backend, context.skip);
          expect(got.length).toBe(want.length);
          for (const [i, result] of got.entries()) {
            expect(result.shape).toEqual(want[i].shape);
            const failure = difference(result.values, want[i].values, row.tolerance);
            if (failure) throw new Error(report(cases, row, backend, i, failure));
          }
        });
      }
    });
  }
  for (const { name, reason } of skipped) test.skip(`${cases.op} on ${name}: ${reason}`, () => {});
}

/**
 * A dtype that a backend has no kernel for is a skip with that reason; on the reference backend it is a
 * failure.
 */
function executeOrSkip(
  cases: OpCases,
  row: OpCase,
  inputs: CaseInput[],
  backend: Backend,
  skip: (reason: string) => never,
): Result[] {
  try {
    return execute(cases, row, inputs, (input) => storedTensor(backend, input));
  } catch (error) {
    if (backend === reference || !(error instanceof UnsupportedError)) throw error;
    return skip(error.message);
  }
}

function execute(
  cases: OpCases,
  row: OpCase,
  inputs: CaseInput[],
  make: (input: CaseInput) => Tensor,
): Result[] {
  const results: Result[] = [];
  scope(() => {
    const tensors = Object.fromEntries(inputs.map((input) => [input.name, make(input)]));
    const out = cases.run(tensors, row.attrs);
    for (const x of out instanceof Tensor ? [out] : out)
      results.push({ shape: x.shape, values: x.dataSync() });
  });
  return results;
}

export interface Difference {
  readonly index: number;
  readonly got: number;
  readonly want: number;
  readonly maxAbs: number;
  readonly maxRelative: number;
  readonly allowed: number;
}

/** Where `got` is furthest from `want`, or undefined when it is within tolerance. */
export function difference(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  tolerance: number,
): Difference | undefined {
  let largest = 1;
  for (let i = 0; i < want.length; i++)
    if (Number.isFinite(want[i])) largest = Math.max(largest, Math.abs(want[i]));
  const allowed = tolerance * largest;
  let [index, maxAbs, maxRelative] = [-1, 0, 0];
  for (let i = 0; i < want.length; i++) {
    const error = Object.is(got[i], want[i]) || got[i] === want[i] ? 0 : Math.abs(got[i] - want[i]);
    // NaN or an infinity on one side only counts as infinitely wrong.
    const distance = Number.isNaN(error) ? Infinity : error;
    maxRelative = Math.max(maxRelative, distance / Math.max(Math.abs(want[i]), 1e-30));
    if (distance > maxAbs) [index, maxAbs] = [i, distance];
  }
  if (index < 0 || maxAbs <= allowed) return undefined;
  return { index, got: got[index], want: want[index], maxAbs, maxRelative, allowed };
}

function report(cases: OpCases, row: OpCase, backend: Backend, output: number, d: Difference): string {
  return (
    `${cases.op} "${row.name}" on ${backend.description}, seed ${seedOf(row.name)}, output ${output}, ` +
    `index ${d.index}: got ${d.got}, want ${d.want}; max abs ${d.maxAbs} (allowed ${d.allowed}), max rel ${d.maxRelative}`
  );
}
