/**
 * The two steps of a mixture of experts that other ops cannot express: top-k routing, and a projection in
 * which each row uses the weights of its own experts. The indices stay on the backend.
 */

import { isRecorded, record } from '../autograd/tape.ts';
import { addInto } from '../backend/add-into.ts';
import type { Backend } from '../backend/backend.ts';
import type { MatmulPrecision } from '../backend/calls/call.ts';
import { convert } from '../backend/calls/copy.ts';
import { binary } from '../backend/calls/elementwise.ts';
import * as calls from '../backend/calls/experts.ts';
import { reduce } from '../backend/calls/reduce.ts';
import { isBlockDType } from '../tensor/dtype.ts';
import { encode } from '../tensor/encode.ts';
import { UnsupportedError } from '../tensor/errors.ts';
import { type Shape, shapeText } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { matmulPrecision, refuseInt8 } from './matmul-precision.ts';
import {
  allocate,
  checkExactShape,
  checkRank,
  commonBackend,
  type FloatDType,
  floatDType,
} from './operands.ts';

export interface ChooseExpertsOptions {
  /** k, 1 … E. */
  readonly count: number;
  /** f32 `[E]`: added to the scores for the choice only. */
  readonly bias?: Tensor;
  /**
   * Group-limited routing: experts form `count` equal groups, and only the `kept` groups with the largest sum
   * of their `best` largest scores take part.
   */
  readonly groups?: { readonly count: number; readonly kept: number; readonly best: number };
}

/**
 * Each row's k best experts. Ties go to the lower index.
 * @param scores `[…, E]` f32 (f64 on the reference backend).
 * @throws RangeError when the options are invalid for E.
 * @returns the chosen scores (without bias) and their indices i32, `[…, k]`, best first
 */
export function chooseExperts(
  scores: Tensor,
  { count, bias, groups = { count: 1, kept: 1, best: 1 } }: ChooseExpertsOptions,
): { values: Tensor; ids: Tensor } {
  const op = 'chooseExperts';
  const backend = commonBackend(op, scores, bias);
  const dtype = floatDType(op, scores, bias);
  checkRank(op, 'scores', scores, 1, 5);
  const E = scores.shape[scores.shape.length - 1];
  if (bias) checkExactShape(op, 'bias', bias, [E]);
  const { count: runs, kept, best } = groups;
  if (!(runs >= 1 && E % runs === 0 && kept >= 1 && kept <= runs && best >= 1 && best <= E / runs)) {
    throw new RangeError(
      `${op}: expected groups to divide E=${E}, 1 <= kept <= groups and 1 <= best <= E / groups, got groups=${runs}, kept=${kept}, best=${best}`,
    );
  }
  if (!(Number.isInteger(count) && count >= 1 && count <= (E / runs) * kept)) {
    throw new RangeError(`${op}: expected 1 to ${(E / runs) * kept} experts per row, got ${count}`);
  }
  const lead = scores.shape.slice(0, -1);
  const rows = scores.size / E;
  const values = allocate(backend, dtype, [...lead, count]);
  const ids = allocate(backend, 'i32', [...lead, count]);
  const choice = { scores, rows, numExperts: E, bias, groups: runs, keptGroups: kept, best, count };
  backend.run(calls.chooseExperts, { values, ids, ...choice });
  record({
    inputs: [scores],
    outputs: [values],
    saved: [ids],
    vjp: ([gradient], [chosen]) => [scatter(backend, gradient as Tensor, chosen, rows, E, scores.shape)],
  });
  return { values, ids };
}

