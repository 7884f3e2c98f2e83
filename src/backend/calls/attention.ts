/** Attention and its gradients (kernels/attention.c, kernels/attention_backward.c). */
import type { DType } from '../../tensor/dtype.ts';
import { sizeOf } from '../../tensor/shape.ts';
import { addressOf, type Storage } from '../../tensor/storage.ts';
import {
  at,
  type CallHost,
  checkF32,
  codeOf,
  type MatmulPrecision,
  type Operand,
  type PackedCall,
  precisionCode,
} from './call.ts';

/** Keys and values of consecutive tokens of one batch row. */
export interface KeyValueSegment {
  /** Memory of the keys. */
  readonly key: Storage;
  /** Where the first key begins, in bytes. */
  readonly keyByteOffset: number;
  /** Memory of the values. */
  readonly value: Storage;
  /** Where the first value begins, in bytes. */
  readonly valueByteOffset: number;
  /** Tokens in this segment. */
  readonly length: number;
}

/**
 * How attention reads keys and values in place: per batch row a list of segments (one for a static cache, two
 * for a ring, many for a paged one) that share strides and type.
 */
export interface KeyValueView {
  /** How keys are stored. */
  readonly keyDtype: DType;
  /** How values are stored. */
  readonly valueDtype: DType;
  /** K */
  readonly numKeyValueHeads: number;
  /** H of keys. */
  readonly headDim: number;
  /** H of values. */
  readonly valueHeadDim: number;
  /** Strides in elements between tokens and between heads. */
  readonly keyTokenStride: number;
  /** Elements from one key head to the next. */
  readonly keyHeadStride: number;
  /** As `keyTokenStride`, of values. */
  readonly valueTokenStride: number;
  /** As `keyHeadStride`, of values. */
  readonly valueHeadStride: number;
  /** One per batch row; the segments' lengths sum to at least `length`. Rows may be the same object. */
  readonly rows: readonly { readonly length: number; readonly segments: readonly KeyValueSegment[] }[];
  /**
   * Bytes added to the offsets of batch row b's segments, b times, when the rows of one tensor share a
   * segment. Default 0.
   */
  readonly keyRowBytes?: number;
  /** As `keyRowBytes`, of values. */
  readonly valueRowBytes?: number;
}

/** An additive bias or a mask read with strides (0 = broadcast) over [batch, query head, query, key]. */
export interface ScoreOperand {
  readonly operand: Operand;
  readonly strides: readonly [number, number, number, number];
}

/**
 * One attention call. Query i of row b sits at position p = i + rows[b].offset among the keys and sees the
 * keys j with p - windowLeft <= j <= p + windowRight and 0 <= j < keys.rows[b].length that the mask allows,
 * and with a `chunk` only those of its own chunk, which begins (i + rows[b].position) mod chunk keys before p:
 * score = softCap(scale * q.k) + bias; weights = softmax(score) with `sinks` added to the denominator. The
 * output is zero for a query that sees no key, with a log-sum-exp of -Infinity (or the sink), and for queries
 * at or past rows[b].length.
 */
export interface AttentionCall {
  readonly out: Operand;
  /** Strides of [batch, query, head] in `query` and `out`; the head dimension is contiguous. */
  readonly outStrides: readonly [number, number, number];
  readonly query: Operand;
  readonly queryStrides: readonly [number, number, number];
  readonly batch: number;
  readonly queryLength: number;
  readonly numHeads: number;
  readonly keyValue: KeyValueView;
  readonly rows: readonly {
    readonly length: number;
    readonly offset: number;
    /** Of the first query in its sequence, where the keys lack a sequence's first; default `offset`. */
    readonly position?: number;
  }[];
  readonly precision: MatmulPrecision;
  readonly scale: number;
  /** 0 = none. */
  readonly softCap: number;
  /** Infinity = unbounded. Causal is windowRight = 0. */
  readonly windowLeft: number;
  readonly windowRight: number;
  /** 0 = none. */
  readonly chunk: number;
  /** bool (one byte): nonzero = may attend. */
  readonly mask?: ScoreOperand;
  /** f32; -Infinity masks. */
  readonly bias?: ScoreOperand;
  /** f32 [N]. */
  readonly sinks?: Operand;
  /**
   * f32; natural log of the denominator, sinks included. Strides of [batch, query, head], also for `rest`:
   * the f32 rounding error. Without it, gradients lose log(S) when all keys share a large score.
   */
  readonly logSumExp?: {
    readonly operand: Operand;
    readonly rest?: Operand;
    readonly strides: readonly [number, number, number];
  };
  /**
   * Dropout of the softmax weights: kept weights are divided by 1 - rate (as f32). The bits equal JAX's for
   * this key (threefry, partitionable): weight [b, n, t, s] uses element [b, n, t, s] of a mask [batch,
   * numHeads, queryLength, S] ([0, 0, t, s] of [1, 1, queryLength, S] when `broadcast`), S = the sum of row
   * 0's segment lengths.
   */
  readonly dropout?: {
    readonly rate: number;
    readonly key: readonly [number, number];
    readonly broadcast: boolean;
  };
}

