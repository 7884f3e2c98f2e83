/**
 * Attention by the definition at AttentionCall: loops over batch rows, heads and queries. As the oracle of
 * the C kernels it uses none of their optimizations: all scores of a query are stored and the softmax takes
 * two passes.
 */
import { byteLengthOf, DTYPES, type DType } from '../../tensor/dtype.ts';
import type { Storage } from '../../tensor/storage.ts';
import type { AttentionCall, KeyValueView } from '../calls/attention.ts';
import { uniformAt } from '../threefry.ts';
import { decodeAt, store, valuesOf } from './memory.ts';

export function attention(call: AttentionCall): void {
  const { keyValue, numHeads, queryLength } = call;
  const query = valuesOf(call.query);
  const sinks = call.sinks && valuesOf(call.sinks);
  const out = new Float64Array(call.batch * queryLength * numHeads * keyValue.valueHeadDim);
  const logSumExp = new Float64Array(call.batch * queryLength * numHeads).fill(-Infinity);
  const scoreOf = scoresOf(call);
  const keepWeight = dropoutOf(call);
  for (let b = 0; b < call.batch; b++) {
    for (let n = 0; n < numHeads; n++) {
      const kvHead = Math.floor(n / (numHeads / keyValue.numKeyValueHeads));
      const keys = gather(keyValue, b, kvHead, 'key');
      const values = gather(keyValue, b, kvHead, 'value');
      for (let t = 0; t < Math.min(queryLength, call.rows[b].length); t++) {
        const [qb, qt, qn] = call.queryStrides;
        const from = b * qb + t * qt + n * qn;
        const visible = scoreOf(b, n, t, query.subarray(from, from + keyValue.headDim), keys);
        const sink = sinks ? sinks[n] : -Infinity;

        let max = sink;
        for (const { score } of visible) max = Math.max(max, score);
        if (max === -Infinity) continue;
        let denominator = Math.exp(sink - max);
        for (const { score } of visible) denominator += Math.exp(score - max);

        const [ob, ot, on] = call.outStrides;
        const to = b * ob + t * ot + n * on;
        for (const { s, score } of visible) {
          const weight = keepWeight(b, n, t, s) * (Math.exp(score - max) / denominator);
          if (weight === 0) continue;
          for (let h = 0; h < keyValue.valueHeadDim; h++) out[to + h] += weight * values[s][h];
        }
        if (call.logSumExp) {
          const [lb, lt, ln] = call.logSumExp.strides;
          logSumExp[b * lb + t * lt + n * ln] = max + Math.log(denominator);
        }
      }
    }
  }
  store(call.out, out);
  if (call.logSumExp) store(call.logSumExp.operand, logSumExp);
}

/** The keys a query may attend to, with their scores (`capped`: before the bias). */
export function scoresOf(
  call: AttentionCall,
): (
  b: number,
  n: number,
  t: number,
  query: ArrayLike<number>,
  keys: ArrayLike<number>[],
) => { s: number; score: number; capped: number }[] {
  const mask = call.mask && valuesOf(call.mask.operand);
  const bias = call.bias && valuesOf(call.bias.operand);
  return (b, n, t, query, keys) => {
    const at = (strides: readonly number[], s: number) =>
      b * strides[0] + n * strides[1] + t * strides[2] + s * strides[3];
    const { offset, position: start = offset } = call.rows[b];
    const position = t + offset;
    const since = t + start - Math.floor((t + start) / call.chunk) * call.chunk;
    const [left, right] = call.chunk > 0 ? [since, call.chunk - 1 - since] : [Infinity, Infinity];
    const first = Math.max(0, position - Math.min(call.windowLeft, left));
    const last = Math.min(keys.length - 1, position + Math.min(call.windowRight, right));
    const visible: { s: number; score: number; capped: number }[] = [];
    for (let s = first; s <= last; s++) {
      if (mask && call.mask && !mask[at(call.mask.strides, s)]) continue;
      const added = bias && call.bias ? bias[at(call.bias.strides, s)] : 0;
      if (added === -Infinity) continue;
      let score = 0;
      for (let h = 0; h < query.length; h++) score += query[h] * keys[s][h];
      score *= call.scale;
      if (call.softCap) score = call.softCap * Math.tanh(score / call.softCap);
      visible.push({ s, score: score + added, capped: score });
    }
    return visible;
  };
}

/** What the weight of [b, n, t, s] is multiplied by: 1 without dropout, else 0 or 1 / (1 - rate). */
export function dropoutOf(call: AttentionCall): (b: number, n: number, t: number, s: number) => number {
  const { dropout: option, numHeads, queryLength } = call;
  if (!option) return () => 1;
  let S = 0;
  for (const { length } of call.keyValue.rows[0]?.segments ?? []) S += length;
  const keep = Math.fround(1 - option.rate);
  return (b, n, t, s) => {
    const row = option.broadcast ? t : (b * numHeads + n) * queryLength + t;
    return uniformAt(option.key, row * S + s) < keep ? 1 / keep : 0;
  };
}

/** One head's keys or values of batch row `b`, an array per token, collected from the row's segments. */
export function gather(
  view: KeyValueView,
  b: number,
  head: number,
  which: 'key' | 'value',
): ArrayLike<number>[] {
  const key = which === 'key';
  const dtype = key ? view.keyDtype : view.valueDtype;
  const dim = key ? view.headDim : view.valueHeadDim;
  const tokenStride = key ? view.keyTokenStride : view.valueTokenStride;
  const headOffset = head * (key ? view.keyHeadStride : view.valueHeadStride);
  const { length, segments } = view.rows[b];
  const tokens: ArrayLike<number>[] = [];
  for (const segment of segments) {
    const storage = key ? segment.key : segment.value;
    const start =
      b * ((key ? view.keyRowBytes : view.valueRowBytes) ?? 0) +
      (key ? segment.keyByteOffset : segment.valueByteOffset);
    for (let i = 0; i < segment.length && tokens.length < length; i++) {
      const byteOffset = start + byteLengthOf(dtype, i * tokenStride + headOffset);
      tokens.push(decodeHead(storage, dtype, byteOffset, dim));
    }
  }
  return tokens;
}

/** `dim` values of one head; block types store whole blocks, the last one padded. */
function decodeHead(storage: Storage, dtype: DType, byteOffset: number, dim: number): ArrayLike<number> {
  const { blockLength } = DTYPES[dtype];
  const padded = Math.ceil(dim / blockLength) * blockLength;
  return decodeAt(storage, dtype, byteOffset, padded).subarray(0, dim);
}
