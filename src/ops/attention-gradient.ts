/** The vjp of attention: what the tape saves of a call, and the backward call. */
import { isRecorded, record } from '../autograd/tape.ts';
import type { Backend } from '../backend/backend.ts';
import { type AttentionCall, attentionBackward } from '../backend/calls/attention.ts';
import { fill } from '../backend/calls/copy.ts';
import { sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { allocate, hasNoOutput } from './operands.ts';

/** The tensors of a call as the caller gave them; key and value are absent when they are in a cache. */
export interface AttentionInputs {
  readonly query: Tensor;
  readonly key?: Tensor;
  readonly value?: Tensor;
  readonly bias?: Tensor;
  readonly sinks?: Tensor;
}

/** Whether backward will run, which needs the log-sum-exp. */
export function needsAttentionGradient({ query, key, value, bias, sinks }: AttentionInputs): boolean {
  return isRecorded(query, key, value, bias, sinks);
}

/**
 * Records the call. `call.out` and its log-sum-exp are the tensors `out` and `logSumExp`; `query`, `bias` and
 * `sinks` of `call` may be widened copies of `inputs`.
 */
export function recordAttention(
  op: string,
  backend: Backend,
  inputs: AttentionInputs,
  call: AttentionCall,
  { out, logSumExp, rest, mask }: { out: Tensor; logSumExp: Tensor; rest: Tensor; mask: Tensor | undefined },
): void {
  const { query, key, value, bias, sinks } = inputs;
  const wide = { query: call.query, bias: call.bias?.operand, sinks: call.sinks } as Partial<AttentionInputs>;
  record({
    inputs: [query, key, value, bias, sinks],
    outputs: [out, logSumExp],
    // Backward reads key, value and mask through the call; saving them keeps their memory.
    saved: [wide.query, key, value, wide.bias, wide.sinks, out, logSumExp, rest, mask],
    vjp: ([dOut, dLogSumExp], [q, k, v, added, joined, result, sums, rests, masked], needed) => {
      if (!k || !v) throw new Error(`${op}: keys and values in a cache have no gradient`);
      const { dtype } = result;
      const dQuery = needed[0] ? allocate(backend, dtype, q) : undefined;
      const dKey = needed[1] ? allocate(backend, dtype, k) : undefined;
      const dValue = needed[2] ? allocate(backend, dtype, v) : undefined;
      const dBias = needed[3] ? allocate(backend, dtype, added) : undefined;
      const dSinks = needed[4] ? allocate(backend, dtype, joined) : undefined;
      let upstream = dOut;
      if (!upstream) {
        upstream = allocate(backend, dtype, result);
        backend.run(fill, { out: upstream, count: upstream.size, value: 0 });
      }
      const lse = call.logSumExp as NonNullable<AttentionCall['logSumExp']>;
      if (!hasNoOutput(dQuery, dKey, dValue, dBias, dSinks))
        backend.run(attentionBackward, {
          forward: {
            ...call,
            out: result,
            query: q,
            mask: call.mask && { ...call.mask, operand: masked },
            bias: call.bias && { ...call.bias, operand: added },
            sinks: joined,
            logSumExp: { operand: sums, rest: rests, strides: lse.strides },
          },
          dOut: upstream,
          dLogSumExp,
          dQuery,
          dKey,
          dKeyBatchStride: sizeOf(k.shape) / Math.max(1, call.batch),
          dValue,
          dValueBatchStride: sizeOf(v.shape) / Math.max(1, call.batch),
          dBias,
          dSinks,
        });
      return [dQuery, dKey, dValue, dBias, dSinks];
    },
  });
}
