/**
 * Elementwise functions of one tensor: same shape and type out. They compute in f32 (f64 of f64 on the reference
 * backend); results of f16 and bf16 are rounded once.
 */

import { anything, show } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { record } from '../autograd/tape.ts';
import * as calls from '../backend/calls/elementwise.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { cast } from './cast.ts';
import { allocate, commonBackend, floatDType } from './operands.ts';

/** `-x` */
export function neg(x: Tensor): Tensor {
  return unary('neg', 'neg', x);
}

/** `e^x` */
export function exp(x: Tensor): Tensor {
  return unary('exp', 'exp', x);
}

/** Natural logarithm: -Infinity at 0, NaN below. */
export function log(x: Tensor): Tensor {
  return unary('log', 'log', x);
}

/** Square root; NaN below 0. */
export function sqrt(x: Tensor): Tensor {
  return unary('sqrt', 'sqrt', x);
}

/** Hyperbolic tangent. */
export function tanh(x: Tensor): Tensor {
  return unary('tanh', 'tanh', x);
}

/** `1 / (1 + e^-x)` */
export function sigmoid(x: Tensor): Tensor {
  return unary('sigmoid', 'sigmoid', x);
}

/** `x * sigmoid(x)`, also called swish. */
export function silu(x: Tensor): Tensor {
  return unary('silu', 'silu', x);
}

/** Options of `gelu`. */
export interface GeluOptions {
  /** `'none'` (default, as PyTorch) or `'tanh'` (JAX's default). */
  readonly approximate?: 'none' | 'tanh';
}

const GELU_OPTIONS = optionKinds<GeluOptions>({ approximate: anything });

/**
 * Gaussian error linear unit.
 * @param options.approximate `'none'` (default, as PyTorch): `x * Phi(x)`; `'tanh'` (JAX's default):
 *   `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
 * @throws RangeError for another form.
 */
export function gelu(x: Tensor, options: GeluOptions = {}): Tensor {
  checkOptions('gelu', options, GELU_OPTIONS);
  const { approximate = 'none' } = options;
  if (approximate !== 'none' && approximate !== 'tanh') {
    throw new RangeError(`gelu: expected approximate 'none' or 'tanh', got ${show(approximate)}`);
  }
  return unary('gelu', approximate === 'tanh' ? 'geluTanh' : 'gelu', x);
}

/** `max(x, 0)` */
export function relu(x: Tensor): Tensor {
  return unary('relu', 'relu', x);
}

/** `|x|` */
export function abs(x: Tensor): Tensor {
  return unary('abs', 'abs', x);
}

/** Sine of radians; NaN of infinities. */
export function sin(x: Tensor): Tensor {
  return unary('sin', 'sin', x);
}

/** Cosine of radians; NaN of infinities. */
export function cos(x: Tensor): Tensor {
  return unary('cos', 'cos', x);
}

function unary(name: string, op: calls.UnaryOp, x: Tensor): Tensor {
  const backend = commonBackend(name, x);
  if (x.dtype === 'f16' || x.dtype === 'bf16') {
    return scope(() => cast(unary(name, op, cast(x, 'f32')), x.dtype));
  }
  const out = allocate(backend, floatDType(name, x), x);
  backend.run(calls.unary, { op, out, x, count: x.size });
  record({
    inputs: [x],
    outputs: [out],
    saved: [x],
    vjp: ([g], [before]) => {
      const dX = allocate(backend, before.dtype, before);
      backend.run(calls.unaryBackward, { op, dX, x: before, dOut: g as Tensor, count: before.size });
      return [dX];
    },
  });
  return out;
}
