/** A choice between two tensors, element by element. */
import { record } from '../autograd/tape.ts';
import type { Backend } from '../backend/backend.ts';
import { fill, select } from '../backend/calls/copy.ts';
import { DTYPES, type DType, isBlockDType } from '../tensor/dtype.ts';
import { decode, encode } from '../tensor/encode.ts';
import { UnsupportedError } from '../tensor/errors.ts';
import { scope } from '../tensor/scope.ts';
import { broadcastShapes } from '../tensor/shape.ts';
import { Tensor } from '../tensor/tensor.ts';
import { checkOperand, type Operand } from './binary.ts';
import { broadcastTo } from './broadcast-to.ts';
import { cast } from './cast.ts';
import { allocate, commonBackend, narrowDType } from './operands.ts';

/**
 * `x` where the condition holds, else `y`, as `jax.numpy.where`; all three broadcast by NumPy's rule. What is
 * not chosen has no effect: its NaN does not spread, and its gradient is 0.
 * @param condition bool; of another plain dtype, true where it is not 0.
 * @param x a tensor of any plain dtype, or a number, which takes the dtype of `y`.
 * @param y likewise. Floats of two dtypes give f32; other dtypes must be equal. Two numbers give f32.
 * @throws RangeError for shapes that do not broadcast, rank above 6, or a number that the integer dtype of the
 *   other does not have; TypeError for two dtypes that do not promote; UnsupportedError for block types.
 * @example where(tensor([1, 0, 1], { dtype: 'bool' }), tensor([1, 2, 3]), 0); // [1, 0, 3]
 */
export function where(condition: Tensor, x: Operand, y: Operand): Tensor {
  checkOperand('where', x);
  checkOperand('where', y);
  const tensors = [x, y].filter((side) => side instanceof Tensor);
  const backend = commonBackend('where', condition, ...tensors);
  for (const { dtype } of [condition, ...tensors]) {
    if (isBlockDType(dtype)) throw new UnsupportedError('where', dtype, backend.name);
  }
  const dtype = resultDType(tensors);
  for (const side of [x, y]) if (typeof side === 'number') checkNumber(side, dtype);
  let shape: readonly number[] = condition.shape;
  for (const side of tensors) shape = broadcastShapes('where', shape, side.shape);
  const operand = (side: Operand) =>
    broadcastTo(typeof side === 'number' ? constant(backend, dtype, side) : cast(side, dtype), shape);
  return scope(() => choose(broadcastTo(cast(condition, 'bool'), shape), operand(x), operand(y)));
}

function resultDType([x, y = x]: readonly Tensor[]): DType {
  if (x === undefined || x.dtype === y.dtype) return x?.dtype ?? 'f32';
  if (!isFloat(x.dtype) || !isFloat(y.dtype)) {
    throw new TypeError(`where: expected x and y of one dtype, or floats, got ${x.dtype} and ${y.dtype}`);
  }
  return x.dtype === 'f64' || y.dtype === 'f64' ? 'f64' : (narrowDType(x, y) ?? 'f32');
}

/** @throws RangeError for a number that would become another integer */
function checkNumber(value: number, dtype: DType): void {
  if (isFloat(dtype) || decode(dtype, encode(dtype, [value]), 1)[0] === value) return;
  throw new RangeError(`where: expected a number that ${dtype} has, got ${value}`);
}

function isFloat(dtype: DType): boolean {
  return ['f32', 'f16', 'bf16', 'f64'].includes(dtype);
}

function constant(backend: Backend, dtype: DType, value: number): Tensor {
  const out = allocate(backend, dtype, []);
  backend.run(fill, { out, count: 1, value });
  return out;
}

/** Of operands of one shape, `x` and `y` of one dtype. */
function choose(condition: Tensor, x: Tensor, y: Tensor): Tensor {
  const backend = commonBackend('where', condition, x, y);
  const out = allocate(backend, x.dtype, x);
  const { blockBytes: elementBytes } = DTYPES[x.dtype];
  backend.run(select, { out, condition, x, y, elementBytes, count: out.size });
  record({
    inputs: [x, y],
    outputs: [out],
    saved: [condition],
    vjp: ([gradient], [chosen]) => {
      const g = gradient as Tensor;
      const zero = broadcastTo(constant(backend, g.dtype, 0), g.shape);
      return [choose(chosen, g, zero), choose(chosen, zero, g)];
    },
  });
  return out;
}
