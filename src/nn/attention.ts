/**
 * Attention with Flax's interface: any batch dimensions before `[T, N, H]`, Flax's dropout masks, masks of
 * any dtype, and optional attention weights. It calls `dotProductAttention` of `gqa`.
 *
 * Source: flax/nnx/nn/attention.py (dot_product_attention, dot_product_attention_weights).
 */

import { aBoolean, aNumber, anything } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { dotProductAttention as attend } from '../ops/attention.ts';
import { dotProductAttentionWeights as attentionWeights } from '../ops/attention-weights.ts';
import { broadcastTo } from '../ops/broadcast-to.ts';
import { cast } from '../ops/cast.ts';
import { checkTensor } from '../ops/operands.ts';
import type { AttentionWeightsOptions } from '../ops/prepare-attention.ts';
import { reshape } from '../ops/reshape.ts';
import { aDType, type DType } from '../tensor/dtype.ts';
import { scope } from '../tensor/scope.ts';
import { type Shape, sameShape, shapeText, sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { tupleText, withFlax } from './arguments.ts';
import type { Module } from './module.ts';
import { type ComputeDType, resultDType } from './promote.ts';

/**
 * What `MultiHeadAttention` passes to its `attentionFn`: the options of `dotProductAttention` of `gqa/nn`.
 */
export interface AttentionFnOptions {
  /** Added to the scaled scores; broadcasts to `[...batch, N, T, S]`. */
  readonly bias?: Tensor;
  /** Nonzero = may attend; broadcasts to `[...batch, N, T, S]`. */
  readonly mask?: Tensor;
  /** A query sees no key after its own position (top-left). Default false. */
  readonly isCausal?: boolean;
  /** Default 0. */
  readonly dropoutRate?: number;
  /** Key of the dropout mask. */
  readonly dropoutRng?: Tensor;
  /** One mask `[T, S]` for all batch rows and heads; default true. */
  readonly broadcastDropout?: boolean;
  /** True: no dropout. Default false. */
  readonly deterministic?: boolean;
  /** Dtype of the computation; default: promoted from query, key and value. */
  readonly dtype?: DType;
  /** Module that stores the weights (before dropout) by `sow('attentionWeights', …)`. */
  readonly module?: Module;
  /** Number of valid keys per row; the last query is at the last of them. Used to read a cache. */
  readonly cachedLength?: number;
}

const OPTIONS = optionKinds<AttentionFnOptions>({
  bias: checkTensor,
  mask: checkTensor,
  isCausal: aBoolean,
  dropoutRate: aNumber,
  dropoutRng: checkTensor,
  broadcastDropout: aBoolean,
  deterministic: aBoolean,
  dtype: aDType,
  module: anything,
  cachedLength: aNumber,
});

/**
 * The attention function of `MultiHeadAttention`: query `[...batch, T, N, H]`, key and value `[...batch, S,
 * K, H]` to `[...batch, T, N, H]`.
 */
export type AttentionFn = (query: Tensor, key: Tensor, value: Tensor, options: AttentionFnOptions) => Tensor;

/**
 * `softmax(q . k / sqrt(H) + bias, masked) @ v`; query head n reads key/value head floor(n K / N). A query
 * that sees no key gives zeros (Flax: the mean of V).
 * @param query `[...batch, T, N, H]`. @param key `[...batch, S, K, H]`. @param value `[...batch, S, K, Hv]`.
 * @throws RangeError when shapes are inconsistent or the dropout rate is not in [0, 1); TypeError for dropout
 *   without a key.
 * @returns `[...batch, T, N, Hv]`.
 */
export function dotProductAttention(query: Tensor, key: Tensor, value: Tensor): Tensor;
export function dotProductAttention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  options: AttentionFnOptions,
): Tensor;
export function dotProductAttention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  options: AttentionFnOptions = {},
): Tensor {
  checkKinds('dotProductAttention', { query, key, value }, options);
  const { module } = options;
  const batch = checkShapes(query, key, value);
  const rate = checkDropout(options);
  const [T, N] = query.shape.slice(-3);
  const S = key.shape.at(-3) as number;
  const dtype = resultDType('dotProductAttention', options.dtype, query, key, value);
  if (module) module.sow('attentionWeights', dotProductAttentionWeights(query, key, options));
  return scope(() => {
    const flat = (x: Tensor) => reshape(x, [sizeOf(batch), ...x.shape.slice(-3)]);
    const out = attend(flat(cast(query, dtype)), flat(narrowed(key, dtype)), flat(narrowed(value, dtype)), {
      ...scoreOptions(options, batch, [N, T, S]),
      ...(rate > 0
        ? {
            dropoutRate: rate,
            dropoutKey: options.dropoutRng,
            broadcastDropout: options.broadcastDropout ?? true,
          }
        : {}),
    });
    return reshape(out, [...query.shape.slice(0, -1), value.shape.at(-1) as number]);
  });
}

/**
 * The softmax weights, before dropout, for inspection. It stores all `T * S` weights of each head. The
 * function of this name in `gqa` also has a scale, a soft cap, windows, lengths, sinks and an offset.
 * @param query `[...batch, T, N, H]`. @param key `[...batch, S, K, H]`.
 * @returns `[...batch, N, T, S]`; zeros for a query that sees no key.
 */
