/**
 * Matmul precision bfloat16: results stay within the bound that follows from rounding each operand once, on
 * every backend; and who says which precision a product has.
 */
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { setBackend } from '../../src/backend/registry.ts';
import {
  cast,
  dotProductAttention,
  grad,
  linear,
  matmul,
  mul,
  sum,
  type Tensor,
  tensor,
  transpose,
} from '../../src/index.ts';
import { matmulPrecision, setMatmulPrecision, withMatmulPrecision } from '../../src/ops/matmul-precision.ts';
import { randomFrom } from '../cases/inputs.ts';
import { backends } from './backends.ts';

/** Relative error of one value rounded to bf16: below half of 2^-7, the distance of numbers from 1 on. */
const VALUE = 2 ** -8;
/** Of a product of two. */
const PRODUCT = 2 * VALUE;
/** Of the f32 paths, for sums of this test's lengths. */
const SUM = 2e-6;

const uniform = randomFrom(29);
const numbers = (n: number) => Float32Array.from({ length: n }, () => 2 * uniform() - 1);

/** a [M, L] times b [N, L] transposed, and the same of magnitudes. */
function products(a: Float32Array, b: Float32Array, L: number) {
  const [M, N] = [a.length / L, b.length / L];
  const exact = new Float64Array(M * N);
  const magnitude = new Float64Array(M * N);
  for (let m = 0; m < M; m++)
    for (let n = 0; n < N; n++)
      for (let i = 0; i < L; i++) {
        const x = a[m * L + i] * b[n * L + i];
        exact[m * N + n] += x;
        magnitude[m * N + n] += Math.abs(x);
      }
  return { exact, magnitude };
}

function transposed(x: Float32Array, columns: number): Float32Array {
  const rows = x.length / columns;
  return Float32Array.from(x, (_, i) => x[(i % rows) * columns + Math.floor(i / rows)]);
}

function expectWithin(got: ArrayLike<number>, exact: Float64Array, bound: (i: number) => number) {
  expect(got.length).toBe(exact.length);
  for (let i = 0; i < exact.length; i++) {
    const error = Math.abs(got[i] - exact[i]);
    if (!(error <= bound(i)))
      expect.fail(`at ${i} got ${got[i]}, want ${exact[i]}: error ${error}, bound ${bound(i)}`);
  }
}

