/** Reductions and softmax of the reference backend. */
import type { ArgumentsOf } from '../calls/call.ts';
import type * as calls from '../calls/reduce.ts';
import { BINARY } from './functions.ts';
import { store, valuesOf } from './memory.ts';

export function reduce({ op, out, x, outer, n, inner }: ArgumentsOf<typeof calls.reduce>): void {
  const values = valuesOf(x);
  const start = { sum: 0, max: -Infinity, min: Infinity }[op];
  const join = { sum: BINARY.add, max: BINARY.max, min: BINARY.min }[op];
  const result = new Float64Array(outer * inner).fill(start);
  for (let o = 0; o < outer; o++) {
    for (let k = 0; k < n; k++) {
      for (let i = 0; i < inner; i++) {
        result[o * inner + i] = join(result[o * inner + i], values[(o * n + k) * inner + i]);
      }
    }
  }
  store(out, result);
}

export function softmax({ out, x, rows, n }: ArgumentsOf<typeof calls.softmax>): void {
  const values = valuesOf(x);
  const result = new Float64Array(rows * n);
  for (let row = 0; row < rows; row++) {
    let max = -Infinity;
    for (let i = row * n; i < (row + 1) * n; i++) max = Math.max(max, values[i]);
    if (max === -Infinity) continue;
    let sum = 0;
    for (let i = row * n; i < (row + 1) * n; i++) sum += Math.exp(values[i] - max);
    for (let i = row * n; i < (row + 1) * n; i++) result[i] = Math.exp(values[i] - max) / sum;
  }
  store(out, result);
}