export function dotProductAttentionWeights(
  query: Tensor,
  key: Tensor,
  options: AttentionFnOptions = {},
): Tensor {
  checkKinds('dotProductAttentionWeights', { query, key }, options);
  const batch = checkShapes(query, key);
  const [T, N] = query.shape.slice(-3);
  const S = key.shape.at(-3) as number;
  const dtype = resultDType('dotProductAttentionWeights', options.dtype, query, key);
  return scope(() => {
    const flat = (x: Tensor) => reshape(x, [sizeOf(batch), ...x.shape.slice(-3)]);
    const scores = scoreOptions(options, batch, [N, T, S]);
    const weights = attentionWeights(flat(cast(query, dtype)), flat(narrowed(key, dtype)), scores);
    return reshape(weights, [...batch, N, T, S]);
  });
}

/** The options of `gqa` for scores `[...batch, N, T, S]`. */
function scoreOptions(options: AttentionFnOptions, batch: Shape, scores: Shape): AttentionWeightsOptions {
  const { mask, bias, isCausal, cachedLength } = options;
  const target = [...batch, ...scores];
  return {
    mask: mask && scoresOperand('mask', cast(mask, 'bool'), batch, target),
    bias: bias && scoresOperand('bias', bias, batch, target),
    ...(cachedLength === undefined
      ? { isCausal }
      : {
          isCausal: true,
          causalAlignment: 'bottomRight',
          keyValueSeqLengths: new Array<number>(sizeOf(batch)).fill(cachedLength),
        }),
  };
}

/**
 * A mask or bias of `[...batch, N, T, S]` as `[B, N, T, S]`, axes of length 1 kept where the batch allows it.
 */
function scoresOperand(what: string, x: Tensor, batch: Shape, target: Shape): Tensor {
  const shape = [...new Array<number>(Math.max(0, target.length - x.shape.length)).fill(1), ...x.shape];
  if (shape.length > target.length || shape.some((dim, i) => dim !== 1 && dim !== target[i])) {
    throw new RangeError(
      `dotProductAttention: expected ${what} to broadcast to [...batch, N, T, S] ${shapeText(target)}, got ${shapeText(x.shape)}`,
    );
  }
  const own = shape.slice(0, batch.length);
  const scores = shape.slice(batch.length);
  if (own.every((dim) => dim === 1)) return reshape(x, [1, ...scores]);
  const whole = sameShape(own, batch) ? x : broadcastTo(x, [...batch, ...scores]);
  return reshape(whole, [sizeOf(batch), ...scores]);
}

/**
 * Rounds `x` when the computation dtype is narrower than the stored one. A narrower cache is widened in the
 * kernel.
 */
function narrowed(x: Tensor, dtype: ComputeDType): Tensor {
  return dtype === 'f16' || dtype === 'bf16' ? cast(x, dtype) : x;
}

/** @throws TypeError unless inputs are tensors and options an object. */
function checkKinds(
  op: string,
  tensors: Readonly<Record<string, Tensor>>,
  options: AttentionFnOptions,
): void {
  for (const [what, x] of Object.entries(tensors)) checkTensor(op, what, x);
  checkOptions(op, options, OPTIONS);
}

/** The batch dimensions. Error messages are Flax's. */
function checkShapes(query: Tensor, key: Tensor, value?: Tensor): Shape {
  const all = value ? [query, key, value] : [query, key];
  const names = value ? 'q, k, v' : 'q, k';
  const ranks = all.map(({ shape }) => shape.length);
  if (ranks.some((rank) => rank !== ranks[0])) {
    throw new RangeError(`${names} must have same rank, but got ${ranks.join(', ')}.`);
  }
  if (ranks[0] < 3) {
    throw new RangeError(`dotProductAttention: expected ${names} of rank 3 or more, got ${ranks[0]}`);
  }
  const batch = query.shape.slice(0, -3);
  if (all.some(({ shape }) => !sameShape(shape.slice(0, -3), batch))) {
    const shapes = all.map(({ shape }) => tupleText(shape)).join(', ');
    throw new RangeError(`${names} batch dims must match, but got shapes ${shapes}.`);
  }
  const [N, H] = query.shape.slice(-2);
  const [S, K, keyH] = key.shape.slice(-3);
  if (keyH !== H) throw new RangeError(`q, k depths must match, but got ${H} and ${keyH}.`);
  if (value && value.shape.at(-3) !== S) {
    throw new RangeError(`k, v lengths must match, but got ${S} and ${value.shape.at(-3)}.`);
  }
  if (K === 0 || N % K !== 0) {
    throw new RangeError(
      `Query heads (${N}) must be multiple of Key heads (${K}) for Grouped Query Attention.`,
    );
  }
  return batch;
}

/** The dropout rate of this call. */
function checkDropout(options: AttentionFnOptions): number {
  const { dropoutRate: rate = 0, deterministic = false, dropoutRng } = options;
  if (!(rate >= 0 && rate < 1))
    throw new RangeError(
      withFlax(
        `dotProductAttention: expected 0 <= dropoutRate < 1, got ${rate}`,
        `dropout_rate must be in the range [0, 1), got ${rate}.`,
      ),
    );
  if (deterministic || rate === 0) return 0;
  if (dropoutRng === undefined) {
    throw new TypeError(
      withFlax(
        `dotProductAttention: expected a dropoutRng with dropoutRate ${rate}, or deterministic: true, got neither`,
        'dropout_rng is required when dropout_rate > 0 and deterministic=False.',
      ),
    );
  }
  return rate;
}
