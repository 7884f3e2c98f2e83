/** `out = a + b` over tensors of one shape, to accumulate in place. Not checked, not recorded, no scope. */
import { stridesOf } from '../tensor/shape.ts';
import type { Operand } from './calls/call.ts';
import { binary } from './calls/elementwise.ts';
import { backendOf } from './registry.ts';

/** `out` may be `a` or `b`. */
export function addInto(out: Operand, a: Operand, b: Operand): void {
  const { shape } = out;
  const strides = stridesOf(shape);
  backendOf(out).run(binary, { op: 'add', out, a, b, shape, aStrides: strides, bStrides: strides });
}
