/**
 * Modules with the contract of Flax NNX.
 * @module gqa/nn
 */
export {
  type AttentionFn,
  type AttentionFnOptions,
  dotProductAttention,
  dotProductAttentionWeights,
} from './attention.ts';
export type { CacheIndex } from './attention-cache.ts';
export { Dropout, type DropoutCall, type DropoutOptions } from './dropout.ts';
export { Embed, type EmbedOptions } from './embed.ts';
export { GroupedQueryAttention, type GroupedQueryAttentionOptions } from './grouped-query-attention.ts';
/**
 * Initial numbers of parameters, with the names of flax.nnx.initializers: functions of a key, a shape and a
 * dtype.
 */
export * as initializers from './initializers.ts';
export { Linear, LinearGeneral, type LinearGeneralOptions, type LinearOptions } from './linear.ts';
export {
  type AttentionMaskOptions,
  combineMasks,
  type MaskOptions,
  makeAttentionMask,
  makeCausalMask,
} from './masks.ts';
export { Module, type View } from './module.ts';
export {
  MultiHeadAttention,
  type MultiHeadAttentionCall,
  type MultiHeadAttentionOptions,
} from './multi-head-attention.ts';
export {
  MultiHeadLatentAttention,
  type MultiHeadLatentAttentionCall,
  type MultiHeadLatentAttentionOptions,
} from './multi-head-latent-attention.ts';
export { LayerNorm, type LayerNormOptions, RMSNorm, type RMSNormOptions } from './norm.ts';
export { type ParamKeys, type RngStream, Rngs, type Seed } from './rngs.ts';
export { RoPE, type RoPEOptions } from './rope.ts';
export { Cache, Param, Variable } from './variable.ts';
