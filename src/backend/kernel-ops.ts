/** Numbers that TypeScript and C share. Order is the meaning: kernels/gqa.h and the kernel files hold the same lists. */
import type { DType } from '../tensor/dtype.ts';
import type { BinaryOp, GateActivation, RandomKind, ReduceOp, UnaryOp } from './backend.ts';

/** GQA_OPS of kernels/gqa.h. */
export const KERNEL_OPS = [
  'fill',
  'convert',
  'copy_strided',
  'unary',
  'binary',
  'reduce',
  'softmax',
  'matmul',
  'linear',
  'embedding',
  'rms_norm',
  'layer_norm',
  'rope',
  'gated',
  'attention',
  'random',
  'unary_backward',
  'gated_backward',
  'norm_backward',
  'embedding_backward',
  'cross_entropy',
  'cross_entropy_backward',
  'sum_of_squares',
  'adamw',
  'attention_backward',
  'choose_experts',
  'expert_linear',
  'expert_linear_backward',
  'linear_backward',
] as const;
export type KernelOp = (typeof KERNEL_OPS)[number];
export const OP: Readonly<Record<KernelOp, number>> = Object.fromEntries(
  KERNEL_OPS.map((name, index) => [name, index]),
) as Record<KernelOp, number>;

/** GQA_ABI of kernels/gqa.h, raised with it when the arguments of an operation change. */
export const KERNEL_ABI = 4;

/** The GQA_F32 … enum of kernels/gqa.h; f64 has no kernels. */
export const DTYPE_CODES: Readonly<Partial<Record<DType, number>>> = {
  f32: 0,
  f16: 1,
  bf16: 2,
  i32: 3,
  u32: 4,
  u8: 5,
  bool: 6,
  q8_0: 7,
  q4_0: 8,
  q4_1: 9,
  q5_0: 10,
  q5_1: 11,
  q4_k: 12,
  q5_k: 13,
  q6_k: 14,
};

export const UNARY_OPS: readonly UnaryOp[] = [
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
];
export const BINARY_OPS: readonly BinaryOp[] = [
  'add',
  'sub',
  'mul',
  'div',
  'min',
  'max',
  'pow',
  'less',
  'equal',
];
export const REDUCE_OPS: readonly ReduceOp[] = ['sum', 'max', 'min'];
export const GATE_ACTIVATIONS: readonly GateActivation[] = ['silu', 'gelu', 'geluTanh'];
export const RANDOM_KINDS: readonly RandomKind[] = ['bits', 'uniform', 'normal', 'gumbel', 'bernoulli'];
