/**
 * Scalar functions of the reference backend, to f64 accuracy. One table per kind of op, keyed by the names of
 * calls/elementwise.ts.
 *
 * Source: erf by its all-positive series, erfc by Lentz's continued fraction (Abramowitz and Stegun 7.1.6,
 * 7.1.14).
 */
import type { BinaryOp, GateActivation, UnaryOp } from '../calls/elementwise.ts';

/** `1 - erf(x)` for x >= 0, without cancellation in the tail. */
function erfc(x: number): number {
  if (x < 2) {
    // erf(x) = 2/sqrt(pi) exp(-x^2) sum 2^n x^(2n+1) / (2n+1)!!
    let term = x;
    let sum = x;
    for (let n = 1; term > sum * 1e-17; n++) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return 1 - (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }
  // erfc(x) = exp(-x^2) / sqrt(pi) / (x + (1/2)/(x + 1/(x + (3/2)/(x + …)))), from the inside out.
  let fraction = x;
  for (let n = 120; n > 0; n--) fraction = x + n / 2 / fraction;
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / fraction;
}

/** Phi(x), the standard normal distribution function. */
function normalCdf(x: number): number {
  if (Number.isNaN(x)) return x;
  const tail = 0.5 * erfc(Math.abs(x) / Math.SQRT2);
  return x < 0 ? tail : 1 - tail;
}

function sigmoid(x: number): number {
  if (x >= 0) return 1 / (1 + Math.exp(-x));
  const e = Math.exp(x);
  return e / (1 + e);
}

export const UNARY: Readonly<Record<UnaryOp, (x: number) => number>> = {
  neg: (x) => -x,
  exp: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  tanh: Math.tanh,
  sigmoid,
  silu: (x) => x * sigmoid(x),
  gelu: (x) => x * normalCdf(x),
  geluTanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  relu: (x) => Math.max(x, 0),
  abs: Math.abs,
  sin: Math.sin,
  cos: Math.cos,
};

export const BINARY: Readonly<Record<BinaryOp, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  min: Math.min,
  max: Math.max,
  // As IEEE 754; JavaScript differs: 1 ** Infinity and 1 ** NaN are NaN.
  pow: (a, b) => (a === 1 || (a === -1 && Math.abs(b) === Infinity) ? 1 : a ** b),
  less: (a, b) => Number(a < b),
  equal: (a, b) => Number(a === b),
};

export const GATE: Readonly<Record<GateActivation, (x: number) => number>> = {
  silu: UNARY.silu,
  gelu: UNARY.gelu,
  geluTanh: UNARY.geluTanh,
};

const density = (x: number) => Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);

function geluTanhDerivative(x: number): number {
  const c = Math.sqrt(2 / Math.PI);
  const t = Math.tanh(c * (x + 0.044715 * x ** 3));
  const dTanh = 1 - t * t; // 0 where the factor beside it may be infinite
  return 0.5 * (1 + t) + (dTanh === 0 ? 0 : 0.5 * x * dTanh * c * (1 + 3 * 0.044715 * x * x));
}

/** f'(x) of each unary function; 0 at the kink of relu and abs. */
export const DERIVATIVES: Readonly<Record<UnaryOp, (x: number) => number>> = {
  neg: () => -1,
  exp: Math.exp,
  log: (x) => 1 / x,
  sqrt: (x) => 0.5 / Math.sqrt(x),
  tanh: (x) => 1 - Math.tanh(x) ** 2,
  sigmoid: (x) => sigmoid(x) * sigmoid(-x),
  silu: (x) => sigmoid(x) * (1 + x * sigmoid(-x)),
  gelu: (x) => normalCdf(x) + x * density(x),
  geluTanh: geluTanhDerivative,
  relu: (x) => Number(x > 0),
  abs: (x) => Number(x > 0) - Number(x < 0),
  sin: Math.cos,
  cos: (x) => -Math.sin(x),
};
