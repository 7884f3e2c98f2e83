/** Attention over keys and values in a cache, as models call it. */

import { aBoolean, aNumber, anything, checkObject, listOfNumbers } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { Backend } from '../backend/backend.ts';
import type { AttentionCall, ScoreOperand } from '../backend/calls/attention.ts';
import type { Tensor } from '../tensor/tensor.ts';
import {
  checkAttentionFloat,
  checkHeads,
  checkScale,
  checkSinks,
  checkSoftCap,
  checkWindow,
  runAttention,
} from './attention-call.ts';
import { type CacheView, checkedView } from './cache-view.ts';
import { allocate, checkRank, checkTensor, commonBackend } from './operands.ts';

export type { CacheView } from './cache-view.ts';

/** Options of `attend`. */
export interface AttendOptions {
  /** Multiplies the scores; default `1 / sqrt(H)`. */
  readonly scale?: number;
  /** Scores become `cap * tanh(score / cap)`; default none. */
  readonly logitsSoftCap?: number;
  /** Default true. */
  readonly isCausal?: boolean;
  /**
   * Query at position p sees keys p - left … p + right, both included; one number is both. Default unbounded.
   */
  readonly localWindowSize?: number | readonly [left: number, right: number];
  /** `[N]`: a score per head, added to the softmax denominator only. */
  readonly sinks?: Tensor;
  /** Queries per batch row, 0 … T; later ones give zeros. Default T. */
  readonly queryLengths?: readonly number[];
  /**
   * Position of each row's first query among its keys. Default: keys minus queries, so the queries are the
   * newest tokens.
   */
  readonly queryOffsets?: readonly number[];
}

/**
 * `softmax(scale * q . k) @ v` over the keys and values of a cache view, read in place.
 * @param query `[B, T, N, H]` f32, f16 or bf16 (f64 on the reference backend).
 * @param cacheView one row per batch row of `query`; K divides N. It must stay valid until the call returns.
 * @throws RangeError when shapes, lengths or options are invalid, or the view points outside its memory;
 *   Error when the view is on another backend or its cache was disposed; UnsupportedError for dtypes that
 *   this backend's attention does not support.
 * @returns `[B, T, N, Hv]` of query's dtype; zeros for a query that sees no key.
 */
export function attend(query: Tensor, cacheView: CacheView, options: AttendOptions = {}): Tensor {
  checkOptions(OP, options, OPTIONS);
  checkObject(OP, 'a view of a cache', cacheView?.rows);
  const { sinks, isCausal = true } = options;
  const backend = commonBackend(OP, query, sinks);
  checkRank(OP, 'query', query, 4);
  checkAttentionFloat(OP, backend, query);
  const view = checkedView(OP, backend, cacheView);
  const [B, T, N, H] = query.shape;
  if (view.rows.length !== B || view.headDim !== H) {
    throw new RangeError(
      `${OP}: expected a view of B=${B} rows and H=${H}, got ${view.rows.length} rows and H=${view.headDim}`,
    );
  }
  checkHeads(OP, N, view.numKeyValueHeads);
  checkSinks(OP, backend, sinks, N);
  const [left, windowRight] = checkWindow(OP, options.localWindowSize, isCausal);
  const lengths = checkRows('queryLengths', options.queryLengths, B, 0, T) ?? new Array<number>(B).fill(T);
  const offsets = checkRows('queryOffsets', options.queryOffsets, B, -(2 ** 31), 2 ** 31 - 1);
  const rows = lengths.map((length, b) => ({ length, offset: offsets?.[b] ?? view.rows[b].length - length }));
  const { windowLeft, mask } = pinnedMask(
    backend,
    view,
    rows,
    T,
    Math.min(left, (view.window ?? Infinity) - 1),
  );
  const out = runAttention(
    OP,
    backend,
    query,
    { layout: 'BTNH', batch: B, length: T, heads: N, headDim: H },
    view,
    {
      rows,
      scale: checkScale(OP, options.scale, H),
      softCap: checkSoftCap(OP, options.logitsSoftCap),
      windowLeft,
      windowRight,
      mask,
      sinks,
      returnLogSumExp: false,
    },
  );
  mask?.operand.dispose();
  return out as Tensor;
}

const OP = 'attend';

const OPTIONS = optionKinds<AttendOptions>({
  scale: aNumber,
  logitsSoftCap: aNumber,
  isCausal: aBoolean,
  localWindowSize: anything,
  sinks: checkTensor,
  queryLengths: listOfNumbers,
  queryOffsets: listOfNumbers,
});

/**
 * The window as a left bound, or as a mask when it would hide pinned keys: a query at p sees key j when j >=
 * p - left or j is pinned. Neither is needed for one query per row over a ring buffer of exactly the window.
 */
function pinnedMask(
  backend: Backend,
  { rows: keys, pinned = 0 }: CacheView,
  rows: AttentionCall['rows'],
  T: number,
  left: number,
): { windowLeft: number; mask?: ScoreOperand & { readonly operand: Tensor } } {
  const last = (b: number) => rows[b].offset + rows[b].length - 1;
  const hides = (b: number) => rows[b].length > 0 && last(b) - left > 0;
  if (pinned === 0 || !keys.some((_, b) => hides(b))) return { windowLeft: left };
  const whole = keys.every(
    ({ length }, b) => !hides(b) || (rows[b].length === 1 && length - pinned <= left + 1),
  );
  if (whole) return { windowLeft: Infinity };
  const S = Math.max(...keys.map(({ length }) => length));
  const bits = new Uint8Array(keys.length * T * S);
  for (let b = 0; b < keys.length; b++) {
    for (let t = 0; t < T; t++) {
      const from = (b * T + t) * S;
      bits.fill(1, from, from + Math.min(pinned, S));
      bits.fill(1, from + Math.min(S, Math.max(0, t + rows[b].offset - left)), from + S);
    }
  }
  const operand = allocate(backend, 'bool', [keys.length, 1, T, S]);
  backend.write(operand.storage, bits);
  return { windowLeft: Infinity, mask: { operand, strides: [T * S, 0, S, 1] } };
}

function checkRows(
  name: string,
  values: readonly number[] | undefined,
  batch: number,
  low: number,
  high: number,
): readonly number[] | undefined {
  if (values === undefined) return undefined;
  const own = Array.from(values);
  if (own.length !== batch || own.some((value) => !Number.isInteger(value) || value < low || value > high)) {
    const range = Number.isFinite(high) ? ` from ${low} to ${high}` : '';
    throw new RangeError(`${OP}: expected ${name} of ${batch} integers${range}, got [${own.join(', ')}]`);
  }
  return own;
}
