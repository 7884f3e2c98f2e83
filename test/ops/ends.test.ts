/**
 * The ends of f32 and special points, on every backend: attention beside large biases (JAX in f64), functions
 * and their slopes (PyTorch in f64), gradients at special points (PyTorch and JAX), rounding to f16 and bf16.
 */
import { describe, expect, test } from 'vitest';
import * as gqa from '../../src/index.ts';
import { halfToNumber, numberToBfloat, numberToHalf } from '../../src/tensor/half.ts';
import { type CaseInput, storedTensor } from '../cases/inputs.ts';
import { backends } from './backends.ts';
import { readGolden } from './golden.ts';
import { difference } from './run-cases.ts';

interface BiasedCase {
  readonly name: string;
  readonly inputs: string;
  readonly sinks: boolean;
}

interface Point {
  readonly op: string;
  readonly a: string;
  readonly b?: string;
  readonly torch: readonly string[];
  readonly jax: readonly string[];
}

const golden = readGolden<BiasedCase>('ops/ends');
const points = golden.json.points as readonly Point[];
const functions = golden.json.functions as readonly string[];
const LOWEST = -3.4028234663852886e38;
const OPS: Readonly<Record<string, (...args: gqa.Tensor[]) => gqa.Tensor>> = {
  exp: gqa.exp,
  log: gqa.log,
  sqrt: gqa.sqrt,
  tanh: gqa.tanh,
  sigmoid: gqa.sigmoid,
  silu: gqa.silu,
  gelu: (x) => gqa.gelu(x),
  geluTanh: (x) => gqa.gelu(x, { approximate: 'tanh' }),
  relu: gqa.relu,
  abs: gqa.abs,
  pow: gqa.pow,
  div: gqa.div,
  maximum: gqa.maximum,
  minimum: gqa.minimum,
};
const { dotProductAttention, full, grad, mul, sum, tensor } = gqa;

/** out, dQ, dK, dV, and what else was asked for, of sum(attention * d). */
function gradients(
  args: readonly gqa.Tensor[],
  d: gqa.Tensor,
  options: (rest: readonly gqa.Tensor[]) => gqa.AttentionOptions,
): (readonly number[])[] {
  const run = (...[q, k, v, ...rest]: gqa.Tensor[]) =>
    dotProductAttention(q, k, v, { ...options(rest), returnLogSumExp: false }) as gqa.Tensor;
  const indices = args.map((_, i) => i);
  const all = grad((...x: gqa.Tensor[]) => sum(mul(run(...x), d)), indices)(...args) as gqa.Tensor[];
  return [run(...args), ...all].map((x) => Array.from(x.dataSync()));
}

