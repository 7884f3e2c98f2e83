/**
 * The interface every backend implements: memory, files, and one method per kernel. Ops check their arguments and
 * allocate outputs; a backend trusts what it gets. Operands are contiguous and row-major unless a method takes strides;
 * strides and offsets count elements unless a name says bytes. Outputs never overlap inputs, except where "in place" is said.
 *
 * Three implementations: `native` and `wasm` (the C kernels, src/backend/kernel-backend.ts) and `reference`
 * (plain TypeScript with f64 accumulation, the oracle).
 */
import type { DType } from '../tensor/dtype.ts';
import type { Shape } from '../tensor/shape.ts';
import type { Storage, StorageOwner } from '../tensor/storage.ts';

export type BackendName = 'native' | 'wasm' | 'reference';

/** What a kernel reads or writes; every Tensor is one. */
export interface Operand {
  readonly storage: Storage;
  readonly dtype: DType;
  readonly shape: Shape;
}

export type UnaryOp =
  | 'neg'
  | 'exp'
  | 'log'
  | 'sqrt'
  | 'tanh'
  | 'sigmoid'
  | 'silu'
  | 'gelu' // erf form: x * Phi(x)
  | 'geluTanh' // 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
  | 'relu'
  | 'abs';
/** `less` (a < b) and `equal` give 1 or 0. */
export type BinaryOp = 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max' | 'pow' | 'less' | 'equal';
export type ReduceOp = 'sum' | 'max' | 'min';
/** Activation of the gate in a gated MLP. */
export type GateActivation = 'silu' | 'gelu' | 'geluTanh';

/** What `random` draws; the same formulas as jax.random. */
export type RandomKind = 'bits' | 'uniform' | 'normal' | 'gumbel' | 'bernoulli';

/**
 * A random array. Element i (row-major) has the bits out0 ^ out1 of threefry2x32(key, high word of i, low word of i), and
 * u = 23 of them as a float in [0, 1), scaled to v = max(minval, u * (maxval - minval) + minval) with one rounding. Then:
 * bits (u32); uniform v * scale; normal clamp(factor * erfInv(v), low, high) * scale; gumbel -log(-log(v));
 * bernoulli (bool) v < high. Numbers are f32 values.
 */
export interface RandomCall {
  readonly kind: RandomKind;
  readonly key: readonly [number, number];
  readonly minval: number;
  readonly maxval: number;
  readonly factor: number;
  readonly low: number;
  readonly high: number;
  readonly scale: number;
}

/** One weight of `linear`: `out = x @ weight^T + bias`. */
export interface LinearPart {
  /** `[Out, In]`, f32, f16, bf16 or a block type. */
  readonly weight: Operand;
  /** `[Out]`, f32. */
  readonly bias?: Operand;
  /** `[rows, Out]`, f32. */
  readonly out: Operand;
}

/**
 * Which experts each row of `scores` goes to: the `count` of largest score + bias within its `keptGroups` best of `groups` equal
 * runs of experts, a run judged by the sum of its `best` largest. Ties go to the lower index.
 */
export interface ExpertChoice {
  /** f32 `[rows, E]` */
  readonly scores: Operand;
  readonly rows: number;
  readonly numExperts: number;
  /** f32 `[E]`; counts for the choice only. */
  readonly bias?: Operand;
  readonly groups: number;
  readonly keptGroups: number;
  readonly best: number;
  readonly count: number;
  /** f32 `[rows, count]`: the chosen scores, without bias, best first. */
  readonly values: Operand;
  /** i32 `[rows, count]` */
  readonly ids: Operand;
}

/** One weight of each expert. */
export interface ExpertPart {
  /** E times `[Out, In]` (`[In, Out]` when the call is transposed), f32, f16, bf16 or a block type, all of one type. */
  readonly weights: readonly Operand[];
  /** E times `[Out]`, f32. */
  readonly biases?: readonly Operand[];
  readonly outFeatures: number;
  /** `[pairs, Out]`, f32. */
  readonly out: Operand;
}

/** `out[p] = x[floor(p / each)] @ weight[ids[p]]^T + bias[ids[p]]`; weights of experts that `ids` does not name are not read. */
export interface ExpertLinearCall {
  /** f32 `[pairs / each, In]` */
  readonly x: Operand;
  /** i32 `[pairs]` in 0 … E - 1. */
  readonly ids: Operand;
  readonly pairs: number;
  /** Consecutive pairs that share a row of x. */
  readonly each: number;
  readonly inFeatures: number;
  readonly numExperts: number;
  /** Whether weights are `[In, Out]`. */
  readonly transposed: boolean;
  readonly parts: readonly ExpertPart[];
}

