/**
 * Elementwise functions of two operands, f32 (f64 on the reference backend), broadcast by NumPy's rule. Either side may
 * be a number.
 */
import type { BinaryOp } from '../backend/backend.ts';
import { broadcastShapes, broadcastStrides } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { allocate, commonBackend, describe, floatDType } from './operands.ts';

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

function binary(name: string, op: BinaryOp, a: Operand, b: Operand): Tensor {
  for (const side of [a, b]) {
    if (typeof side !== 'number' && !(side instanceof Tensor)) {
      throw new TypeError(`${name}: expected a tensor or a number, got ${describe(side)}`);
    }
  }
  const tensors = [a, b].filter((side) => typeof side !== 'number');
  const backend = commonBackend(name, ...tensors);
  const dtype = floatDType(name, ...tensors);
  const constant = (side: Operand): Tensor => {
    if (typeof side !== 'number') return side;
    const scalar = allocate(backend, dtype, []);
    backend.fill(scalar, side);
    return scalar;
  };
  const [x, y] = [constant(a), constant(b)];
  try {
    const shape = broadcastShapes(name, x.shape, y.shape);
    if (shape.length > 6) throw new RangeError(`${name}: expected at most rank 6, got rank ${shape.length}`);
    const out = allocate(backend, dtype, shape);
    backend.binary(op, out, x, broadcastStrides(x.shape, shape), y, broadcastStrides(y.shape, shape));
    return out;
  } finally {
    if (x !== a) x.dispose();
    if (y !== b) y.dispose();
  }
}
