/**
 * Elementwise functions of two operands, broadcast by NumPy's rule. Either side may be a number. Dtypes promote
 * as in JAX: two f16 or two bf16 give their dtype, either with another float f32 (f64 with f64, on the reference
 * backend). They compute in f32; f16 and bf16 are rounded once.
 */

import { describe } from '../arguments/kinds.ts';
import { isRecorded, record } from '../autograd/tape.ts';
import type { Backend } from '../backend/backend.ts';
import { fill } from '../backend/calls/copy.ts';
import * as calls from '../backend/calls/elementwise.ts';
import { scope } from '../tensor/scope.ts';
import { broadcastShapes, broadcastStrides, type Shape, sameShape, stridesOf } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { sumTo } from './broadcast-to.ts';
import { cast } from './cast.ts';
import {
  allocate,
  commonBackend,
  type FloatDType,
  floatDType,
  hasNoOutput,
  narrowDType,
} from './operands.ts';

/** An operand of an elementwise function. A number takes the dtype of the other operand. */
export type Operand = Tensor | number;

/** `a + b` */
export function add(a: Operand, b: Operand): Tensor {
  return binary('add', 'add', a, b);
}

/** `a - b` */
export function sub(a: Operand, b: Operand): Tensor {
  return binary('sub', 'sub', a, b);
}

/** `a * b` */
export function mul(a: Operand, b: Operand): Tensor {
  return binary('mul', 'mul', a, b);
}

/** `a / b` */
export function div(a: Operand, b: Operand): Tensor {
  return binary('div', 'div', a, b);
}

/** The smaller of each pair; NaN when either is. */
export function minimum(a: Operand, b: Operand): Tensor {
  return binary('minimum', 'min', a, b);
}

/** The larger of each pair; NaN when either is. */
export function maximum(a: Operand, b: Operand): Tensor {
  return binary('maximum', 'max', a, b);
}

/** `a ** b` */
export function pow(a: Operand, b: Operand): Tensor {
  return binary('pow', 'pow', a, b);
}

/** The vjp of a binary function, before the sum over broadcast axes. */
type BinaryGradients = (
  g: Tensor,
  a: Tensor,
  b: Tensor,
  out: Tensor,
  needed: readonly boolean[],
) => [Tensor | undefined, Tensor | undefined];

/** The gradient of minimum and maximum: to the chosen side, half to each on a tie (as JAX). */
function extremum(g: Tensor, chosen: Tensor, other: Tensor, sign: 'min' | 'max'): Tensor {
  const wins = sign === 'max' ? compare('less', other, chosen) : compare('less', chosen, other);
  return mul(g, add(wins, mul(compare('equal', chosen, other), 0.5)));
}

function compare(op: 'less' | 'equal', a: Tensor, b: Tensor): Tensor {
  return binary(op, op, a, b);
}

const GRADIENTS: Readonly<
  Record<calls.BinaryOp, { readonly reads: boolean; readonly gradients: BinaryGradients }>
> = {
  add: { reads: false, gradients: (g) => [g, g] },
  sub: { reads: false, gradients: (g, _a, _b, _out, needed) => [g, needed[1] ? mul(g, -1) : undefined] },
  mul: {
    reads: true,
    gradients: (g, a, b, _out, needed) => [
      needed[0] ? mul(g, b) : undefined,
      needed[1] ? mul(g, a) : undefined,
    ],
  },
  div: {
    reads: true,
    gradients: (g, _a, b, out, needed) => {
      const forA = div(g, b);
      return [forA, needed[1] ? mul(mul(forA, out), -1) : undefined];
    },
  },
  min: { reads: true, gradients: (g, a, b) => [extremum(g, a, b, 'min'), extremum(g, b, a, 'min')] },
  max: { reads: true, gradients: (g, a, b) => [extremum(g, a, b, 'max'), extremum(g, b, a, 'max')] },
  pow: {
    reads: true,
    gradients: (g, a, b, out, needed) => [
      // b a^(b - 1); 0 where b is 0 (as PyTorch), since 0^-1 would give NaN.
      needed[0] ? mul(g, mul(b, pow(a, add(sub(b, 1), isZero(b))))) : undefined,
      // a^b ln a; 0 at a = 0 (as JAX), by taking ln 1 for ln 0.
      needed[1] ? mul(g, mul(out, naturalLog(add(a, isZero(a))))) : undefined,
    ],
  },
  less: { reads: false, gradients: () => [undefined, undefined] },
  equal: { reads: false, gradients: () => [undefined, undefined] },
};