/** The way back through one part of `expertLinear` to its weights; zeros for an expert that no pair names. */
export interface ExpertLinearBackwardCall extends Omit<ExpertLinearCall, 'parts'> {
  readonly outFeatures: number;
  /** f32 `[pairs, Out]` */
  readonly dOut: Operand;
  /** E times, f32, shaped as the weight; undefined where it is not wanted. */
  readonly dWeights: readonly (Operand | undefined)[];
  /** E times f32 `[Out]`. */
  readonly dBiases: readonly (Operand | undefined)[];
}

/** One weight of `linearBackward`. */
export interface LinearBackwardPart {
  /** `[Out, In]`, f32. */
  readonly weight: Operand;
  /** `[rows, Out]` */
  readonly dOut: Operand;
  /** `[Out, In]`; undefined: not wanted. */
  readonly dWeight?: Operand;
}

/** Keys and values of consecutive tokens of one batch row. */
export interface KeyValueSegment {
  readonly key: Storage;
  readonly keyByteOffset: number;
  readonly value: Storage;
  readonly valueByteOffset: number;
  /** Tokens in this piece. */
  readonly length: number;
}

/**
 * How attention reads keys and values in place: per batch row a list of segments (one for a static cache, two for a ring,
 * many for a paged one) that share strides and type.
 */
export interface KeyValueView {
  readonly keyDtype: DType;
  readonly valueDtype: DType;
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  readonly valueHeadDim: number;
  /** Strides in elements between tokens and between heads. */
  readonly keyTokenStride: number;
  readonly keyHeadStride: number;
  readonly valueTokenStride: number;
  readonly valueHeadStride: number;
  /** One per batch row; the segments' lengths sum to at least `length`. Rows may be the same object. */
  readonly rows: readonly { readonly length: number; readonly segments: readonly KeyValueSegment[] }[];
  /** Bytes added to the offsets of batch row b's segments b times: of one tensor, whose rows share a segment. Default 0. */
  readonly keyRowBytes?: number;
  readonly valueRowBytes?: number;
}

/** An additive bias or a mask read with strides (0 = broadcast) over [batch, query head, query, key]. */
export interface ScoreOperand {
  readonly operand: Operand;
  readonly strides: readonly [number, number, number, number];
}

/**
 * One attention call. Query i of row b sits at position p = i + rows[b].offset among the keys and sees the keys j with
 * p - windowLeft <= j <= p + windowRight and 0 <= j < keys.rows[b].length that the mask allows.
 * score = softCap(scale * q.k) + bias; weights = softmax(score) with `sinks` joined to the denominator; a query that sees
 * nothing gives zeros and a log-sum-exp of -Infinity (or the sink alone). Queries at or past rows[b].length give zeros.
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
  readonly rows: readonly { readonly length: number; readonly offset: number }[];
  readonly scale: number;
  /** 0 = none. */
  readonly softCap: number;
  /** Infinity = unbounded. Causal is windowRight = 0. */
  readonly windowLeft: number;
  readonly windowRight: number;
  /** bool (one byte): nonzero = may attend. */
  readonly mask?: ScoreOperand;
  /** f32; -Infinity masks. */
  readonly bias?: ScoreOperand;
  /** f32 [N]. */
  readonly sinks?: Operand;
  /**
   * f32; natural log of the denominator, sinks included. Strides of [batch, query, head], of `rest` too: what rounding to
   * f32 took from it, without which the way back would lose the log of S beside a large score common to all keys.
   */
  readonly logSumExp?: {
    readonly operand: Operand;
    readonly rest?: Operand;
    readonly strides: readonly [number, number, number];
  };
  /**
   * Drops weights after the softmax: kept ones are divided by 1 - rate (as f32). Bits are JAX's for this key (threefry,
   * partitionable): weight [b, n, t, s] takes element [b, n, t, s] of a mask [batch, numHeads, queryLength, S]
   * ([0, 0, t, s] of [1, 1, queryLength, S] when `broadcast`), S = the sum of row 0's segment lengths.
   */
  readonly dropout?: {
    readonly rate: number;
    readonly key: readonly [number, number];
    readonly broadcast: boolean;
  };
}

/**
 * The way back through an attention call: with P = exp(score - (logSumExp + rest)), dP = dOut . v (dropped as P was) and
 * dS = P * (dP - dOut . out + dLogSumExp), the gradients are dV = P^T dOut, dK = scale * dS^T q, dQ = scale * dS k (through the
 * soft cap), dBias = dS summed over the axes that the bias repeats, dSink = -sum of exp(sink - logSumExp) * (dOut . out -
 * dLogSumExp). Absent outputs are not computed. All are f32 and written whole, zeros included.
 */
