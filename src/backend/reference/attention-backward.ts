/**
 * The gradients of attention, one weight at a time, by the formulas at AttentionBackwardCall. Maxima and
 * denominators are recomputed in f64: the log-sum-exp that the forward call wrote is not read.
 */
import { sizeOf } from '../../tensor/shape.ts';
import type { AttentionBackwardCall } from '../calls/attention.ts';
import type { Operand } from '../calls/call.ts';
import { dropoutOf, gather, scoresOf } from './attention.ts';
import { store, valuesOf } from './memory.ts';

export function attentionBackward(call: AttentionBackwardCall): void {
  const { forward } = call;
  const { keyValue: kv, numHeads, queryLength, scale, softCap } = forward;
  const [query, out, dOut] = [valuesOf(forward.query), valuesOf(forward.out), valuesOf(call.dOut)];
  const dLogSumExp = call.dLogSumExp && valuesOf(call.dLogSumExp);
  const sinks = forward.sinks && valuesOf(forward.sinks);
  const scoresFor = scoresOf(forward);
  const keepWeight = dropoutOf(forward);
  const dQuery = zeros(call.dQuery);
  const dKey = zeros(call.dKey);
  const dValue = zeros(call.dValue);
  const dBias = zeros(call.dBias);
  const dSinks = zeros(call.dSinks);
  const offset = (strides: readonly number[], b: number, t: number, n: number) =>
    b * strides[0] + t * strides[1] + n * strides[2];

  for (let b = 0; b < forward.batch; b++) {
    for (let n = 0; n < numHeads; n++) {
      const head = Math.floor(n / (numHeads / kv.numKeyValueHeads));
      const keys = gather(kv, b, head, 'key');
      const values = gather(kv, b, head, 'value');
      for (let t = 0; t < Math.min(queryLength, forward.rows[b].length); t++) {
        const q = offset(forward.queryStrides, b, t, n);
        const o = offset(forward.outStrides, b, t, n);
        const l = offset(forward.logSumExp.strides, b, t, n);
        const visible = scoresFor(b, n, t, query.subarray(q, q + kv.headDim), keys);
        const sink = sinks ? sinks[n] : -Infinity;
        let max = sink;
        for (const { score } of visible) max = Math.max(max, score);
        if (max === -Infinity) continue;
        let denominator = Math.exp(sink - max);
        for (const { score } of visible) denominator += Math.exp(score - max);
        let delta = dLogSumExp ? -dLogSumExp[l] : 0;
        for (let h = 0; h < kv.valueHeadDim; h++) delta += dOut[o + h] * out[o + h];
        if (sinks) dSinks[n] -= (Math.exp(sink - max) / denominator) * delta;
        for (const { s, score, capped } of visible) {
          const p = Math.exp(score - max) / denominator;
          if (p === 0) continue;
          const kept = keepWeight(b, n, t, s);
          const k = b * call.dKeyBatchStride + s * kv.keyTokenStride + head * kv.keyHeadStride;
          const v = b * call.dValueBatchStride + s * kv.valueTokenStride + head * kv.valueHeadStride;
          let dP = 0;
          for (let h = 0; h < kv.valueHeadDim; h++) {
            if (kept !== 0) dP += dOut[o + h] * values[s][h] * kept;
            if (call.dValue) dValue[v + h] += p * kept * dOut[o + h];
          }
          let dS = p * (dP - delta);
          if (forward.bias && call.dBias) {
            const [sb, sn, st, ss] = forward.bias.strides;
            dBias[b * sb + n * sn + t * st + s * ss] += dS;
          }
          if (softCap) dS *= 1 - (capped / softCap) ** 2;
          for (let h = 0; h < kv.headDim; h++) {
            if (call.dQuery) dQuery[q + h] += scale * dS * keys[s][h];
            if (call.dKey) dKey[k + h] += scale * dS * query[q + h];
          }
        }
      }
    }
  }
  if (call.dQuery) store(call.dQuery, dQuery);
  if (call.dKey) store(call.dKey, dKey);
  if (call.dValue) store(call.dValue, dValue);
  if (call.dBias) store(call.dBias, dBias);
  if (call.dSinks) store(call.dSinks, dSinks);
}

function zeros(operand: Operand | undefined): Float64Array {
  return new Float64Array(operand ? sizeOf(operand.shape) : 0);
}
