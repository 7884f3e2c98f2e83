/** Attention over keys and values that lie in a cache: what models call. */
import type { KeyValueView } from '../backend/backend.ts';
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
import { checkRank, commonBackend } from './operands.ts';

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
 * @throws RangeError when shapes, lengths or options do not fit; Error when the view lies on another backend;
 *   UnsupportedError for dtypes that this backend's attention does not read.
 * @returns `[B, T, N, Hv]` of query's dtype; zeros where a query sees nothing.
 */
export function attend(query: Tensor, view: KeyValueView, options: AttendOptions = {}): Tensor {
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
  const owner = view.rows.find(({ segments }) => segments.length > 0)?.segments[0].key.owner;
  if (owner && owner !== backend) {
    throw new Error(`${OP}: expected query and view on one backend, got ${backend.name} and ${owner.name}`);
  }
  for (const dtype of [view.keyDtype, view.valueDtype]) {
    // The kernels read f32, f16 and bf16; block types are the reference backend's alone until they do.
    if (isBlockDType(dtype) && backend.name !== 'reference')
      throw new UnsupportedError(OP, dtype, backend.name);
  }
  checkHeads(OP, N, view.numKeyValueHeads);
  checkSinks(OP, backend, sinks, N);
  const [windowLeft, windowRight] = checkWindow(OP, options.localWindowSize, isCausal);
  const lengths = checkRows('queryLengths', options.queryLengths, B, 0, T) ?? new Array<number>(B).fill(T);
  const offsets = checkRows('queryOffsets', options.queryOffsets, B, -Infinity, Infinity);
  const out = runAttention(
    OP,
    backend,
    query,
    { layout: 'BTNH', batch: B, length: T, heads: N, headDim: H },
    view,
    {
      rows: lengths.map((length, b) => ({ length, offset: offsets?.[b] ?? view.rows[b].length - length })),
      scale: checkScale(OP, options.scale, H),
      softCap: checkSoftCap(OP, options.logitsSoftCap),
      windowLeft,
      windowRight,
      sinks,
      returnLogSumExp: false,
    },
  );
  return out as Tensor;
}

const OP = 'attend';

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