/** `out[row, e]` = the sum of `values[row, i]` over the i with `ids[row, i] = e`. */
function scatter(
  backend: Backend,
  values: Tensor,
  ids: Tensor,
  rows: number,
  E: number,
  shape: Shape,
): Tensor {
  const { dtype } = values;
  const k = values.size / rows;
  const numbers = allocate(backend, dtype, [k * rows]);
  backend.run(convert, { out: numbers, x: ids, count: ids.size });
  const columns = allocate(backend, dtype, [E]);
  const numbering = Array.from({ length: E }, (_, e) => e);
  backend.write(columns.storage, encode(dtype, numbering));
  const spread = allocate(backend, dtype, [rows, k, E]);
  const into = { out: spread, shape: spread.shape };
  const marks = { op: 'equal', a: numbers, aStrides: [k, 1, 0], b: columns, bStrides: [0, 0, 1] } as const;
  backend.run(binary, { ...marks, ...into });
  const products = { op: 'mul', a: spread, aStrides: [k * E, E, 1], b: values, bStrides: [k, 1, 0] } as const;
  backend.run(binary, { ...products, ...into });
  const out = allocate(backend, dtype, shape);
  backend.run(reduce, { op: 'sum', out, x: spread, outer: rows, n: k, inner: E });
  for (const tensor of [numbers, columns, spread]) tensor.dispose();
  return out;
}

/** One projection of every expert. */
export interface ExpertWeights {
  /** E times `[Out, In]` (`[In, Out]` when transposed): f32, f16, bf16 or a block type, one type for all. */
  readonly weights: readonly Tensor[];
  /** E times `[Out]`, f32. */
  readonly biases?: readonly Tensor[];
}

/**
 * `x @ weights[id]^T + biases[id]` for each of a row's experts. Only the weights of experts in `ids` are
 * read.
 * @param x `[…, In]` f32 (f64 on the reference backend): one row for all k experts, or `[…, k, In]`: one for
 *   each.
 * @param ids i32 `[…, k]` from `chooseExperts`; not checked.
 * @param parts projections of the same input, such as gate and up.
 * @param transposed whether the weights are `[In, Out]`; default false.
 * @throws RangeError when shapes are inconsistent; TypeError when one part's weights differ in dtype;
 *   UnsupportedError for integer weights.
 * @returns one `[…, k, Out]` per part
 */
export function expertLinears(
  x: Tensor,
  ids: Tensor,
  parts: readonly ExpertWeights[],
  transposed: boolean = false,
): Tensor[] {
  const op = 'expertLinears';
  const own = x.shape.length > ids.shape.length;
  const lead = x.shape.slice(0, -1);
  const expected = own ? ids.shape : ids.shape.slice(0, -1);
  if (lead.length !== expected.length || lead.some((dim, i) => dim !== expected[i])) {
    throw new RangeError(
      `${op}: expected x of rows ${shapeText(ids.shape)} or ${shapeText(ids.shape.slice(0, -1))}, got ${shapeText(x.shape)}`,
    );
  }
  const flat = parts.flatMap(({ weights, biases = [] }) => [...weights, ...biases]);
  const backend = commonBackend(op, x, ids, ...flat);
  let dtype: FloatDType = floatDType(op, x);
  const inFeatures = x.shape[x.shape.length - 1];
  const numExperts = parts[0].weights.length;
  const outs = parts.map((part) => checkPart(op, backend, part, numExperts, inFeatures, transposed));
  if (flat.some((weight) => weight.dtype === 'f64')) dtype = 'f64';
  const results = outs.map((out) => allocate(backend, dtype, [...ids.shape, out]));
  const each = own ? 1 : ids.shape[ids.shape.length - 1];
  const precision = matmulPrecision();
  if (isRecorded(x, ...flat)) refuseInt8(op, precision);
  const call = { ids, pairs: ids.size, each, inFeatures, numExperts, transposed };
  backend.run(calls.expertLinear, {
    ...call,
    x,
    precision,
    parts: parts.map((part, i) => ({ ...part, outFeatures: outs[i], out: results[i] })),
  });
  record({
    inputs: [x, ...flat],
    outputs: results,
    saved: [x, ids, ...flat],
    vjp: (gradients, [input, chosen, ...stored], needed) => {
      let dX: Tensor | undefined;
      const found: (Tensor | undefined)[] = [];
      let next = 0;
      for (const [i, { biases }] of parts.entries()) {
        const g = gradients[i];
        const weights = stored.slice(next, next + numExperts);
        const count = numExperts + (biases ? numExperts : 0);
        const wanted = needed.slice(1 + next, 1 + next + count);
        next += count;
        if (g && needed[0]) {
          const part = inputGradient(
            backend,
            precision,
            g,
            chosen,
            weights,
            inFeatures,
            transposed,
            each,
            input.shape,
          );
          if (dX) {
            addInto(dX, dX, part);
            part.dispose();
          } else dX = part;
        }
        if (!g || !wanted.some(Boolean)) {
          found.push(...new Array<undefined>(count).fill(undefined));
          continue;
        }
        const into = (list: readonly Tensor[], from: number) =>
          list.map((weight, e) => (wanted[from + e] ? allocate(backend, g.dtype, weight) : undefined));
        const blocks = weights.find((weight, e) => wanted[e] && isBlockDType(weight.dtype));
        if (blocks) throw new UnsupportedError(op, `the gradient of ${blocks.dtype} weights`, backend.name);
        const dWeights = into(weights, 0);
        const dBiases = biases ? into(biases, numExperts) : new Array<undefined>(numExperts).fill(undefined);
        const back = { ...call, x: input, ids: chosen, outFeatures: outs[i], dOut: g, dWeights, dBiases };
        backend.run(calls.expertLinearBackward, back);
        found.push(...dWeights, ...(biases ? dBiases : []));
      }
      return [dX, ...found];
    },
  });
  return results;
}

