/**
 * Scaled dot-product attention with grouped query heads: names and semantics of
 * `jax.nn.dot_product_attention`, plus soft cap, sinks, dropout and per-row lengths. K and V are read in
 * place, each head by all query heads of its group; the score matrix is not stored.
 *
 * docs/semantics.md says what this does where frameworks differ (causal alignment, fully masked rows,
 * window).
 */

import { aBoolean, aNumber, anything } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { runAttention } from './attention-call.ts';
import { checkDropout, type DropoutMask } from './dropout.ts';
import { checkTensor } from './operands.ts';
import { type AttentionWeightsOptions, prepareAttention, WEIGHTS_KINDS } from './prepare-attention.ts';

/** Options of `dotProductAttention`. `dropoutRate` and `dropoutKey` apply to the softmax weights. */
export interface AttentionOptions extends AttentionWeightsOptions, DropoutMask {
  /** One dropout mask `[T, S]` for all batch rows and heads, as in Flax; default true. */
  readonly broadcastDropout?: boolean;
  /** Also return the natural log of each softmax denominator; default false. */
  readonly returnLogSumExp?: boolean;
}

/**
 * `softmax(scale * q . k [soft-capped] + bias, masked) @ v` per query head; head n reads key/value head
 * floor(n * K / N). The softmax runs over the keys a query may see, with `sinks` added to the denominator. A
 * query that sees no key gives zeros. Masked keys and values have no effect, even if NaN.
 *
 * @param query `[B, T, N, H]` (`[B, N, T, H]` for `layout: 'BNTH'`), or without B: f32, f16 or bf16, f64 on
 *   the reference backend. f16 and bf16 are widened to f32 for the call.
 * @param key `[B, S, K, H]`, K divides N (K = N is multi-head, K = 1 multi-query attention), f32, f16 or
 *   bf16, read as stored.
 * @param value `[B, S, K, Hv]`; Hv may differ from H.
 * @throws RangeError when shapes, lengths or options are invalid; TypeError for arguments of a wrong type;
 *   UnsupportedError for dtypes that attention does not support.
 * @returns `[B, T, N, Hv]` of query's dtype, in the layout and with the rank of `query`; with
 *   `returnLogSumExp` the pair `[output, logSumExp]`, the latter f32 `[B, T, N]` (`[B, N, T]`): the head's
 *   sink or -Infinity for a query that sees no key; -Infinity past `querySeqLengths`.
 *
 * Source: jax/_src/nn/functions.py (dot_product_attention); Ainslie et al. 2023 (grouped queries).
 *
 * @example
 * const y = dotProductAttention(q, k, v, { isCausal: true }); // q [2, 16, 8, 64], k and v [2, 16, 2, 64]
 */
export function dotProductAttention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  options: AttentionOptions & { readonly returnLogSumExp: true },
): [output: Tensor, logSumExp: Tensor];
export function dotProductAttention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  options?: AttentionOptions & { readonly returnLogSumExp?: false },
): Tensor;
export function dotProductAttention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  options?: AttentionOptions,
): Tensor | [output: Tensor, logSumExp: Tensor];
export function dotProductAttention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  options: AttentionOptions = {},
): Tensor | [Tensor, Tensor] {
  checkOptions(OP, options, OPTIONS);
  checkTensor(OP, 'query', query);
  checkTensor(OP, 'key', key);
  checkTensor(OP, 'value', value);
  const { backend, dims, view, settings } = prepareAttention(OP, query, key, value, options);
  const dropout = checkDropout(OP, options);
  return runAttention(
    OP,
    backend,
    query,
    dims,
    view,
    {
      ...settings,
      dropout: dropout && { ...dropout, broadcast: options.broadcastDropout ?? true },
      returnLogSumExp: options.returnLogSumExp ?? false,
    },
    { key, value },
  );
}

const OP = 'dotProductAttention';

const OPTIONS = optionKinds<AttentionOptions>({
  ...WEIGHTS_KINDS,
  dropoutRate: aNumber,
  dropoutKey: anything,
  broadcastDropout: aBoolean,
  returnLogSumExp: aBoolean,
});
