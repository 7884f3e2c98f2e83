/** How an attention call is written for the kernels; the call and its way back share it. */
import type { DType } from '../tensor/dtype.ts';
import type { AttentionCall, Operand, ScoreOperand } from './backend.ts';

/** The address of an operand, 0 for none. */
export function at(operand: Operand | undefined): number {
  return operand ? operand.storage.address : 0;
}

/** The block of doubles of an attention call, in the order of kernels/attention.h. */
export function attentionArguments(call: AttentionCall, codeOf: (dtype: DType) => number): number[] {
  const { keyValue: kv, dropout } = call;
  const args = [
    ...[at(call.out), ...call.outStrides, at(call.query), ...call.queryStrides],
    ...[call.batch, call.queryLength, call.numHeads, kv.numKeyValueHeads, kv.headDim, kv.valueHeadDim],
    ...[codeOf(kv.keyDtype), kv.keyTokenStride, kv.keyHeadStride],
    ...[codeOf(kv.valueDtype), kv.valueTokenStride, kv.valueHeadStride],
    ...[call.scale, call.softCap, clampWindow(call.windowLeft), clampWindow(call.windowRight)],
    ...scoreOperand(call.mask),
    ...scoreOperand(call.bias),
    at(call.sinks),
    ...[at(call.logSumExp?.operand), ...(call.logSumExp?.strides ?? [0, 0, 0])],
    ...[dropout?.rate ?? 0, dropout?.key[0] ?? 0, dropout?.key[1] ?? 0, Number(dropout?.broadcast ?? false)],
  ];
  // Per batch row: query length and offset, key length, number of segments; then all segments.
  let segments = 0;
  for (let b = 0; b < call.batch; b++) {
    const row = kv.rows[b];
    args.push(call.rows[b].length, call.rows[b].offset, row.length, segments);
    segments += row.segments.length;
  }
  for (const { segments } of kv.rows) {
    for (const s of segments) {
      args.push(s.key.address + s.keyByteOffset, s.value.address + s.valueByteOffset, s.length);
    }
  }
  return args;
}

/** Windows travel as int32; 2^30 is beyond any sequence. */
function clampWindow(width: number): number {
  return Math.min(width, 2 ** 30);
}

function scoreOperand(score: ScoreOperand | undefined): number[] {
  return score ? [at(score.operand), ...score.strides] : [0, 0, 0, 0, 0];
}