describe.each(backends.map(({ name }) => name))('%s', (name) => {
  beforeAll(async () => {
    await setBackend(name);
  });
  const narrow = (pass: () => Tensor) => withMatmulPrecision('bfloat16', pass).dataSync();
  const floats = (values: Float32Array, ...shape: number[]) => tensor(values, { shape });

  // Rows on both sides of a tile and of the largest pass that stays exact; In on both sides of a pair.
  test.each([
    [17, 33, 19],
    [40, 96, 80],
    [131, 64, 48],
    [515, 45, 130],
  ])('linear and its gradients: %i rows, In %i, Out %i', (rows, In, Out) => {
    const [x, w, b, d] = [numbers(rows * In), numbers(Out * In), numbers(Out), numbers(rows * Out)];
    const forward = products(x, w, In);
    const y = narrow(() => linear(floats(x, rows, In), floats(w, Out, In), floats(b, Out)));
    expectWithin(
      y,
      forward.exact.map((value, i) => value + b[i % Out]),
      (i) => (PRODUCT + SUM) * (forward.magnitude[i] + 1),
    );
    const loss = (x: Tensor, w: Tensor) => sum(mul(linear(x, w), floats(d, rows, Out)));
    const [dX, dW] = withMatmulPrecision('bfloat16', () =>
      grad(loss, [0, 1])(floats(x, rows, In), floats(w, Out, In)),
    );
    const byX = products(d, transposed(w, In), Out);
    expectWithin(dX.dataSync(), byX.exact, (i) => (PRODUCT + SUM) * (byX.magnitude[i] + 1));
    const byW = products(transposed(d, Out), transposed(x, In), rows);
    expectWithin(dW.dataSync(), byW.exact, (i) => (PRODUCT + SUM) * (byW.magnitude[i] + 1));
  });

  test.each([
    [17, 33, 45],
    [131, 64, 48],
    [1, 515, 45],
  ])('matmul and its gradients: M%i K%i N%i in two batch rows', (M, K, N) => {
    const [a, b, d] = [numbers(2 * M * K), numbers(K * N), numbers(2 * M * N)];
    const forward = products(a, transposed(b, N), K);
    const byA = products(d, b, N);
    const byB = products(transposed(a, K), transposed(d, N), 2 * M);
    for (const transposeB of [false, true]) {
      const left = floats(a, 2, M, K);
      const right = transposeB ? floats(transposed(b, N), N, K) : floats(b, K, N);
      const out = narrow(() => matmul(left, right, { transposeB }));
      expectWithin(out, forward.exact, (i) => (PRODUCT + SUM) * (forward.magnitude[i] + 1));
      const loss = (a: Tensor, b: Tensor) => sum(mul(matmul(a, b, { transposeB }), floats(d, 2, M, N)));
      const [dA, dB] = withMatmulPrecision('bfloat16', () => grad(loss, [0, 1])(left, right));
      expectWithin(dA.dataSync(), byA.exact, (i) => (PRODUCT + SUM) * (byA.magnitude[i] + 1));
      const gradient = transposeB ? transposed(Float32Array.from(dB.dataSync()), K) : dB.dataSync();
      expectWithin(gradient, byB.exact, (i) => (PRODUCT + SUM) * (byB.magnitude[i] + 1));
    }
  });

  test('matmul rounds where linear does', () => {
    const [x, w] = [floats(numbers(40 * 64), 40, 64), floats(numbers(32 * 64), 32, 64)];
    const rounds = (pass: () => Tensor) => !narrow(pass).every((value, i) => value === pass().dataSync()[i]);
    const byLinear = rounds(() => linear(x, w));
    expect(rounds(() => matmul(x, w, { transposeB: true }))).toBe(byLinear);
    expect(rounds(() => matmul(x, transpose(w)))).toBe(byLinear);
    expect(rounds(() => matmul(x, x, { transposeA: true }))).toBe(byLinear);
  });

  // Halfway between two bf16 numbers, so that no error cancels another.
  test.each([1 + 2 ** -8, 1 + 3 * 2 ** -8])('operands of %d, which all round the same way', (value) => {
    const [rows, In, Out] = [40, 64, 8];
    const filled = (...shape: number[]) =>
      floats(new Float32Array(shape.reduce((a, b) => a * b)).fill(value), ...shape);
    const [x, w, d] = [filled(rows, In), filled(Out, In), filled(rows, Out)];
    const near = (got: Tensor, n: number) => {
      const exact = new Float64Array(got.size).fill(n * value * value);
      expectWithin(got.dataSync(), exact, () => (PRODUCT + SUM) * exact[0]);
    };
    withMatmulPrecision('bfloat16', () => {
      near(linear(x, w), In);
      const [dX, dW] = grad((x: Tensor, w: Tensor) => sum(mul(linear(x, w), d)), [0, 1])(x, w);
      near(dX, Out);
      near(dW, rows);
    });
    const half = cast(filled(Out, In), 'bf16');
    const bound = In * value * value * 1.01 * (VALUE + SUM);
    const exact = linear(x, half).dataSync();
    expectWithin(
      narrow(() => linear(x, half)),
      Float64Array.from(exact),
      () => bound,
    );
    const [q, kv] = [filled(1, rows, 2, 64), filled(1, 100, 1, 64)];
    const same = new Float64Array(q.size).fill(value);
    expectWithin(
      narrow(() => dotProductAttention(q, kv, kv)),
      same,
      () => (2 * VALUE + SUM) * value,
    );
  });

  test.each([
    [10, 10, 16, 1],
    [37, 37, 64, 3],
    [70, 300, 40, 2],
    [150, 150, 128, 4],
  ])('attention: T%i S%i H%i, %i query heads on one', (T, S, H, N) => {
    const [q, k, v] = [numbers(T * N * H), numbers(S * H), numbers(S * H)];
    const out = narrow(() =>
      dotProductAttention(floats(q, 1, T, N, H), floats(k, 1, S, 1, H), floats(v, 1, S, 1, H), {
        isCausal: true,
        causalAlignment: 'bottomRight',
      }),
    );
    const scores = products(q, k, H);
    const scale = 1 / Math.sqrt(H);
    const exact = new Float64Array(out.length);
    const bound = new Float64Array(T * N);
    for (let row = 0; row < T * N; row++) {
      const keys = Math.floor(row / N) + S - T + 1;
      const at = (values: Float64Array) => values.subarray(row * S, row * S + keys);
      const top = Math.max(...at(scores.exact));
      const weights = at(scores.exact).map((x) => Math.exp((x - top) * scale));
      const total = weights.reduce((a, b) => a + b);
      for (let j = 0; j < keys; j++)
        for (let i = 0; i < H; i++) exact[row * H + i] += (weights[j] / total) * v[j * H + i];
      // A weight relative to their sum moves by the errors of two scores; values are below 1.
      const score = (PRODUCT + SUM) * Math.max(...at(scores.magnitude)) * scale;
      bound[row] = Math.exp(2 * score) - 1 + 2 * VALUE + SUM;
    }
    expectWithin(out, exact, (i) => bound[Math.floor(i / H)]);
  });

  test('gradients of attention are those of its forward pass', () => {
    const [T, N, H] = [40, 2, 32];
    const inputs = [numbers(T * N * H), numbers(T * H), numbers(T * H)];
    const upstream = numbers(T * N * H);
    const loss = (q: Tensor, k: Tensor, v: Tensor) =>
      sum(mul(dotProductAttention(q, k, v, { isCausal: true }), floats(upstream, 1, T, N, H)));
    const [q, k, v] = inputs.map((x) => floats(x, 1, T, x.length / T / H, H));
    const gradients = () => grad(loss, [0, 1, 2])(q, k, v).map((x) => x.dataSync());
    const exact = gradients();
    const got = withMatmulPrecision('bfloat16', gradients);
    for (const [i, values] of got.entries()) {
      const largest = Math.max(...exact[i].map(Math.abs));
      expectWithin(values, Float64Array.from(exact[i]), () => 2 ** -5 * largest);
    }
  });

  test('passes of at most 16 rows and 9 queries have the bits of highest', () => {
    const [x, w] = [floats(numbers(16 * 64), 16, 64), floats(numbers(24 * 64), 24, 64)];
    expect(narrow(() => linear(x, w))).toEqual(linear(x, w).dataSync());
    const product = () => matmul(x, w, { transposeB: true });
    expect(narrow(product)).toEqual(product().dataSync());
    const [q, k] = [floats(numbers(9 * 64), 1, 9, 2, 32), floats(numbers(50 * 32), 1, 50, 1, 32)];
    expect(narrow(() => dotProductAttention(q, k, k))).toEqual(dotProductAttention(q, k, k).dataSync());
  });
});

