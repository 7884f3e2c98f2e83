/**
 * Random arrays with XLA's f32 arithmetic: each step rounds to f32 exactly where XLA's code does, a fused
 * multiply-add once, so that samples equal JAX's bit for bit. Only here does the reference backend not
 * compute in f64.
 *
 * Source: jax/_src/random/core.py; XLA's plog (Cephes logf), log1p (Cephes) and erf_inv (Giles 2010).
 */
import type { ArgumentsOf } from '../calls/call.ts';
import type * as calls from '../calls/random.ts';
import { threefry2x32, toUnitFloat } from '../threefry.ts';
import { store } from './memory.ts';

const f = Math.fround;
/** `a * b + c`, rounded once to f32: the product of f32 values is exact in f64. */
const fma = (a: number, b: number, c: number) => f(a * b + c);
const polynomial = (x: number, coefficients: readonly number[]) =>
  coefficients.reduce((sum, c) => fma(sum, x, f(c)));

type RandomCall = ArgumentsOf<typeof calls.random>;

export function random(call: RandomCall): void {
  store(
    call.out,
    Float64Array.from({ length: call.count }, (_, i) => randomValue(call, i)),
  );
}

/** Element `index` of the array that `call` describes. */
function randomValue(call: RandomCall, index: number): number {
  const [a, b] = threefry2x32([call.key[0], call.key[1]], Math.floor(index / 2 ** 32), index >>> 0);
  const bits = (a ^ b) >>> 0;
  if (call.kind === 'bits') return bits;
  const minval = f(call.minval);
  const v = Math.max(minval, fma(toUnitFloat(bits), f(f(call.maxval) - minval), minval));
  switch (call.kind) {
    case 'uniform':
      return f(v * f(call.scale));
    case 'normal': {
      const x = Math.min(Math.max(f(erfInv(v) * f(call.factor)), f(call.low)), f(call.high));
      return f(x * f(call.scale));
    }
    case 'gumbel':
      return -log(-log(v));
    case 'bernoulli':
      return Number(v < f(call.high));
  }
}

const word = new Int32Array(1);
const float = new Float32Array(word.buffer);

/** f32 ln(x) of a positive x or 0. */
function log(x: number): number {
  if (x === 0) return -Infinity;
  float[0] = Math.max(x, 2 ** -126);
  let e = (word[0] >> 23) - 126;
  word[0] = (word[0] & 0x007fffff) | 0x3f000000;
  let m = float[0];
  if (m < f(Math.SQRT1_2)) {
    e -= 1;
    m = f(f(m - 1) + m);
  } else m = f(m - 1);
  const x2 = f(m * m);
  const x3 = f(x2 * m);
  let y = polynomial(m, [f(7.0376836292e-2), -1.151461031e-1, 1.167699874e-1]);
  y = fma(x3, y, polynomial(m, [f(-1.2420140846e-1), 1.4249322787e-1, -1.6668057665e-1]));
  y = fma(x3, y, polynomial(m, [f(2.0000714765e-1), -2.4999993993e-1, 3.3333331174e-1]));
  y = fma(x3, y, f(e * f(-2.1219444e-4)));
  return fma(e, 0.693359375, f(fma(x2, -0.5, m) + y));
}

const LOG1P_NUMERATOR = [
  ...[4.52700008624452e-5, 0.49854102823193375, 6.578732594206104],
  ...[29.911919328553072, 60.94966798098779, 57.11296359058554],
  20.039553499201283,
].map(f);
const LOG1P_DENOMINATOR = [
  ...[1, 15.062909083469192, 83.04756596796722, 221.76239823732857],
  ...[309.09872225312057, 216.42788614495947, 60.11866049760384],
].map(f);

/** f32 ln(1 + x) for x in [-1, 0]. */
function log1p(x: number): number {
  if (x <= -f(0.41421357)) return log(f(x + 1));
  const x2 = f(x * x);
  const ratio = f(polynomial(x, LOG1P_NUMERATOR) / polynomial(x, LOG1P_DENOMINATOR));
  return f(x + fma(-0.5, x2, f(f(x * x2) * ratio)));
}

const CENTRAL = [
  ...[2.81022636e-8, 3.43273939e-7, -3.5233877e-6, -4.39150654e-6, 0.00021858087],
  ...[-0.00125372503, -0.00417768164, 0.246640727, 1.50140941],
].map(f);
const TAIL = [
  ...[-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773],
  ...[-0.0076224613, 0.00943887047, 1.00167406, 2.83297682],
].map(f);

/** f32 erf_inv(u) for u in [-1, 1]. */
function erfInv(u: number): number {
  if (Math.abs(u) === 1) return u * Infinity;
  const w = -log1p(-f(u * u));
  const p = w < 5 ? polynomial(f(w - 2.5), CENTRAL) : polynomial(f(f(Math.sqrt(w)) - 3), TAIL);
  return f(p * u);
}
