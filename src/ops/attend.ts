/** Attention over keys and values that lie in a cache: what models call. */
import type { AttentionCall, Backend, KeyValueView, ScoreOperand } from '../backend/backend.ts';
import { checkObject, checkOptions } from '../tensor/arguments.ts';
import { isBlockDType } from '../tensor/dtype.ts';
import { UnsupportedError } from '../tensor/errors.ts';
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
import { allocate, checkRank, commonBackend } from './operands.ts';

/** What a cache hands to attention: keys and values in place, and how far back a query may see whatever the call says. */
export interface CacheView extends KeyValueView {
  /** Keys a query sees at most, its own included; default all. */
  readonly window?: number;
  /** First keys of a row that the window does not hide; default 0. */
  readonly pinned?: number;
}

export interface AttendOptions {
  /** Multiplies the scores; default `1 / sqrt(H)`. */
  readonly scale?: number;
  /** Scores become `cap * tanh(score / cap)`; default none. */
  readonly logitsSoftCap?: number;
  /** Default true. */
  readonly isCausal?: boolean;
  /** Query at position p sees keys p - left … p + right, both included; one number is both. Default unbounded. */
  readonly localWindowSize?: number | readonly [left: number, right: number];
  /** `[N]`: a score per head that joins the denominator only. */
  readonly sinks?: Tensor;
  /** Queries per batch row, 0 … T: those at or past it give zeros. Default T. */
  readonly queryLengths?: readonly number[];
  /** Position of each row's first query among its keys; default its keys' length minus its queries: the newest tokens. */
  readonly queryOffsets?: readonly number[];
}

/**
 * `softmax(scale * q . k) @ v` over the keys and values of a view, read in place.
 * @param query `[B, T, N, H]` f32, f16 or bf16 (f64 on the reference backend).
 * @param view one row per batch row of `query`; K divides N. It must stay valid until the call returns, no longer.
 * @throws RangeError when shapes, lengths or options do not fit; Error when the view lies on another backend or its cache
 *   was disposed;
 *   UnsupportedError for dtypes that this backend's attention does not read.
 * @returns `[B, T, N, Hv]` of query's dtype; zeros where a query sees nothing.
 */
export function attend(query: Tensor, view: CacheView, options: AttendOptions = {}): Tensor {
  checkOptions(OP, options);
  checkObject(OP, 'a view of a cache', view?.rows);
  const { sinks, isCausal = true } = options;
  const backend = commonBackend(OP, query, sinks);
  checkRank(OP, 'query', query, 4);
  checkAttentionFloat(OP, backend, query);
  const [B, T, N, H] = query.shape;
  if (view.rows.length !== B || view.headDim !== H) {
    throw new RangeError(
      `${OP}: expected a view of B=${B} rows and H=${H}, got ${view.rows.length} rows and H=${view.headDim}`,
    );
  }
  if (view.rows.some(({ segments }) => segments.some(({ key, value }) => key.isFreed || value.isFreed))) {
    throw new Error(`${OP}: expected the view of a live cache, got one after dispose()`);
  }
  const owner = view.rows.find(({ segments }) => segments.length > 0)?.segments[0].key.owner;
  if (owner && owner !== backend) {
    throw new Error(`${OP}: expected query and view on one backend, got ${backend.name} and ${owner.name}`);
  }
  for (const dtype of [view.keyDtype, view.valueDtype]) {
    if (isBlockDType(dtype) && dtype !== 'q8_0') throw new UnsupportedError(OP, dtype, backend.name);
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

/**
 * The window as a bound on the left, or as a mask where it would hide pinned keys: key j is seen from p - left on, or when it is
 * pinned. One query per row over a ring that holds just its window needs neither.
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
  if (
    values.length !== batch ||
    values.some((value) => !Number.isInteger(value) || value < low || value > high)
  ) {
    const range = Number.isFinite(high) ? ` from ${low} to ${high}` : '';
    throw new RangeError(`${OP}: expected ${name} of ${batch} integers${range}, got [${values.join(', ')}]`);
  }
  return values;
}