/** 1 where x is 0, else 0. */
function isZero(x: Tensor): Tensor {
  return compare('equal', x, filled(commonBackend('pow', x), floatDType('pow', x), x.shape, 0));
}

function naturalLog(x: Tensor): Tensor {
  const backend = commonBackend('pow', x);
  const out = allocate(backend, floatDType('pow', x), x);
  backend.run(calls.unary, { op: 'log', out, x, count: x.size });
  return out;
}

function filled(backend: Backend, dtype: FloatDType, shape: Shape, value: number): Tensor {
  const out = allocate(backend, dtype, shape);
  backend.run(fill, { out, count: out.size, value });
  return out;
}

/** @throws TypeError unless it is a tensor or a number */
export function checkOperand(name: string, side: Operand): void {
  if (typeof side === 'number' || side instanceof Tensor) return;
  throw new TypeError(`${name}: expected a tensor or a number, got ${describe(side)}`);
}

/** f16 and bf16 as f32. */
function widened(side: Operand): Operand {
  const isNarrow = typeof side !== 'number' && (side.dtype === 'f16' || side.dtype === 'bf16');
  return isNarrow ? cast(side, 'f32') : side;
}

function binary(name: string, op: calls.BinaryOp, a: Operand, b: Operand): Tensor {
  checkOperand(name, a);
  checkOperand(name, b);
  const inputA = typeof a === 'number' ? undefined : a;
  const inputB = typeof b === 'number' ? undefined : b;
  const backend = commonBackend(name, inputA, inputB);
  const narrow = narrowDType(inputA, inputB);
  if (narrow !== undefined) {
    return scope(() => {
      const out = binary(name, op, widened(a), widened(b));
      return narrow === 'f32' ? out : cast(out, narrow);
    });
  }
  const dtype = floatDType(name, inputA, inputB);
  const x = inputA ?? filled(backend, dtype, [], a as number);
  const y = inputB ?? filled(backend, dtype, [], b as number);
  try {
    const same = sameShape(x.shape, y.shape);
    const shape = same ? x.shape : broadcastShapes(name, x.shape, y.shape);
    if (shape.length > 6) throw new RangeError(`${name}: expected at most rank 6, got rank ${shape.length}`);
    const out = allocate(backend, dtype, shape);
    const strides = same ? stridesOf(shape) : broadcastStrides(x.shape, shape);
    if (!hasNoOutput(out)) {
      const bStrides = same ? strides : broadcastStrides(y.shape, shape);
      backend.run(calls.binary, { op, out, a: x, b: y, shape, aStrides: strides, bStrides });
    }
    if (isRecorded(inputA, inputB)) {
      const { reads, gradients } = GRADIENTS[op];
      const { shape: shapeX } = x;
      const { shape: shapeY } = y;
      record({
        inputs: [inputA, inputB],
        outputs: [out],
        saved: reads ? [x, y, out] : [],
        vjp: ([g], [p, q, r], needed) => {
          const [forA, forB] = gradients(g as Tensor, p, q, r, needed);
          return [forA && sumTo(forA, shapeX), forB && sumTo(forB, shapeY)];
        },
      });
    }
    return out;
  } finally {
    if (x !== a) x.dispose();
    if (y !== b) y.dispose();
  }
}
