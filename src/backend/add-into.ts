/** `out = a + b` over tensors of one shape, for sums that grow in place: no check, no scope, no tape. */
import { stridesOf } from '../tensor/shape.ts';
import type { Operand } from './backend.ts';
import { backendOf } from './registry.ts';

/** `out` may be `a` or `b`. */
export function addInto(out: Operand, a: Operand, b: Operand): void {
  const strides = stridesOf(out.shape);
  backendOf(out).binary('add', out, a, strides, b, strides);
}