/** Checks a part and returns its Out. */
function checkPart(
  op: string,
  backend: Backend,
  { weights, biases }: ExpertWeights,
  numExperts: number,
  inFeatures: number,
  transposed: boolean,
): number {
  const [first] = weights;
  checkRank(op, 'a weight', first, 2);
  const out = first.shape[transposed ? 1 : 0];
  if (weights.length !== numExperts || (biases && biases.length !== numExperts)) {
    throw new RangeError(
      `${op}: expected weights and biases of ${numExperts} experts, got ${weights.length} and ${biases?.length ?? 0}`,
    );
  }
  if (['i32', 'u32', 'u8', 'bool'].includes(first.dtype)) {
    throw new UnsupportedError(op, first.dtype, backend.name);
  }
  for (const weight of weights) {
    checkExactShape(op, 'a weight', weight, transposed ? [inFeatures, out] : [out, inFeatures]);
    if (weight.dtype !== first.dtype) {
      throw new TypeError(`${op}: expected experts of one type, got ${first.dtype} and ${weight.dtype}`);
    }
  }
  for (const bias of biases ?? []) checkExactShape(op, 'a bias', bias, [out]);
  return out;
}

/**
 * The gradient of x: each pair's dOut times its expert's weight, summed over the pairs that share a row of x.
 */
function inputGradient(
  backend: Backend,
  precision: MatmulPrecision,
  g: Tensor,
  ids: Tensor,
  weights: readonly Tensor[],
  inFeatures: number,
  transposed: boolean,
  each: number,
  shape: Shape,
): Tensor {
  const pairs = ids.size;
  const ofPairs = allocate(backend, g.dtype, [pairs, inFeatures]);
  backend.run(calls.expertLinear, {
    x: g,
    ids,
    pairs,
    each: 1,
    inFeatures: g.shape[g.shape.length - 1],
    numExperts: weights.length,
    transposed: !transposed,
    precision,
    parts: [{ weights, outFeatures: inFeatures, out: ofPairs }],
  });
  const out = allocate(backend, g.dtype, shape);
  backend.run(reduce, { op: 'sum', out, x: ofPairs, outer: pairs / each, n: each, inner: inFeatures });
  ofPairs.dispose();
  return out;
}
