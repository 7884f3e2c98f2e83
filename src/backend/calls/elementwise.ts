/** Elementwise functions of f32 and the gate of a gated MLP (kernels/elementwise.c). */

/** `gelu` is the erf form, `x * Phi(x)`; `geluTanh` `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`. */
export const UNARY_OPS = [
  'neg',
  'exp',
  'log',
  'sqrt',
  'tanh',
  'sigmoid',
  'silu',
  'gelu',
  'geluTanh',
  'relu',
  'abs',
  'sin',
  'cos',
] as const;
export type UnaryOp = (typeof UNARY_OPS)[number];

/** `less` (a < b) and `equal` give 1 or 0. */
export const BINARY_OPS = ['add', 'sub', 'mul', 'div', 'min', 'max', 'pow', 'less', 'equal'] as const;
export type BinaryOp = (typeof BINARY_OPS)[number];

/** Activation of the gate in a gated MLP. */
export const GATE_ACTIVATIONS = ['silu', 'gelu', 'geluTanh'] as const;
export type GateActivation = (typeof GATE_ACTIVATIONS)[number];

/** `out = op(x)`; may be in place. */
export const unary = {
  name: 'unary',
  fields: { op: UNARY_OPS as typeof UNARY_OPS, out: 'f32', x: 'f32', count: 'number' },
} as const;

/** `dX = dOut * op'(x)`; may be in place (dX = dOut). */
export const unaryBackward = {
  name: 'unaryBackward',
  fields: { op: UNARY_OPS as typeof UNARY_OPS, dX: 'f32', x: 'f32', dOut: 'f32', count: 'number' },
} as const;

/**
 * `out = op(a, b)` over `shape`, that of out (rank up to 6); a and b are read with their strides (0 =
 * broadcast). May be in place.
 */
export const binary = {
  name: 'binary',
  fields: {
    op: BINARY_OPS as typeof BINARY_OPS,
    out: 'f32',
    a: 'f32',
    b: 'f32',
    shape: 'shape',
    aStrides: 'numbers',
    bStrides: 'numbers',
  },
} as const;

/** `activation(gate) * up`. May be in place (out = gate). */
export const gated = {
  name: 'gated',
  fields: {
    activation: GATE_ACTIVATIONS as typeof GATE_ACTIVATIONS,
    out: 'f32',
    gate: 'f32',
    up: 'f32',
    count: 'number',
  },
} as const;

/** `dGate = dOut * up * activation'(gate)`, `dUp = dOut * activation(gate)`. */
export const gatedBackward = {
  name: 'gatedBackward',
  fields: {
    activation: GATE_ACTIVATIONS as typeof GATE_ACTIVATIONS,
    dGate: 'f32',
    dUp: 'f32',
    gate: 'f32',
    up: 'f32',
    dOut: 'f32',
    count: 'number',
  },
} as const;
