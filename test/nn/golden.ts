/**
 * Golden arrays as tensors, and the comparison: "tolerance t" is max |error| <= t * max(1, max |reference|).
 */
import { expect } from 'vitest';
import { type Tensor, tensor } from '../../src/index.ts';
import { type GoldenArray, readGolden } from '../random/golden.ts';

/** Name as `nnx/attention`. */
export function load(name: string): Record<string, GoldenArray> {
  return readGolden(new URL(`../golden/${name}.safetensors`, import.meta.url));
}

/** On the current backend; u8 arrays are masks. */
export function toTensor({ shape, values }: GoldenArray): Tensor {
  return tensor(values, { shape, dtype: values instanceof Uint8Array ? 'bool' : undefined });
}

/** The largest error over max(1, max |want|); infinite for a NaN or another length. */
export function errorOf(got: ArrayLike<number>, want: ArrayLike<number>): number {
  if (got.length !== want.length) return Number.POSITIVE_INFINITY;
  let [error, scale] = [0, 1];
  for (let i = 0; i < want.length; i++) {
    if (Number.isNaN(got[i])) return Number.POSITIVE_INFINITY;
    error = Math.max(error, Math.abs(got[i] - want[i]));
    scale = Math.max(scale, Math.abs(want[i]));
  }
  return error / scale;
}

export function expectClose(got: ArrayLike<number>, want: ArrayLike<number>, tolerance: number): void {
  expect(errorOf(got, want)).toBeLessThanOrEqual(tolerance);
}