export interface AttentionBackwardCall {
  /** As it was called, `logSumExp` and its rest present; one segment per row, keys and values contiguous tensors. */
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

/** The way back through `rmsNorm` (centred false) or `layerNorm`; the mean and the scale of each row are found anew from x. */
export interface NormBackwardCall {
  readonly centred: boolean;
  readonly dOut: Operand;
  readonly x: Operand;
  readonly rows: number;
  readonly n: number;
  readonly weight: Operand | undefined;
  readonly eps: number;
  readonly weightOffset: number;
  readonly dX?: Operand;
  /** `[n]` */
  readonly dWeight?: Operand;
  /** `[n]` */
  readonly dBias?: Operand;
}

/** A parameter of an AdamW step, its gradient and its moments: four arrays of one shape. */
export interface AdamwPart {
  readonly parameter: Operand;
  readonly gradient: Operand;
  readonly m: Operand;
  readonly v: Operand;
  readonly weightDecay: number;
}

/**
 * One AdamW step of some parameters, in place: m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, and
 * p = p - rate * (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay * p), g the gradient times `gradientScale`.
 */
export interface AdamwCall {
  readonly parts: readonly AdamwPart[];
  /** f32 scalar. */
  readonly gradientScale?: Operand;
  readonly learningRate: number;
  readonly b1: number;
  readonly b2: number;
  readonly eps: number;
  /** t, from 1. */
  readonly step: number;
}

/** A file opened for its tensors' bytes: mapped by the native backend, read in slices by the others. */
export interface BackendFile {
  readonly size: number;
  /** The bytes from `byteOffset` as storage; stays valid after `close()`. */
  storage(byteOffset: number, byteLength: number): Storage;
  close(): void;
}

export interface Backend extends StorageOwner {
  readonly name: BackendName;
  /** For people: instruction set and threads, such as `native (avx512, 2 threads)`. */
  readonly description: string;

  /** Uninitialised memory. @throws RangeError when there is none left. */
  allocate(byteLength: number): Storage;
  write(storage: Storage, bytes: Uint8Array, byteOffset?: number): void;
  openFile(path: string): BackendFile;
  /** Number of threads kernels may use, the calling one included. Without effect where there is one only. */
  setThreads(threads: number): void;