describe('the precision of a product', () => {
  afterEach(() => {
    setMatmulPrecision('highest');
    vi.unstubAllEnvs();
  });

  test("is the pass's, else the program's", () => {
    expect(matmulPrecision()).toBe('highest');
    setMatmulPrecision('bfloat16');
    expect(matmulPrecision()).toBe('bfloat16');
    expect(withMatmulPrecision('int8', matmulPrecision)).toBe('int8');
    expect(withMatmulPrecision(undefined, matmulPrecision)).toBe('bfloat16');
  });

  test('comes back after a pass, also after one that throws', () => {
    const fail = () =>
      withMatmulPrecision('bfloat16', () =>
        withMatmulPrecision('int8', () => {
          throw new Error(matmulPrecision());
        }),
      );
    expect(fail).toThrow('int8');
    expect(matmulPrecision()).toBe('highest');
  });

  test('has one of three names', () => {
    const unknown = 'bf16' as 'bfloat16';
    expect(() => setMatmulPrecision(unknown)).toThrow(
      new RangeError('setMatmulPrecision: expected highest, bfloat16, int8, got "bf16"'),
    );
    expect(matmulPrecision()).toBe('highest');
  });

  test('is GQA_MATMUL_PRECISION in the beginning', async () => {
    vi.resetModules();
    vi.stubEnv('GQA_MATMUL_PRECISION', 'bfloat16');
    const fresh = await import('../../src/ops/matmul-precision.ts');
    expect(fresh.matmulPrecision()).toBe('bfloat16');
    fresh.setMatmulPrecision('highest');
    expect(fresh.matmulPrecision()).toBe('highest');
    vi.resetModules();
    vi.stubEnv('GQA_MATMUL_PRECISION', 'fast');
    const wrong = await import('../../src/ops/matmul-precision.ts');
    expect(wrong.matmulPrecision).toThrow(
      new RangeError('GQA_MATMUL_PRECISION: expected highest, bfloat16, int8, got "fast"'),
    );
  });
});
