/**
 * Shapes: arrays of non-negative integers, row-major. ARCHITECTURE.md lists the letters used for dimensions.
 */
import { describe } from '../arguments/kinds.ts';

/** Lengths of the axes, row-major; `[]` is a scalar. */
export type Shape = readonly number[];

/** Number of elements of a shape; 1 for a scalar (`[]`). */
export function sizeOf(shape: Shape): number {
  let size = 1;
  // An index loop: V8 iterates slowly over frozen arrays.
  for (let i = 0; i < shape.length; i++) size *= shape[i];
  return size;
}

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= shape[i];
  }
  return strides;
}

/** True when both shapes have the same dimensions. */
export function sameShape(a: Shape, b: Shape): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/**
 * The shape with another last dimension, or without it when `last` is undefined. An index loop, as in
 * `sizeOf`.
 */
export function withLast(shape: Shape, last: number | undefined): number[] {
  const out: number[] = [];
  for (let i = 0; i < shape.length - 1; i++) out.push(shape[i]);
  if (last !== undefined) out.push(last);
  return out;
}

/** `[2, 3]`, as errors print it. */
export function shapeText(shape: Shape): string {
  return `[${shape.join(', ')}]`;
}

/**
 * The broadcast shape of two operands, by NumPy's rule.
 * @throws RangeError when a pair of dimensions differs and neither is 1.
 */
export function broadcastShapes(op: string, a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  const out = new Array<number>(rank);
  for (let i = 0; i < rank; i++) {
    const x = a[a.length - rank + i] ?? 1;
    const y = b[b.length - rank + i] ?? 1;
    if (x !== y && x !== 1 && y !== 1) {
      throw new RangeError(
        `${op}: shapes ${shapeText(a)} and ${shapeText(b)} do not broadcast: ${x} against ${y}`,
      );
    }
    out[i] = x === 1 ? y : x;
  }
  return out;
}

/**
 * Strides in elements with which an operand of shape `shape` is read as if it had shape `target` (0 =
 * repeated).
 */
export function broadcastStrides(shape: Shape, target: Shape): number[] {
  const own = stridesOf(shape);
  const lead = target.length - shape.length;
  return target.map((_, i) => (i < lead || shape[i - lead] === 1 ? 0 : own[i - lead]));
}

/**
 * Checks an axis and makes it non-negative; negative counts from the end.
 * @throws RangeError outside `-rank … rank - 1`.
 */
export function normalizeAxis(op: string, axis: number, rank: number): number {
  const index = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || index < 0 || index >= rank) {
    throw new RangeError(`${op}: axis ${axis} is outside a tensor of rank ${rank}`);
  }
  return index;
}

/**
 * A checked, frozen copy of a shape. Kernels rely on it.
 * @throws RangeError unless every dimension is a non-negative integer and their product, zeros apart, is
 *   below 2^53; TypeError unless it is an array
 */
export function checkedShape(op: string, shape: Shape): Shape {
  if (!Array.isArray(shape)) throw new TypeError(`${op}: expected a shape, got ${describe(shape)}`);
  const own: number[] = [];
  let size = 1;
  let whole = true;
  for (let i = 0; i < shape.length; i++) {
    const dim = shape[i];
    own.push(dim);
    whole &&= Number.isSafeInteger(dim) && dim >= 0;
    if (dim !== 0) size *= dim;
  }
  if (!whole) {
    throw new RangeError(
      `${op}: expected non-negative integer dimensions, got [${own.map(String).join(', ')}]`,
    );
  }
  // Below 2^53 strides and byte counts are exact; zeros are skipped because strides multiply the other dims.
  if (!Number.isSafeInteger(size)) {
    throw new RangeError(`${op}: expected a shape of fewer than 2^53 elements, got ${shapeText(own)}`);
  }
  return Object.freeze(own);
}