for (const backend of backends) {
  describe(`ends of f32 on ${backend.name}`, () => {
    const at = (name: string) => storedTensor(backend, golden.input(name) as CaseInput);
    const on = <T>(body: () => T): T => {
      gqa.setBackend(backend.name);
      return gqa.scope(body);
    };

    for (const { name, inputs, sinks } of golden.cases) {
      test(`attention, bias ${name}`, () => {
        on(() => {
          const [q, k, v, d] = ['q', 'k', 'v', 'd'].map((one) => at(`${inputs}/${one}`));
          const bias = at(`${name}/bias`);
          const joined = sinks ? at(`${name}/sinks`) : undefined;
          const got = gradients([q, k, v, bias], d, ([added]) => ({ bias: added, sinks: joined }));
          ['out', 'dQ', 'dK', 'dV', 'dBias'].forEach((what, i) => {
            expect(difference(got[i], golden.values(`${name}/${what}`), 2e-5), what).toBeUndefined();
          });
        });
      });
    }

    for (const T of [1, 5, 40]) {
      for (const S of [2, 64, 3000]) {
        test(`attention of ${T} queries and ${S} keys of equal, large scores`, () => {
          on(() => {
            const ones = (tokens: number) => full([1, tokens, 1, 8], 1);
            const mean = (scale: number, key: number, options: gqa.AttentionOptions) => {
              const values = Float32Array.from({ length: S * 8 }, (_, i) => (i < S * 4 ? 1 : 3));
              const args = [mul(ones(T), scale), mul(ones(S), key), tensor(values, { shape: [1, S, 1, 8] })];
              const [out, dQ, dK, dV] = gradients(args, ones(T), () => options);
              expect(difference(out, new Array(T * 8).fill(2), 1e-5), 'out').toBeUndefined();
              expect([...dQ, ...dK].every(Number.isFinite), 'dQ and dK are finite').toBe(true);
              expect(difference(dV, new Array(S * 8).fill(T / S), 1e-5), 'dV').toBeUndefined();
            };
            for (const bias of [-1e6, -1e9, LOWEST, -LOWEST]) mean(1, 1, { bias: full([1, 1, 1, S], bias) });
            mean(1e4, 1e4, {}); // scores of 2.8e8
            mean(6e18, 6e18, { scale: 1 }); // 2.9e38
            mean(-6e18, 6e18, { scale: 1 });
            mean(3, 3, { logitsSoftCap: 1e39 });
            mean(3, 3, { logitsSoftCap: 1e-46 });
            mean(1, 1, { sinks: full([1], -3e38) });
          });
        });
      }
    }

    test('attention beside a sink of 3e38 gives nothing, and values near the largest f32 their mean', () => {
      on(() => {
        const [q, k] = [full([1, 2, 1, 4], 1), full([1, 3, 1, 4], 1)];
        const v = full([1, 3, 1, 4], 3e38);
        const far = dotProductAttention(q, k, v, { sinks: full([1], 3e38), returnLogSumExp: true });
        expect([...far[0].dataSync()]).toEqual(new Array(8).fill(0));
        expect([...far[1].dataSync()]).toEqual(new Array(2).fill(Math.fround(3e38)));
        for (const x of dotProductAttention(q, k, v).dataSync()) expect(x / 3e38).toBeCloseTo(1, 5);
      });
    });

    test('softmax and cross-entropy of logits with a large number in common', () => {
      on(() => {
        for (const common of [1e7, -1e7, 1e9, LOWEST, -LOWEST]) {
          const logits = full([2, 64], common);
          const labels = tensor([3, 5], { dtype: 'i32' });
          const losses = gqa.softmaxCrossEntropy(logits, labels).dataSync();
          expect(difference(losses, [Math.log(64), Math.log(64)], 1e-6)).toBeUndefined();
          const dLogits = grad((x: gqa.Tensor) => sum(gqa.softmaxCrossEntropy(x, labels)))(logits);
          const want = Array.from({ length: 128 }, (_, i) => 1 / 64 - Number(i === 3 || i === 64 + 5));
          expect(difference(dLogits.dataSync(), want, 1e-6)).toBeUndefined();
          expect(
            difference(gqa.softmax(logits).dataSync(), new Array(128).fill(1 / 64), 1e-6),
          ).toBeUndefined();
          const logs = gqa.logSoftmax(logits).dataSync();
          expect(difference(logs, new Array(128).fill(-Math.log(64)), 1e-6)).toBeUndefined();
        }
      });
    });

    const x = golden.values('x');
    for (const name of functions) {
      test(`${name} and its slope over the whole range`, () => {
        on(() => {
          const f = OPS[name];
          const input = tensor(Float32Array.from(x));
          expectNear(f(input).dataSync(), golden.values(name), name);
          const slopes = grad((a: gqa.Tensor) => sum(f(a)))(input).dataSync();
          // At 0 sqrt has slope ±Infinity by the sign of 0 and abs bends: below, with the special points.
          expectNear(slopes, golden.values(`${name}/slope`), `${name} slope`);
        });
      });
    }

    test('exp(88.5) is 2.723e38, as in NumPy and JAX', () => {
      on(() => {
        const [got] = gqa.exp(tensor([88.5])).dataSync();
        expect(got / 2.7231e38).toBeCloseTo(1, 4);
        const far = gqa.exp(tensor([Infinity, -Infinity, NaN, 0, -0, 89, -104])).dataSync();
        expect([...far]).toEqual([Infinity, 0, NaN, 1, 1, Infinity, 0]);
        const back = gqa.sigmoid(tensor([Infinity, -Infinity, NaN, -88.5])).dataSync();
        expect([...back.slice(0, 3)]).toEqual([1, 0, NaN]);
        expect(back[3] / 3.672e-39).toBeCloseTo(1, 3);
      });
    });

    for (const { op, a, b, torch, jax } of points) {
      test(`gradient of ${op}(${a}${b === undefined ? '' : `, ${b}`})`, () => {
        on(() => {
          const args = (b === undefined ? [a] : [a, b]).map((value) => tensor([Number(value)]));
          const f = OPS[op];
          const got = grad(
            (...all: gqa.Tensor[]) => sum(f(...all)),
            args.map((_, i) => i),
          )(...args);
          (got as gqa.Tensor[]).forEach((side, i) => {
            const [ours] = side.dataSync();
            const [one, other] = [Number(torch[i]), Number(jax[i])];
            // Where they differ: docs/semantics.md, "Gradients at special points".
            const want = op === 'abs' || i === 0 ? one : other;
            if (Number.isFinite(want)) expect(ours).toBeCloseTo(want, 5);
            else expect(ours).toBe(want);
          });
        });
      });
    }

    test('NaN and infinities where they change nothing', () => {
      on(() => {
        const slope = grad((x: gqa.Tensor) => sum(gqa.abs(x)))(tensor([NaN, -1, 2, -0])).dataSync();
        expect([...slope]).toEqual([0, -1, 1, 0]); // PyTorch
        const powers = gqa.pow(
          tensor([1, 1, -1, -1, 1, NaN]),
          tensor([NaN, Infinity, Infinity, -Infinity, 5, 0]),
        );
        expect([...powers.dataSync()]).toEqual([1, 1, 1, 1, 1, 1]); // PyTorch and JAX
      });
    });

    test('numbers are rounded once to f16 and bf16', () => {
      on(() => {
        const above = 1 + 2 ** -11 + 2 ** -40;
        for (const sign of [1, -1]) {
          const read = (x: gqa.Tensor) => x.dataSync()[0] * sign;
          const half = { dtype: 'f16' } as const;
          expect(read(tensor([sign * above], half))).toBe(1.0009765625);
          expect(read(full([1], sign * above, half))).toBe(1.0009765625);
          expect(read(full([1], sign * (1 + 2 ** -11), half))).toBe(1);
          expect(read(full([1], sign * (2 ** -15 + 2 ** -25 + 2 ** -60), half))).toBe(2 ** -15 + 2 ** -24);
          const brain = { dtype: 'bf16' } as const;
          expect(read(tensor([sign * (1 + 2 ** -8 + 2 ** -40)], brain))).toBe(1 + 2 ** -7);
          expect(read(full([1], sign * (1 + 2 ** -8 + 2 ** -40), brain))).toBe(1 + 2 ** -7);
          // 2^24 + 2^16 + 1 as f32 loses the 1 that lifts it above the middle.
          const whole = tensor([sign * (2 ** 24 + 2 ** 16 + 1)], { dtype: 'i32' });
          expect(read(gqa.cast(whole, 'bf16'))).toBe(2 ** 24 + 2 ** 17);
        }
        expect(full([1], 1e39, { dtype: 'f16' }).dataSync()[0]).toBe(Infinity);
        expect(full([1], NaN, { dtype: 'bf16' }).dataSync()[0]).toBeNaN();
      });
    });
  });
}