  /** Every element of `out` (a plain dtype) becomes `value`. */
  fill(out: Operand, value: number): void;
  /**
   * `out[outOffset + i] = x[xOffset + i]` for `count` elements, converting between f32, f16, bf16, i32, u32, u8 and bool
   * (bool from others: nonzero = 1; floats to integers truncate) and from block types to f32 and from f32 to q8_0
   * (offsets and count whole blocks). Same dtype copies bytes. This is also how K and V enter a cache.
   */
  convert(out: Operand, outOffset: number, x: Operand, xOffset: number, count: number): void;
  /** `out[outOffset + idx . outStrides] = x[xOffset + idx . xStrides]` over all idx of `shape` (rank 1 to 6); same plain dtype. */
  copyStrided(
    out: Operand,
    outOffset: number,
    outStrides: readonly number[],
    x: Operand,
    xOffset: number,
    xStrides: readonly number[],
    shape: Shape,
  ): void;
  /** f32 elementwise; may be in place. */
  unary(op: UnaryOp, out: Operand, x: Operand): void;
  /** f32 elementwise over `out.shape` (rank up to 6); a and b are read with their strides (0 = broadcast). */
  binary(
    op: BinaryOp,
    out: Operand,
    a: Operand,
    aStrides: readonly number[],
    b: Operand,
    bStrides: readonly number[],
  ): void;
  /** f32 `[outer, n, inner] -> [outer, inner]`. An empty sum is 0; an empty max is -Infinity, an empty min Infinity. */
  reduce(op: ReduceOp, out: Operand, x: Operand, outer: number, n: number, inner: number): void;
  /** f32 rows `[rows, n]`; a row of -Infinity only gives zeros. */
  softmax(out: Operand, x: Operand, rows: number, n: number): void;
  /**
   * f32 `out[M, N] = a @ b` for each of `batch` pairs; a is [M, K] ([K, M] when transposeA), b [K, N] ([N, K] when
   * transposeB); consecutive pairs are aBatchStride and bBatchStride elements apart (0 = the same matrix each time).
   */
  matmul(
    out: Operand,
    a: Operand,
    b: Operand,
    dims: {
      batch: number;
      M: number;
      N: number;
      K: number;
      transposeA: boolean;
      transposeB: boolean;
      aBatchStride: number;
      bBatchStride: number;
    },
  ): void;
  /** x `[rows, In]` f32 against one or more stored weights in one pass over x. */
  linear(x: Operand, rows: number, inFeatures: number, parts: readonly LinearPart[]): void;
  /** `out[i] = table[ids[i]]`: table `[V, D]` of f32, f16, bf16 or a block type, ids i32 (checked by the op), out `[n, D]` f32. */
  embedding(out: Operand, table: Operand, ids: Operand): void;
  /** f32 rows: `x / sqrt(mean(x^2) + eps) * (weight + weightOffset)`; weight `[n]` f32 or absent. */
  rmsNorm(
    out: Operand,
    x: Operand,
    rows: number,
    n: number,
    weight: Operand | undefined,
    eps: number,
    weightOffset: number,
  ): void;
  /** f32 rows: `(x - mean) / sqrt(var + eps) * weight + bias`. */
  layerNorm(
    out: Operand,
    x: Operand,
    rows: number,
    n: number,
    weight: Operand | undefined,
    bias: Operand | undefined,
    eps: number,
  ): void;
  /**
   * Rotates the first `2 * half` dims of each head: x and out `[tokens, heads, headDim]`, cos and sin `[tokens, half]`, f32.
   * Pairs are (i, i + half), or (2i, 2i + 1) when `interleaved`; the other dims pass through. Direction -1
   * turns back. May be in place.
   */
  rope(
    out: Operand,
    x: Operand,
    tokens: number,
    heads: number,
    headDim: number,
    cos: Operand,
    sin: Operand,
    half: number,
    interleaved: boolean,
    direction: 1 | -1,
  ): void;
  /** f32 `activation(gate) * up`, elementwise. May be in place (out = gate). */
  gated(activation: GateActivation, out: Operand, gate: Operand, up: Operand): void;
  attention(call: AttentionCall): void;
  chooseExperts(call: ExpertChoice): void;
  expertLinear(call: ExpertLinearCall): void;
  /** Fills `out`: u32 for bits, bool for bernoulli, else f32. */
  random(out: Operand, call: RandomCall): void;

  // --- the ways back; `d<name>` is the gradient of <name>, all f32 ---

  /** `dX = dOut * f'(x)`; may be in place (dX = dOut). */
  unaryBackward(op: UnaryOp, dX: Operand, x: Operand, dOut: Operand): void;
  /** `dGate = dOut * up * activation'(gate)`, `dUp = dOut * activation(gate)`. */
  gatedBackward(
    activation: GateActivation,
    dGate: Operand,
    dUp: Operand,
    gate: Operand,
    up: Operand,
    dOut: Operand,
  ): void;
  /** `dX = sum of dOut_i @ weight_i` (undefined: not wanted), `dWeight_i = dOut_i^T @ x`; x and dX are `[rows, In]`. */
  linearBackward(
    dX: Operand | undefined,
    x: Operand,
    rows: number,
    inFeatures: number,
    parts: readonly LinearBackwardPart[],
  ): void;
  normBackward(call: NormBackwardCall): void;
  /** `dTable[V, D]` = the rows of `dOut` added up by id, zeros elsewhere; in the order of the ids. */
  embeddingBackward(dTable: Operand, ids: Operand, dOut: Operand): void;
  /**
   * f32 rows `[rows, n]` against i32 labels: `loss = maximum + log sum - logits[label]`, and `sums` `[2, rows]`, each row's
   * maximum and the log of its sum of `exp(logits - maximum)`. A negative label gives a loss of 0.
   */
  crossEntropy(loss: Operand, sums: Operand, logits: Operand, labels: Operand, rows: number, n: number): void;
  /** `dLogits = dLoss * (exp(logits - maximum - log sum) - [column = label])`; zeros for a negative label. May be in place. */
  crossEntropyBackward(
    dLogits: Operand,
    logits: Operand,
    sums: Operand,
    labels: Operand,
    dLoss: Operand,
    rows: number,
    n: number,
  ): void;
  attentionBackward(call: AttentionBackwardCall): void;
  expertLinearBackward(call: ExpertLinearBackwardCall): void;
  /** out[0] = the sum of all elements' squares. */
  sumOfSquares(out: Operand, xs: readonly Operand[]): void;
  adamw(call: AdamwCall): void;
}
