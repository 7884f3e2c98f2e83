/** Attention over keys and values in a cache, as models call it. */

import { aBoolean, aNumber, anything, checkObject, listOfNumbers } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { Backend } from '../backend/backend.ts';
import type { AttentionCall, ScoreOperand } from '../backend/calls/attention.ts';
import type { Shape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import {
  checkAttentionFloat,
  checkChunk,
  checkHeads,
  checkIntegers,
  checkMask,
  checkScale,
  checkSinks,
  checkSoftCap,
  checkWindow,
  runAttention,
  scoreOperand,
} from './attention-call.ts';
import { runAttentionWeights } from './attention-weights.ts';
import { type CacheView, checkedView } from './cache-view.ts';
import { allocate, checkRank, checkTensor, commonBackend } from './operands.ts';
import type { PreparedAttention } from './prepare-attention.ts';

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
  /**
   * Query at position p sees only keys of its own chunk of so many positions, those from `p - p mod
   * chunkSize` on (Llama 4); default all.
   */
  readonly chunkSize?: number;
  /**
   * bool or u8, broadcastable to `[B, N, T, S]`, S the keys of the longest row: nonzero = may attend. It hides
   * keys besides those that causality and windows hide.
   */
  readonly mask?: Tensor;
  /** Added to the scaled (and capped) scores: f32, f16 or bf16, broadcastable likewise; -Infinity masks. */
  readonly bias?: Tensor;
  /** `[N]`: a score per head, added to the softmax denominator only. */
  readonly sinks?: Tensor;
  /** Queries per batch row, 0 … T; later ones give zeros. Default T. */
  readonly queryLengths?: readonly number[];
  /**
   * Position of each row's first query among its keys. Default: keys minus queries, so the queries are the
   * newest tokens.
   */
  readonly queryOffsets?: readonly number[];
  /**
   * Position of each row's first query in its sequence, by which chunks are counted, where a window cache has
   * overwritten the sequence's first keys. Default: `queryOffsets`.
   */
  readonly queryPositions?: readonly number[];
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
  const { backend, dims, view, settings, free } = prepareAttend('attend', query, cacheView, options);
  const out = runAttention('attend', backend, query, dims, view, settings);
  free();
  return out as Tensor;
}

/**
 * The softmax weights of `attend` with the same arguments.
 * @returns `[B, N, T, S]`, S the keys of the longest row; zeros for keys that a query does not see.
 */
export function attendWeights(query: Tensor, cacheView: CacheView, options: AttendOptions = {}): Tensor {
  const { free, ...prepared } = prepareAttend('attendWeights', query, cacheView, options);
  const weights = runAttentionWeights('attendWeights', query, prepared);
  free();
  return weights;
}

/** Checks the arguments of `attend`. `free` ends the lifetime of what was allocated for the call. */
function prepareAttend(
  op: string,
  query: Tensor,
  cacheView: CacheView,
  options: AttendOptions,
): PreparedAttention & { readonly free: () => void } {
  checkOptions(op, options, OPTIONS);
  checkObject(op, 'a view of a cache', cacheView?.rows);
  const { mask, bias, sinks, isCausal = true } = options;
  const backend = commonBackend(op, query, mask, bias, sinks);
  checkRank(op, 'query', query, 4);
  checkAttentionFloat(op, backend, query);
  const view = checkedView(op, backend, cacheView);
  const [B, T, N, H] = query.shape;
  if (view.rows.length !== B || view.headDim !== H) {
    throw new RangeError(
      `${op}: expected a view of B=${B} rows and H=${H}, got ${view.rows.length} rows and H=${view.headDim}`,
    );
  }
  checkHeads(op, N, view.numKeyValueHeads);
  checkSinks(op, backend, sinks, N);
  if (mask) checkMask(op, mask);
  if (bias) checkAttentionFloat(op, backend, bias);
  const [left, windowRight] = checkWindow(op, options.localWindowSize, isCausal);
  const { queryLengths, queryOffsets, queryPositions } = options;
  const lengths = queryLengths
    ? checkIntegers(op, 'queryLengths', queryLengths, { batch: B, low: 0, high: T })
    : new Array<number>(B).fill(T);
  const offsets =
    queryOffsets &&
    checkIntegers(op, 'queryOffsets', queryOffsets, { batch: B, low: -(2 ** 31), high: 2 ** 31 - 1 });
  const positions =
    queryPositions &&
    checkIntegers(op, 'queryPositions', queryPositions, { batch: B, low: 0, high: 2 ** 31 - 1 });
  const rows = lengths.map((length, b) => ({
    length,
    offset: offsets?.[b] ?? view.rows[b].length - length,
    position: positions?.[b],
  }));
  const S = Math.max(0, ...view.rows.map(({ length }) => length));
  const target = [B, N, T, S];
  const given = mask && scoreOperand(op, 'mask', mask, target);
  const pinned = pinnedMask(backend, view, rows, T, Math.min(left, (view.window ?? Infinity) - 1));
  const both = given && pinned.mask && bothMasks(backend, given, pinned.mask, target);
  return {
    backend,
    dims: { layout: 'BTNH', batch: B, length: T, heads: N, headDim: H },
    view,
    keyLength: S,
    settings: {
      rows,
      scale: checkScale(op, options.scale, H),
      softCap: checkSoftCap(op, options.logitsSoftCap),
      windowLeft: pinned.windowLeft,
      windowRight,
      chunk: checkChunk(op, options.chunkSize),
      mask: both ?? given ?? pinned.mask,
      bias: bias && scoreOperand(op, 'bias', bias, target),
      sinks,
      returnLogSumExp: false,
    },
    free: () => {
      pinned.mask?.operand.dispose();
      both?.operand.dispose();
    },
  };
}

const OPTIONS = optionKinds<AttendOptions>({
  scale: aNumber,
  logitsSoftCap: aNumber,
  isCausal: aBoolean,
  localWindowSize: anything,
  chunkSize: aNumber,
  mask: checkTensor,
  bias: checkTensor,
  sinks: checkTensor,
  queryLengths: listOfNumbers,
  queryOffsets: listOfNumbers,
  queryPositions: listOfNumbers,
});

type TensorOperand = ScoreOperand & { readonly operand: Tensor };

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
): { windowLeft: number; mask?: TensorOperand } {
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

/** Where both masks are nonzero, `[B, N, T, S]`. */
function bothMasks(backend: Backend, a: TensorOperand, b: TensorOperand, target: Shape): TensorOperand {
  const [B, N, T, S] = target;
  const [x, y] = [a, b].map(({ operand }) => operand.dataSync());
  const bits = new Uint8Array(B * N * T * S);
  for (let i = 0; i < bits.length; i++) {
    const at = [Math.floor(i / (N * T * S)), Math.floor(i / (T * S)) % N, Math.floor(i / S) % T, i % S];
    const index = ({ strides }: TensorOperand) =>
      strides.reduce((sum, stride, axis) => sum + stride * at[axis], 0);
    bits[i] = Number(Boolean(x[index(a)]) && Boolean(y[index(b)]));
  }
  const operand = allocate(backend, 'bool', target);
  backend.write(operand.storage, bits);
  return { operand, strides: [N * T * S, T * S, S, 1] };
}
