/**
 * Linear projections. Weights are f32, f16, bf16 or block types, and are used without decoding them first.
 */

import { describe } from '../arguments/kinds.ts';
import { type Gradients, isRecorded, record } from '../autograd/tape.ts';
import type { Backend } from '../backend/backend.ts';
import type { MatmulPrecision } from '../backend/calls/call.ts';
import * as calls from '../backend/calls/linear.ts';
import { reduce } from '../backend/calls/reduce.ts';
import { type DType, isBlockDType } from '../tensor/dtype.ts';
import { UnsupportedError } from '../tensor/errors.ts';
import { sizeOf, withLast } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { cast } from './cast.ts';
import { matmulPrecision, refuseInt8 } from './matmul-precision.ts';
import {
  allocate,
  asWide,
  checkExactShape,
  checkRank,
  commonBackend,
  floatDType,
  freeCopy,
} from './operands.ts';

const INTEGERS: ReadonlySet<DType> = new Set(['i32', 'u32', 'u8', 'bool']);

/**
 * Rows (`x` without its last axis) up to which a row's result does not depend on the other rows, bit for bit:
 * LINEAR_FEW of kernels/linear.c. Passes that must not depend on their batch have at most as many.
 */
export const FEW_ROWS = 16;

/** One projection: `weight` `[Out, In]` f32, f16, bf16 or a block type; `bias` `[Out]` f32, f16 or bf16. */
export interface LinearWeights {
  readonly weight: Tensor;
  readonly bias?: Tensor;
}

/**
 * `x @ weight^T + bias`.
 * @param x `[…, In]` f32 (f64 on the reference backend).
 * @param weight `[Out, In]`: f32, f16, bf16 or a block type.
 * @param bias `[Out]`.
 * @throws RangeError when In or Out differ; UnsupportedError for integer weights.
 * @returns `[…, Out]`, of x's dtype.
 */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  return project('linear', x, [{ weight, bias }])[0];
}

/**
 * Several projections of one input in one pass, such as q, k, v or gate, up.
 * @param x `[…, In]` f32 (f64 on the reference backend).
 * @param parts weights `[Out_i, In]`; dtypes may differ.
 * @throws as `linear`.
 * @returns one `[…, Out_i]` per part.
 */
export function linears(x: Tensor, parts: readonly LinearWeights[]): Tensor[] {
  if (!Array.isArray(parts))
    throw new TypeError(`linears: expected a list of weights, got ${describe(parts)}`);
  return project('linears', x, parts);
}

function project(op: string, x: Tensor, given: readonly LinearWeights[]): Tensor[] {
  // Copied, so that the caller cannot change the list after the checks.
  const parts = new Array<LinearWeights>(given.length);
  for (let i = 0; i < parts.length; i++) parts[i] = { weight: given[i].weight, bias: given[i].bias };
  const operands = new Array<Tensor | undefined>(1 + 2 * parts.length);
  operands[0] = x;
  for (let i = 0; i < parts.length; i++) {
    operands[1 + 2 * i] = parts[i].weight;
    operands[2 + 2 * i] = parts[i].bias;
  }
  const backend = commonBackend(op, ...operands);
  let dtype = floatDType(op, x);
  checkRank(op, 'x', x, 1, Number.POSITIVE_INFINITY);
  const inFeatures = x.shape[x.shape.length - 1];
  for (const { weight, bias } of parts) {
    checkRank(op, 'a weight', weight, 2);
    if (weight.shape[1] !== inFeatures)
      checkExactShape(op, 'a weight', weight, [weight.shape[0], inFeatures]);
    if (bias) checkExactShape(op, 'a bias', bias, [weight.shape[0]]);
    if (INTEGERS.has(weight.dtype)) throw new UnsupportedError(op, weight.dtype, backend.name);
    if (weight.dtype === 'f64') dtype = 'f64';
  }
  // With In = 0 the output is the bias, or zeros.
  const rows = inFeatures === 0 ? sizeOf(withLast(x.shape, undefined)) : x.size / inFeatures;
  const outs = new Array<Tensor>(parts.length);
  const weights = new Array<calls.LinearPart & { readonly bias: Tensor | undefined }>(parts.length);
  for (let i = 0; i < parts.length; i++) {
    const { weight, bias } = parts[i];
    const before = i > 0 ? outs[i - 1] : x;
    const width = weight.shape[0];
    const isAlike = before.shape[before.shape.length - 1] === width;
    const out = allocate(backend, dtype, isAlike ? before : withLast(x.shape, width));
    outs[i] = out;
    weights[i] = { weight, bias: asWide(op, bias), out };
  }
  const precision = matmulPrecision();
  backend.run(calls.linear, { x, rows, inFeatures, precision, parts: weights });
  for (let i = 0; i < parts.length; i++) freeCopy(weights[i].bias, parts[i].bias);
  // Build the tape entry only while recording (3 % of a decode step).
  if (isRecorded(...operands)) {
    refuseInt8(op, precision);
    const saved = new Array<Tensor>(1 + parts.length);
    saved[0] = x;
    for (let i = 0; i < parts.length; i++) saved[1 + i] = parts[i].weight;
    record({
      inputs: operands,
      outputs: outs,
      saved,
      vjp: (gradients, saved, needed) => projectBackward(backend, rows, precision, gradients, saved, needed),
    });
  }
  return outs;
}

/** dX = sum of dOut_i W_i, dW_i = dOut_i^T x, dBias_i = sum of the rows of dOut_i. */
function projectBackward(
  backend: Backend,
  rows: number,
  precision: MatmulPrecision,
  gradients: Gradients,
  saved: readonly Tensor[],
  needed: readonly boolean[],
): (Tensor | undefined)[] {
  const x = saved[0];
  const inFeatures = x.shape[x.shape.length - 1];
  const dX = needed[0] ? allocate(backend, x.dtype, x) : undefined;
  const found = new Array<Tensor | undefined>(needed.length);
  found[0] = dX;
  const parts: calls.LinearBackwardPart[] = new Array(gradients.length);
  let count = 0;
  for (let i = 0; i < gradients.length; i++) {
    const weight = saved[1 + i];
    const dOut = gradients[i];
    const weightNeeded = needed[1 + 2 * i];
    const biasNeeded = needed[2 + 2 * i];
    if (dOut && weightNeeded && isBlockDType(weight.dtype)) {
      throw new UnsupportedError('linear', `the gradient of ${weight.dtype} weights`, backend.name);
    }
    const dWeight = dOut && weightNeeded ? allocate(backend, x.dtype, weight) : undefined;
    const dBias = dOut && biasNeeded ? allocate(backend, x.dtype, [weight.shape[0]]) : undefined;
    found[1 + 2 * i] = dWeight;
    found[2 + 2 * i] = dBias;
    if (dOut && dBias) {
      backend.run(reduce, { op: 'sum', out: dBias, x: dOut, outer: 1, n: rows, inner: weight.shape[0] });
    }
    if (dOut && (dX || dWeight)) {
      // The scope of backward frees the copy.
      const wide = weight.dtype === x.dtype ? weight : cast(weight, x.dtype);
      parts[count++] = { weight: wide, dOut, dWeight };
    }
  }
  parts.length = count;
  backend.run(calls.linearBackward, { dX, x, rows, inFeatures, precision, parts });
  return found;
}
