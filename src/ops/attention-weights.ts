/**
 * The softmax weights of attention, for looking at them. They are the output of attention whose values are
 * the rows of the identity matrix: key s has the value e_s, so the kernel, its masks and its numbers are those
 * of attention itself, whatever the keys' storage.
 */

import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { Backend } from '../backend/backend.ts';
import type { KeyValueView } from '../backend/calls/attention.ts';
import { byteLengthOf } from '../tensor/dtype.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { runAttention } from './attention-call.ts';
import { allocate, checkTensor } from './operands.ts';
import {
  type AttentionWeightsOptions,
  type PreparedAttention,
  prepareAttention,
  WEIGHTS_KINDS,
} from './prepare-attention.ts';

/**
 * The softmax weights of `dotProductAttention` with the same options, before dropout. With sinks, a row sums
 * to less than 1. It takes more time than attention by a factor of about S / H and, during the call,
 * 2 S² bytes; it is meant for looking at weights. Query, key, bias and sinks may have gradients.
 * @param query `[B, T, N, H]` (`[B, N, T, H]` for `layout: 'BNTH'`), or without B: f32, f16 or bf16, f64 on
 *   the reference backend.
 * @param key `[B, S, K, H]` (`[B, K, S, H]`), K divides N, f32, f16 or bf16.
 * @throws RangeError, TypeError and UnsupportedError as `dotProductAttention`.
 * @returns `[B, N, T, S]` of query's dtype in either layout, `[N, T, S]` without B; zeros for keys that a
 *   query does not see.
 *
 * Source: flax/nnx/nn/attention.py (dot_product_attention_weights).
 *
 * @example
 * const weights = dotProductAttentionWeights(q, k, { isCausal: true }); // q [2, 16, 8, 64] -> [2, 8, 16, 16]
 */
export function dotProductAttentionWeights(
  query: Tensor,
  key: Tensor,
  options: AttentionWeightsOptions = {},
): Tensor {
  checkOptions(OP, options, OPTIONS);
  checkTensor(OP, 'query', query);
  checkTensor(OP, 'key', key);
  return runAttentionWeights(OP, query, prepareAttention(OP, query, key, undefined, options), key);
}

const OP = 'dotProductAttentionWeights';

const OPTIONS = optionKinds<AttentionWeightsOptions>(WEIGHTS_KINDS);

/**
 * The weights `[B, N, T, S]` of a prepared call, S its `keyLength`; the values of its view are not read.
 * `key`: the tensor behind the view, if any; it may have a gradient.
 */
export function runAttentionWeights(
  op: string,
  query: Tensor,
  { backend, dims, view, keyLength, settings }: PreparedAttention,
  key?: Tensor,
): Tensor {
  const identity = identityMatrix(backend, keyLength);
  const weights = runAttention(
    op,
    backend,
    query,
    { ...dims, outLayout: 'BNTH' },
    withValues(view, identity),
    settings,
    { key, value: key && identity },
  );
  identity.dispose();
  return weights as Tensor;
}

/** f16 `[n, n]` */
function identityMatrix(backend: Backend, n: number): Tensor {
  const out = allocate(backend, 'f16', [n, n]);
  const bits = new Uint16Array(n * n);
  for (let i = 0; i < n; i++) bits[i * (n + 1)] = 0x3c00; // 1
  backend.write(out.storage, new Uint8Array(bits.buffer));
  return out;
}

/** The keys of `view`; all heads of key s have row s of `values` `[S, S]` as their value. */
function withValues(view: KeyValueView, values: Tensor): KeyValueView {
  const S = values.shape[0];
  const rowBytes = byteLengthOf(values.dtype, S);
  return {
    ...view,
    valueDtype: values.dtype,
    valueHeadDim: S,
    valueTokenStride: S,
    valueHeadStride: 0,
    valueRowBytes: 0,
    rows: view.rows.map(({ length, segments }) => {
      let at = 0;
      const own = segments.map((segment) => {
        // A page may be longer than what the row has of it.
        const from = Math.min(at, S);
        at += segment.length;
        const count = Math.min(at, S) - from;
        return { ...segment, value: values.storage, valueByteOffset: from * rowBytes, length: count };
      });
      return { length, segments: own };
    }),
  };
}
