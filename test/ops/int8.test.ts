/**
 * Matmul precision int8: results stay within the bound that follows from rounding x to 8 bits per 32 values, on
 * every backend; which products it touches, and values that are not finite.
 */
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/backend.ts';
import { open, setBackend } from '../../src/backend/registry.ts';
import { cast, type DType, grad, linear, sum, Tensor } from '../../src/index.ts';
import { expertLinears } from '../../src/ops/experts.ts';
import { linears } from '../../src/ops/linear.ts';
import { setMatmulPrecision } from '../../src/ops/matmul-precision.ts';
import { encode } from '../../src/tensor/encode.ts';
import { sizeOf } from '../../src/tensor/shape.ts';
import { randomFrom } from '../cases/inputs.ts';
import { backends } from './backends.ts';
import { randomWeights } from './random-weights.ts';

const BLOCK_DTYPES = ['q8_0', 'q4_0', 'q4_1', 'q5_0', 'q5_1', 'q4_k', 'q5_k', 'q6_k'] as const;
/** Of the f32 sums, for sums of this test's lengths. Codes and offsets are up to 16 times as large as values. */
const SUM = 3e-5;

afterEach(() => setMatmulPrecision('highest'));

describe.each(backends.map(({ name }) => name))('%s', (name) => {
  let backend: Backend;
  beforeAll(async () => {
    await setBackend(name);
    backend = open(name);
  });
  const uniform = randomFrom(31);
  const numbers = (n: number) => Float32Array.from({ length: n }, () => 2 * uniform() - 1);
  const stored = (dtype: DType, shape: number[], bytes: Uint8Array<ArrayBuffer>) => {
    const storage = backend.allocate(bytes.byteLength);
    backend.write(storage, bytes);
    return new Tensor(storage, dtype, shape);
  };
  const floats = (values: Float32Array, ...shape: number[]) => stored('f32', shape, encode('f32', values));
  const weights = (dtype: DType, ...shape: number[]) =>
    stored(dtype, shape, randomWeights(dtype, sizeOf(shape), uniform));

  /** x W^T, and the largest error of rounding x: half a step, largest / 254, per value of a group of 32. */
  function exact(x: Float32Array, w: ArrayLike<number>, rows: number, In: number) {
    const Out = w.length / In;
    const values = new Float64Array(rows * Out);
    const bound = new Float64Array(rows * Out);
    for (let r = 0; r < rows; r++)
      for (let from = 0; from < In; from += 32) {
        const group = x.subarray(r * In + from, r * In + from + 32);
        const half = Math.max(...group.map(Math.abs)) / 254;
        for (let o = 0; o < Out; o++)
          for (let i = 0; i < 32; i++) {
            const weight = w[o * In + from + i];
            values[r * Out + o] += group[i] * weight;
            bound[r * Out + o] += (half + SUM) * Math.abs(weight);
          }
      }
    return { values, bound };
  }

  test.each(BLOCK_DTYPES)('linear with %s weights', (dtype) => {
    const Out = 53;
    for (const In of dtype.endsWith('_k') ? [256, 1280] : [32, 96, 1120]) {
      const weight = weights(dtype, Out, In);
      const wide = cast(weight, 'f32').dataSync();
      for (const rows of [1, 3, 16, 17, 50]) {
        const x = numbers(rows * In);
        const bias = numbers(Out);
        setMatmulPrecision('int8');
        const got = linear(floats(x, rows, In), weight, floats(bias, Out)).dataSync();
        const { values, bound } = exact(x, wide, rows, In);
        for (let i = 0; i < values.length; i++) {
          const error = Math.abs(got[i] - values[i] - bias[i % Out]);
          if (!(error <= bound[i] + 1e-6))
            expect.fail(`${rows} x ${In}, at ${i}: error ${error}, bound ${bound[i]}`);
        }
      }
    }
  });

  const others = ['f16', 'q2_k', 'q3_k', 'iq4_xs', 'iq4_nl', 'mxfp4'] as const;
  test.each(others)('%s weights, and parts beside them, are those of highest', (dtype) => {
    const x = floats(numbers(20 * 256), 20, 256);
    const parts = [{ weight: weights('q8_0', 9, 256) }, { weight: weights(dtype, 5, 256) }];
    const before = linears(x, parts).map((y) => y.dataSync());
    setMatmulPrecision('int8');
    expect(linears(x, parts).map((y) => y.dataSync())).toEqual(before);
    expect(linear(x, parts[1].weight).dataSync()).toEqual(before[1]);
  });

  test.each([3, 40])('%i rows with a NaN or an infinity are NaN, the others as before', (rows) => {
    const weight = weights('q4_1', 7, 128);
    const x = numbers(rows * 128);
    setMatmulPrecision('int8');
    const before = linear(floats(x, rows, 128), weight).dataSync();
    x[100] = Number.NaN;
    x[128 + 3] = Number.POSITIVE_INFINITY;
    const after = linear(floats(x, rows, 128), weight).dataSync();
    // The reference keeps an infinity.
    for (const y of after.subarray(0, 14)) expect(Number.isFinite(y)).toBe(false);
    expect(after.subarray(14)).toEqual(before.subarray(14));
  });

  // With 5 groups of 32, the scales of 3 weight rows end before a whole vector of each row does.
  test.each([1, 3])('%i rows do not read what earlier calls left in memory', (rows) => {
    const bytes = randomWeights('q8_0', 64 * 256, uniform);
    for (let at = 0; at < bytes.length; at += 34) bytes.set([0, 0x7e], at); // NaN scales
    const poison = stored('q8_0', [64, 256], bytes);
    const x = floats(numbers(rows * 160), rows, 160);
    const weight = weights('q4_1', 3, 160);
    for (let call = 0; call < 8; call++) {
      setMatmulPrecision('highest');
      linear(floats(numbers(3 * 256), 3, 256), poison).dispose();
      setMatmulPrecision('int8');
      for (const y of linear(x, weight).dataSync()) expect(Number.isFinite(y)).toBe(true);
    }
  });

  test('experts multiply as linear does', () => {
    const [rows, In, Out] = [5, 96, 11];
    const experts = [0, 1, 2].map(() => weights('q4_0', Out, In));
    const values = numbers(rows * In);
    const x = floats(values, rows, In);
    const of = Int32Array.from({ length: rows }, (_, r) => r % 3);
    const ids = stored('i32', [rows, 1], new Uint8Array(of.buffer));
    setMatmulPrecision('int8');
    const got = expertLinears(x, ids, [{ weights: experts }], false)[0].dataSync();
    for (let r = 0; r < rows; r++) {
      const alone = linear(floats(values.slice(r * In, (r + 1) * In), 1, In), experts[of[r]]).dataSync();
      expect(got.slice(r * Out, (r + 1) * Out)).toEqual(alone);
    }
  });

  test('gradients are refused', () => {
    setMatmulPrecision('int8');
    const weight = weights('q8_0', 4, 32);
    const gradient = grad((x: Tensor) => sum(linear(x, weight)));
    expect(() => gradient(floats(numbers(64), 2, 32))).toThrow(
      new Error('linear: expected matmul precision highest or bfloat16 for gradients, got int8'),
    );
  });
});