test('every number between two halves goes to the nearer one, however near the middle', () => {
  for (let bits = 1; bits < 0x7bff; bits += 97) {
    const [low, high] = [halfToNumber(bits), halfToNumber(bits + 1)];
    const middle = (low + high) / 2;
    expect(numberToHalf(middle * (1 + 2 ** -50))).toBe(bits + 1);
    expect(numberToHalf(middle * (1 - 2 ** -50))).toBe(bits);
  }
  expect(numberToBfloat(1e39)).toBe(0x7f80);
  expect(numberToBfloat(1e-60)).toBe(0);
  expect(numberToHalf(-1e-60)).toBe(0x8000);
});

/**
 * Within 4e-7 of the value or 1e-6 absolute below 1 (2e-45 for what exp and sigmoid make tiny); infinities
 * and NaN equal.
 */
function expectNear(got: ArrayLike<number>, want: ArrayLike<number>, name: string): void {
  const x = golden.values('x');
  const relative = name === 'exp' || name === 'exp slope' || name === 'sigmoid';
  for (let i = 0; i < want.length; i++) {
    if (Number.isNaN(want[i]) || !Number.isFinite(want[i])) {
      expect(got[i], `${name}(${x[i]})`).toBe(want[i]);
      continue;
    }
    const room = relative ? 4e-7 * Math.abs(want[i]) + 3e-45 : 2e-6 * Math.max(1, Math.abs(want[i]));
    const error = Math.abs(got[i] - want[i]);
    if (!(error <= room)) throw new Error(`${name}(${x[i]}): expected ${want[i]}, got ${got[i]}`);
  }
}
