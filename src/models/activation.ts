/**
 * The activations of feed-forward layers. The common ones are one fused kernel with the gate; the others are
 * composed of ops.
 *
 * Source: transformers/activations.py (ACT2CLS), whose names of them families/family.ts reads.
 */
import type { GateActivation } from '../backend/calls/elementwise.ts';
import { add, div, maximum, minimum, mul, sub } from '../ops/binary.ts';
import { gatedActivation } from '../ops/gated.ts';
import { exp, gelu, relu, sigmoid, silu, tanh } from '../ops/unary.ts';
import type { Tensor } from '../tensor/tensor.ts';

/**
 * The name of an activation: `silu`, `gelu` (the erf form), `geluTanh`, `linear`, `relu`, `relu2` (squared),
 * `relu6`, `leakyRelu`, `sigmoid`, `tanh`, `hardSwish`, `quickGelu`, `clippedGelu` or `mish`.
 */
export type Activation = GateActivation | Composed;

type Composed =
  | ('linear' | 'relu' | 'relu2' | 'relu6' | 'leakyRelu' | 'sigmoid' | 'tanh')
  | ('hardSwish' | 'quickGelu' | 'clippedGelu' | 'mish');

/** `activation(x)`, elementwise; f32 (f64 on the reference backend). */
export function activate(x: Tensor, activation: Activation): Tensor {
  if (activation === 'silu') return silu(x);
  if (activation === 'gelu') return gelu(x);
  if (activation === 'geluTanh') return gelu(x, { approximate: 'tanh' });
  return COMPOSED[activation](x);
}

/** `activation(gate) * up`, elementwise. */
export function activateGate(gate: Tensor, up: Tensor, activation: Activation): Tensor {
  if (isFused(activation)) return gatedActivation(gate, up, activation);
  return mul(activate(gate, activation), up);
}

/** The numbers of one layer's xIELU. */
export interface Xielu {
  readonly positive: number;
  readonly negative: number;
  readonly beta: number;
}

/**
 * `positive x^2 + beta x` for x > 0, else `negative (e^x - 1 - x) + beta x` (Huang and Schlag 2024,
 * "Deriving Activation Functions Using Integration").
 */
export function xielu(x: Tensor, { positive, negative, beta }: Xielu): Tensor {
  const [above, below] = [relu(x), minimum(x, 0)];
  const curved = mul(sub(sub(exp(below), 1), below), negative);
  return add(add(mul(mul(above, above), positive), curved), mul(x, beta));
}

function isFused(activation: Activation): activation is GateActivation {
  return !Object.hasOwn(COMPOSED, activation);
}

const COMPOSED: Readonly<Record<Composed, (x: Tensor) => Tensor>> = {
  linear: (x) => x,
  relu,
  /** `max(x, 0)^2` (So et al. 2021, "Primer"). */
  relu2: (x) => {
    const positive = relu(x);
    return mul(positive, positive);
  },
  relu6: (x) => minimum(relu(x), 6),
  leakyRelu: (x) => maximum(x, mul(x, 0.01)),
  sigmoid,
  tanh,
  hardSwish: (x) => mul(x, mul(minimum(relu(add(x, 3)), 6), 1 / 6)),
  quickGelu: (x) => mul(x, sigmoid(mul(x, 1.702))),
  clippedGelu: (x) => maximum(minimum(gelu(x), 10), -10),
  mish,
};

/**
 * `x tanh(log(1 + e^x))` (Misra 2019) as `x n / (n + 2)` with `n = e^x (e^x + 2)`, which is accurate for
 * small e^x; for x >= 20 it is x.
 */
function mish(x: Tensor): Tensor {
  const e = exp(minimum(x, 20));
  const n = mul(e, add(e, 2));
  return mul(x, div(n, add(n, 2)));
}
