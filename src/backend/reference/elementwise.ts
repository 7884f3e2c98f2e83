/** Elementwise functions of the reference backend and their gradients. */
import { sizeOf } from '../../tensor/shape.ts';
import type { ArgumentsOf } from '../calls/call.ts';
import type * as calls from '../calls/elementwise.ts';
import { BINARY, DERIVATIVES, GATE, UNARY } from './functions.ts';
import { store, valuesOf, walk } from './memory.ts';

export function unary({ op, out, x }: ArgumentsOf<typeof calls.unary>): void {
  store(out, Float64Array.from(valuesOf(x), UNARY[op]));
}

export function unaryBackward({ op, dX, x, dOut }: ArgumentsOf<typeof calls.unaryBackward>): void {
  const values = valuesOf(x);
  store(
    dX,
    Float64Array.from(valuesOf(dOut), (g, i) => g * DERIVATIVES[op](values[i])),
  );
}

export function binary({ op, out, a, b, shape, aStrides, bStrides }: ArgumentsOf<typeof calls.binary>): void {
  const [x, y] = [valuesOf(a), valuesOf(b)];
  const result = new Float64Array(sizeOf(shape));
  let next = 0;
  walk(shape, [aStrides, bStrides], (i, j) => {
    result[next++] = BINARY[op](x[i], y[j]);
  });
  store(out, result);
}

export function gated({ activation, out, gate, up }: ArgumentsOf<typeof calls.gated>): void {
  const other = valuesOf(up);
  store(
    out,
    Float64Array.from(valuesOf(gate), (x, i) => GATE[activation](x) * other[i]),
  );
}

export function gatedBackward({
  activation,
  dGate,
  dUp,
  gate,
  up,
  dOut,
}: ArgumentsOf<typeof calls.gatedBackward>): void {
  const [g, x, y] = [valuesOf(dOut), valuesOf(gate), valuesOf(up)];
  const forGate = Float64Array.from(g, (value, i) => value * y[i] * DERIVATIVES[activation](x[i]));
  const forUp = Float64Array.from(g, (value, i) => value * GATE[activation](x[i]));
  store(dGate, forGate);
  store(dUp, forUp);
}
