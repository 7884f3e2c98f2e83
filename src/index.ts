/**
 * Tensors, ops and attention. Models, caches and checkpoints have entries of their own (`gqa/models`, …).
 * @module gqa
 */
export {
  type GradientOf,
  type GradientsOf,
  grad,
  type ParameterOwner,
  valueAndGrad,
} from './autograd/grad.ts';
export type { BackendName } from './backend/backend.ts';
export type { KeyValueSegment, KeyValueView } from './backend/calls/attention.ts';
export type { MatmulPrecision } from './backend/calls/call.ts';
export {
  type BackendHandle as Backend,
  chooseBackend as setBackend,
  currentBackend as getBackend,
} from './backend/handle.ts';
export { setThreads } from './backend/registry.ts';
export { type AttendOptions, attend, type CacheView } from './ops/attend.ts';
export { type AttentionOptions, dotProductAttention } from './ops/attention.ts';
export type { AttentionLayout } from './ops/attention-call.ts';
export { dotProductAttentionWeights } from './ops/attention-weights.ts';
export { add, div, maximum, minimum, mul, type Operand, pow, sub } from './ops/binary.ts';
export { broadcastTo } from './ops/broadcast-to.ts';
export { cast } from './ops/cast.ts';
export { concat } from './ops/concat.ts';
export {
  arange,
  type CreationOptions,
  full,
  ones,
  type TensorLike,
  type TensorOptions,
  tensor,
  zeros,
} from './ops/creation.ts';
export { softmaxCrossEntropy } from './ops/cross-entropy.ts';
export type { DropoutMask } from './ops/dropout.ts';
export { embedding } from './ops/embedding.ts';
export { swiglu } from './ops/gated.ts';
export { groupedQueryAttention } from './ops/grouped-query-attention.ts';
export { type LayerNormOptions, layerNorm } from './ops/layer-norm.ts';
export { linear } from './ops/linear.ts';
export { type MatmulOptions, matmul } from './ops/matmul.ts';
export { setMatmulPrecision } from './ops/matmul-precision.ts';
export type { AttentionWeightsOptions } from './ops/prepare-attention.ts';
export { max, mean, min, type ReduceOptions, sum } from './ops/reduce.ts';
export { reshape } from './ops/reshape.ts';
export { type RmsNormOptions, rmsNorm } from './ops/rms-norm.ts';
export { type RopeOptions, rope } from './ops/rope.ts';
export { slice } from './ops/slice.ts';
export { type AxisOptions, logSoftmax, softmax } from './ops/softmax.ts';
export { type ArgmaxOptions, argmax, topK } from './ops/top-k.ts';
export { transpose } from './ops/transpose.ts';
export {
  abs,
  cos,
  exp,
  type GeluOptions,
  gelu,
  log,
  neg,
  relu,
  sigmoid,
  silu,
  sin,
  sqrt,
  tanh,
} from './ops/unary.ts';
export { where } from './ops/where.ts';
export type { BlockDType, DType, PlainDType } from './tensor/dtype.ts';
export type { NumericArray } from './tensor/encode.ts';
export { UnsupportedError } from './tensor/errors.ts';
export { scope } from './tensor/scope.ts';
export type { Shape } from './tensor/shape.ts';
export { type NestedArray, Tensor } from './tensor/tensor.ts';
