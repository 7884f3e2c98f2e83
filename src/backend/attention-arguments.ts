/** How an attention call is written for the kernels; the call and its way back share it. */
import type { DType } from '../tensor/dtype.ts';
import { addressOf } from '../tensor/storage.ts';
import type { AttentionCall, Operand } from './backend.ts';

/** The address of an operand, 0 for none. */
export function at(operand: Operand | undefined): number {
  return operand ? addressOf(operand.storage) : 0;
}

/** Doubles of an attention call that do not depend on the batch. */
const FIXED = 44;

/** How many doubles an attention call takes. */
export function attentionLength({ batch, keyValue }: AttentionCall): number {
  let segments = 0;
  for (const row of keyValue.rows) segments += row.segments.length;
  return FIXED + 4 * batch + 3 * segments;
}

/** Writes the doubles of an attention call from `block[i]` on, in the order of kernels/attention.h. */
export function writeAttention(
  block: Float64Array,
  i: number,
  call: AttentionCall,
  codeOf: (dtype: DType) => number,
): void {
  const { keyValue: kv, dropout, logSumExp } = call;
  const start = i;
  block[i++] = at(call.out);
  for (const stride of call.outStrides) block[i++] = stride;
  block[i++] = at(call.query);
  for (const stride of call.queryStrides) block[i++] = stride;
  block[i++] = call.batch;
  block[i++] = call.queryLength;
  block[i++] = call.numHeads;
  block[i++] = kv.numKeyValueHeads;
  block[i++] = kv.headDim;
  block[i++] = kv.valueHeadDim;
  block[i++] = codeOf(kv.keyDtype);
  block[i++] = kv.keyTokenStride;
  block[i++] = kv.keyHeadStride;
  block[i++] = codeOf(kv.valueDtype);
  block[i++] = kv.valueTokenStride;
  block[i++] = kv.valueHeadStride;
  block[i++] = call.scale;
  block[i++] = call.softCap;
  block[i++] = clampWindow(call.windowLeft);
  block[i++] = clampWindow(call.windowRight);
  for (const score of [call.mask, call.bias]) {
    block[i++] = at(score?.operand);
    for (let axis = 0; axis < 4; axis++) block[i++] = score?.strides[axis] ?? 0;
  }
  block[i++] = at(call.sinks);
  block[i++] = at(logSumExp?.operand);
  block[i++] = at(logSumExp?.rest);
  for (let axis = 0; axis < 3; axis++) block[i++] = logSumExp?.strides[axis] ?? 0;
  block[i++] = dropout?.rate ?? 0;
  block[i++] = dropout?.key[0] ?? 0;
  block[i++] = dropout?.key[1] ?? 0;
  block[i++] = Number(dropout?.broadcast ?? false);
  if (i - start !== FIXED) throw new Error(`attention: ${i - start} arguments, expected ${FIXED}`);
  // Per batch row: query length and offset, key length, number of segments; then all segments.
  let segments = 0;
  for (let b = 0; b < call.batch; b++) {
    const row = kv.rows[b];
    block[i++] = call.rows[b].length;
    block[i++] = call.rows[b].offset;
    block[i++] = row.length;
    block[i++] = segments;
    segments += row.segments.length;
  }
  const { keyRowBytes = 0, valueRowBytes = 0 } = kv;
  for (let b = 0; b < kv.rows.length; b++) {
    for (const s of kv.rows[b].segments) {
      block[i++] = addressOf(s.key) + s.keyByteOffset + b * keyRowBytes;
      block[i++] = addressOf(s.value) + s.valueByteOffset + b * valueRowBytes;
      block[i++] = s.length;
    }
  }
}

/** Windows travel as int32; 2^30 is beyond any sequence. */
function clampWindow(width: number): number {
  return Math.min(width, 2 ** 30);
}
