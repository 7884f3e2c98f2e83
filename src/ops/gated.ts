/** The gated activation of a feed-forward layer (Shazeer 2020, "GLU variants improve transformer"). */

import { show } from '../arguments/kinds.ts';
import { isRecorded, record } from '../autograd/tape.ts';
import * as calls from '../backend/calls/elementwise.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { allocate, checkExactShape, commonBackend, floatDType } from './operands.ts';

/**
 * `activation(gate) * up`, elementwise.
 * @param gate any shape, f32 (f64 on the reference backend).
 * @param up gate's shape.
 * @param activation `'silu'` (default), `'gelu'` (erf form) or `'geluTanh'`.
 * @throws RangeError when shapes differ or the activation is unknown.
 */
export function gatedActivation(gate: Tensor, up: Tensor, activation: calls.GateActivation = 'silu'): Tensor {
  return gated('gatedActivation', gate, up, activation);
}

/** `silu(gate) * up`: the gated activation of Llama-like models. */
export function swiglu(gate: Tensor, up: Tensor): Tensor {
  return gated('swiglu', gate, up, 'silu');
}

function gated(op: string, gate: Tensor, up: Tensor, activation: calls.GateActivation): Tensor {
  const backend = commonBackend(op, gate, up);
  const dtype = floatDType(op, gate, up);
  checkExactShape(op, 'up', up, gate.shape);
  if (!calls.GATE_ACTIVATIONS.includes(activation)) {
    throw new RangeError(`${op}: expected silu, gelu or geluTanh, got ${show(activation)}`);
  }
  const out = allocate(backend, dtype, gate);
  backend.run(calls.gated, { activation, out, gate, up, count: out.size });
  if (isRecorded(gate, up)) {
    record({
      inputs: [gate, up],
      outputs: [out],
      saved: [gate, up],
      vjp: ([g], [before, other]) => {
        const dGate = allocate(backend, dtype, before);
        const dUp = allocate(backend, dtype, other);
        const operands = { dGate, dUp, gate: before, up: other, dOut: g as Tensor };
        backend.run(calls.gatedBackward, { activation, count: before.size, ...operands });
        return [dGate, dUp];
      },
    });
  }
  return out;
}