export const attention: PackedCall<AttentionCall, 'attention'> = {
  name: 'attention',
  pack(host, call) {
    const { logSumExp } = call;
    checkF32(host, 'attention', call.out, call.query, call.sinks, call.bias?.operand);
    checkF32(host, 'attention', logSumExp?.operand, logSumExp?.rest);
    writeAttention(host.block(attentionLength(call)), 0, call, host);
  },
};

/**
 * The gradients of an attention call: with P = exp(score - (logSumExp + rest)), dP = dOut . v (with P's
 * dropout mask) and dS = P * (dP - dOut . out + dLogSumExp), the gradients are dV = P^T dOut, dK = scale *
 * dS^T q, dQ = scale * dS k (through the soft cap), dBias = dS summed over the axes that the bias repeats,
 * dSink = -sum of exp(sink - logSumExp) * (dOut . out - dLogSumExp). Absent outputs are not computed. All are
 * f32 and written whole, zeros included.
 */
export interface AttentionBackwardCall {
  /**
   * The forward call, with `logSumExp` and its `rest`; one segment per row, keys and values contiguous
   * tensors.
   */
  readonly forward: AttentionCall & { readonly logSumExp: Required<NonNullable<AttentionCall['logSumExp']>> };
  /** Strides as `forward.out`. */
  readonly dOut: Operand;
  /** Strides as `forward.logSumExp`. */
  readonly dLogSumExp?: Operand;
  /** Strides as `forward.query`. */
  readonly dQuery?: Operand;
  /** The shape and the strides of the key tensor; `[B]` rows are `dKeyBatchStride` elements apart. */
  readonly dKey?: Operand;
  readonly dKeyBatchStride: number;
  readonly dValue?: Operand;
  readonly dValueBatchStride: number;
  /** The shape of the bias tensor, read with `forward.bias.strides`. */
  readonly dBias?: Operand;
  /** `[N]` */
  readonly dSinks?: Operand;
}

export const attentionBackward: PackedCall<AttentionBackwardCall, 'attentionBackward'> = {
  name: 'attentionBackward',
  pack(host, call) {
    const { forward, dOut, dLogSumExp, dQuery, dKey, dValue, dBias, dSinks } = call;
    const operands = [dOut, dLogSumExp, dQuery, dKey, dValue, dBias, dSinks];
    checkF32(host, 'attentionBackward', ...operands);
    const head = operands.map(at);
    head.push(call.dKeyBatchStride, call.dValueBatchStride, dBias ? sizeOf(dBias.shape) : 0);
    const block = host.block(head.length + attentionLength(forward));
    block.set(head);
    writeAttention(block, head.length, forward, host);
  },
};

/** Doubles of an attention call that do not depend on the batch size. */
const FIXED = 46;

/** How many doubles an attention call takes. */
function attentionLength({ batch, keyValue }: AttentionCall): number {
  let segments = 0;
  for (const row of keyValue.rows) segments += row.segments.length;
  return FIXED + 5 * batch + 3 * segments;
}

/** Writes the doubles of an attention call from `block[i]` on, in the order of kernels/attention.h. */
function writeAttention(block: Float64Array, i: number, call: AttentionCall, host: CallHost): void {
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
  block[i++] = codeOf(host, 'attention', kv.keyDtype);
  block[i++] = kv.keyTokenStride;
  block[i++] = kv.keyHeadStride;
  block[i++] = codeOf(host, 'attention', kv.valueDtype);
  block[i++] = kv.valueTokenStride;
  block[i++] = kv.valueHeadStride;
  block[i++] = precisionCode(call.precision);
  block[i++] = call.scale;
  block[i++] = call.softCap;
  block[i++] = clampWindow(call.windowLeft);
  block[i++] = clampWindow(call.windowRight);
  block[i++] = call.chunk;
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
  // Per batch row: query length, offset and position, key length, number of segments; then all segments.
  let segments = 0;
  for (let b = 0; b < call.batch; b++) {
    const row = kv.rows[b];
    block[i++] = call.rows[b].length;
    block[i++] = call.rows[b].offset;
    block[i++] = call.rows[b].position ?? call.rows[b].offset;
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

/** Kernels take windows as int32; 2^30 is longer than any sequence. */
function clampWindow(width: number): number {
  return Math.min(width, 2 ** 30);
}
