/**
 * Multi-head latent attention (MLA), as in DeepSeek-V2. Parameters are named as in Hugging Face's
 * checkpoints, except that `kv_b_proj` is split in two: the absorbed form multiplies one half into the
 * queries and the other into the outputs.
 *
 * Source: DeepSeek-AI 2024, DeepSeek-V2 (arXiv 2405.04434), section 2.1; transformers models/deepseek_v3
 * (DeepseekV3Attention).
 */

import {
  aBoolean,
  aFunction,
  aNumber,
  anything,
  checkPositiveInteger,
  describe,
} from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import { attend, type CacheView } from '../ops/attend.ts';
import { dotProductAttention } from '../ops/attention.ts';
import { cast } from '../ops/cast.ts';
import { concat } from '../ops/concat.ts';
import { zeros } from '../ops/creation.ts';
import { absorbOutput, absorbQuery, expandLatent } from '../ops/latent.ts';
import { checkTensor } from '../ops/operands.ts';
import { reshape } from '../ops/reshape.ts';
import { slice } from '../ops/slice.ts';
import { aDType, byteLengthOf, type DType } from '../tensor/dtype.ts';
import { scope } from '../tensor/scope.ts';
import { shapeText, sizeOf } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { CacheIndex, checkRoom, writeTokens } from './attention-cache.ts';
import { type Initializer, lecunNormal } from './initializers.ts';
import { Linear, makeParam } from './linear.ts';
import { Module, type View } from './module.ts';
import { RMSNorm } from './norm.ts';
import type { Rngs } from './rngs.ts';
import { RoPE } from './rope.ts';
import { Cache, type Param } from './variable.ts';

/** Options of `MultiHeadLatentAttention`. */
export interface MultiHeadLatentAttentionOptions {
  /** Width of inputs and outputs D. */
  readonly hiddenSize: number;
  /** N */
  readonly numAttentionHeads: number;
  /** Rank of the query projection; default: full rank (DeepSeek-V2-Lite). */
  readonly qLoraRank?: number;
  /** Width L of the latent of keys and values. */
  readonly kvLoraRank: number;
  /** Dims P of a head's queries and keys without position. */
  readonly qkNopeHeadDim: number;
  /** Rotated dims R, even; all heads share the rotated key. */
  readonly qkRopeHeadDim: number;
  /** Dims Hv of a head's values. */
  readonly vHeadDim: number;
  /** Biases of `qAProj`, `kvAProjWithMqa` and `oProj`; default false. */
  readonly attentionBias?: boolean;
  /** Epsilon of both latent norms; default 1e-6. */
  readonly rmsNormEps?: number;
  /** Multiplies the scores; default `1 / sqrt(qkNopeHeadDim + qkRopeHeadDim)`. */
  readonly scaling?: number;
  /** Default `new RoPE({ interleaved: true })`. */
  readonly rope?: RoPE;
  /** Default f32. */
  readonly paramDtype?: DType;
  /** Default lecunNormal. */
  readonly kernelInit?: Initializer;
  /** Use and extend the cache; default false. */
  readonly decode?: boolean;
  /** Keys of the initial parameters. */
  readonly rngs: Rngs;
}

/** Options of one call of `MultiHeadLatentAttention`. */
export interface MultiHeadLatentAttentionCall {
  /** bool or u8, nonzero = may attend; broadcasts to `[B, N, T, S]`. Not while decoding. */
  readonly mask?: Tensor;
  /** A query sees no key after its own position; while decoding that is always so. Default true. */
  readonly isCausal?: boolean;
  /**
   * Attend to the latent rows instead of keys and values per head; the result is the same. Default: true
   * while decoding.
   */
  readonly absorbed?: boolean;
  /** Append to the cache and attend to it; default the module's own. */
  readonly decode?: boolean;
}

/**
 * Multi-head latent attention (MLA): keys and values of all heads are projections of one latent per token,
 * and all heads share one rotated key. So a token takes `kvLoraRank + qkRopeHeadDim` values in the cache for
 * any number of heads.
 *
 * Source: DeepSeek-AI 2024, DeepSeek-V2 (arXiv 2405.04434), section 2.1.
 * @example
 * const layer = new MultiHeadLatentAttention({
 *   hiddenSize: 512, numAttentionHeads: 8, kvLoraRank: 128,
 *   qkNopeHeadDim: 64, qkRopeHeadDim: 32, vHeadDim: 64, rngs: new Rngs(0),
 * });
 * const y = layer.forward(x); // x and y [..., T, 512]
 */
export class MultiHeadLatentAttention extends Module {
  /** kernel `[D, N * (P + R)]`, per head the P dims without position first; undefined with `qLoraRank`. */
  readonly qProj: Linear | undefined;
  /** kernel `[D, qLoraRank]` */
  readonly qAProj: Linear | undefined;
  readonly qALayernorm: RMSNorm | undefined;
  /** kernel `[qLoraRank, N * (P + R)]` */
  readonly qBProj: Linear | undefined;
  /** kernel `[D, L + R]`: the latent, then the rope key. */
  readonly kvAProjWithMqa: Linear;
  readonly kvALayernorm: RMSNorm;
  /** `[N, P, L]`: the first P rows of each head of Hugging Face's `kv_b_proj.weight` `[N * (P + Hv), L]`. */
  readonly kBProj: Param;
  /** `[N, Hv, L]`: the other rows of each head. */
  readonly vBProj: Param;
  /** kernel `[N * Hv, D]` */
  readonly oProj: Linear;
  readonly rope: RoPE;

  /** `[...batch, maxLength, L + R]` after `initCache`: normed latents and rotated rope keys. */
  cachedRows: Cache | undefined = undefined;
  /** Tokens in the cache, an i32 scalar, after `initCache`. */
  cacheIndex: CacheIndex | undefined = undefined;

  readonly hiddenSize: number;
  readonly numAttentionHeads: number;
  readonly kvLoraRank: number;
  readonly qkNopeHeadDim: number;
  readonly qkRopeHeadDim: number;
  readonly vHeadDim: number;
  readonly scaling: number;
  decode: boolean;

  /** @throws RangeError unless sizes are positive integers and `qkRopeHeadDim` is even. */
  constructor(options: MultiHeadLatentAttentionOptions) {
    super();
    checkOptions(OP, options, OPTIONS);
    const {
      qLoraRank,
      attentionBias = false,
      rmsNormEps: epsilon = 1e-6,
      paramDtype = 'f32',
      rngs,
    } = options;
    const { kernelInit = lecunNormal() } = options;
    const D = checkPositiveInteger(OP, 'hiddenSize', options.hiddenSize);
    const N = checkPositiveInteger(OP, 'numAttentionHeads', options.numAttentionHeads);
    const L = checkPositiveInteger(OP, 'kvLoraRank', options.kvLoraRank);
    const P = checkPositiveInteger(OP, 'qkNopeHeadDim', options.qkNopeHeadDim);
    const R = checkPositiveInteger(OP, 'qkRopeHeadDim', options.qkRopeHeadDim);
    const Hv = checkPositiveInteger(OP, 'vHeadDim', options.vHeadDim);
    if (R % 2 !== 0) throw new RangeError(`${OP}: expected an even qkRopeHeadDim, got ${R}`);
    this.hiddenSize = D;
    this.numAttentionHeads = N;
    this.kvLoraRank = L;
    this.qkNopeHeadDim = P;
    this.qkRopeHeadDim = R;
    this.vHeadDim = Hv;
    this.scaling = options.scaling ?? 1 / Math.sqrt(P + R);
    this.decode = options.decode ?? false;
    if (options.rope !== undefined && !(options.rope instanceof RoPE)) {
      throw new TypeError(`${OP}: expected rope to be a RoPE, got ${describe(options.rope)}`);
    }
    this.rope = options.rope ?? new RoPE({ interleaved: true });

    const projection = (inFeatures: number, outFeatures: number, useBias: boolean) =>
      new Linear({ inFeatures, outFeatures, useBias, paramDtype, kernelInit, rngs });
    const norm = (numFeatures: number) => new RMSNorm({ numFeatures, epsilon, paramDtype, rngs });
    if (qLoraRank === undefined) {
      this.qProj = projection(D, N * (P + R), false);
    } else {
      checkPositiveInteger(OP, 'qLoraRank', qLoraRank);
      this.qAProj = projection(D, qLoraRank, attentionBias);
      this.qALayernorm = norm(qLoraRank);
      this.qBProj = projection(qLoraRank, N * (P + R), false);
    }
    this.kvAProjWithMqa = projection(D, L + R, attentionBias);
    this.kvALayernorm = norm(L);
    // Initialised with the fans of `[L, N * dims]`.
    this.kBProj = makeParam(kernelInit, rngs, [L, N * P], paramDtype, [N, P, L]);
    this.vBProj = makeParam(kernelInit, rngs, [L, N * Hv], paramDtype, [N, Hv, L]);
    this.oProj = projection(N * Hv, D, attentionBias);
  }

  /**
   * @param x `[...batch, T, D]`.
   * @throws RangeError for an invalid shape and for a full cache, which is then unchanged; TypeError for a
   *   mask while decoding; Error when decoding without a cache.
   * @returns `[...batch, T, D]`.
   */
  forward(x: Tensor, call: MultiHeadLatentAttentionCall = {}): Tensor {
    checkOptions(OP, call, CALL);
    const { hiddenSize: D, numAttentionHeads: N, vHeadDim: Hv } = this;
    if (x.shape.length < 2 || x.shape.at(-1) !== D) {
      throw new RangeError(`${OP}: expected an input [...batch, T, ${D}], got ${shapeText(x.shape)}`);
    }
    const decode = call.decode ?? this.decode;
    if (decode && call.mask) throw new TypeError(`${OP}: expected no mask while decoding`);
    const T = x.shape[x.shape.length - 2];
    const B = sizeOf(x.shape.slice(0, -2));
    return scope(() => {
      const flat = reshape(x, [B, T, D]);
      const position = decode ? this.#cache(x.shape.slice(0, -2), T).index.count : 0;
      const query = this.#query(flat, position);
      const rows = this.#rows(flat, position);
      const attended = decode
        ? this.#attendCache(query, rows, call.absorbed ?? true)
        : this.#attend(query, rows, call.absorbed ?? false, {
            mask: call.mask,
            isCausal: call.isCausal ?? true,
          });
      return reshape(this.oProj.forward(reshape(attended, [B, T, N * Hv])), x.shape);
    });
  }

  /**
   * Allocates an empty cache.
   * @param inputShape `[...batch, maxLength, features]`, the shape of the inputs of one full sequence.
   * @param dtype of the cached rows: f32 (default), f16 or bf16.
   */
  initCache(inputShape: readonly number[], dtype: DType = 'f32'): void {
    if (inputShape.length < 2) {
      throw new RangeError(
        `initCache: expected [...batch, maxLength, features], got ${shapeText(inputShape)}`,
      );
    }
    for (const old of [this.cachedRows, this.cacheIndex]) old?.dispose();
    const width = this.kvLoraRank + this.qkRopeHeadDim;
    this.cachedRows = new Cache(zeros([...inputShape.slice(0, -1), width], { dtype }));
    this.cacheIndex = new CacheIndex();
  }

  /** @throws TypeError when only one of `batchSize` and `maxLength` is given. */
  protected override applyView({ decode, batchSize, maxLength }: View): void {
    if (decode !== undefined) this.decode = decode;
    if (batchSize === undefined && maxLength === undefined) return;
    if (batchSize === undefined || maxLength === undefined) {
      throw new TypeError(`${OP}: expected batchSize and maxLength together, got one of them`);
    }
    this.initCache([batchSize, maxLength, this.hiddenSize].flat());
  }

  /** `[B, T, D] -> [B, T, N, P + R]`, the last R dims rotated. */
  #query(x: Tensor, position: number): Tensor {
    const { numAttentionHeads: N, qkNopeHeadDim: P, qkRopeHeadDim: R } = this;
    const [B, T] = x.shape;
    const latent = this.qAProj && this.qALayernorm?.forward(this.qAProj.forward(x));
    const projected = latent ? this.qBProj?.forward(latent) : this.qProj?.forward(x);
    const query = reshape(projected as Tensor, [B, T, N, P + R]);
    const rotated = this.rope.rotateHeads(slice(query, [0, 0, 0, P]), position);
    return concat([slice(query, [0, 0, 0, 0], [B, T, N, P]), rotated], -1);
  }

  /** `[B, T, D] -> [B, T, L + R]`: the normed latent and the rotated rope key of each token. */
  #rows(x: Tensor, position: number): Tensor {
    const { kvLoraRank: L, qkRopeHeadDim: R } = this;
    const [B, T] = x.shape;
    const both = this.kvAProjWithMqa.forward(x);
    const latent = this.kvALayernorm.forward(slice(both, [0, 0, 0], [B, T, L]));
    const rope = this.rope.rotateHeads(reshape(slice(both, [0, 0, L]), [B, T, 1, R]), position);
    return concat([latent, reshape(rope, [B, T, R])], -1);
  }

  /** Attention without a cache: `[B, T, N, Hv]`. */
  #attend(
    query: Tensor,
    rows: Tensor,
    absorbed: boolean,
    options: Parameters<typeof dotProductAttention>[3],
  ): Tensor {
    const weights = { key: this.kBProj.value, value: this.vBProj.value };
    const settings = { ...options, scale: this.scaling, returnLogSumExp: false } as const;
    if (!absorbed) {
      const { key, value } = expandLatent(rows, weights);
      return dotProductAttention(query, key, value, settings);
    }
    const [B, S, width] = rows.shape;
    const key = reshape(rows, [B, S, 1, width]);
    const value = slice(key, [0, 0, 0, 0], [B, S, 1, this.kvLoraRank]);
    return absorbOutput(
      dotProductAttention(absorbQuery(query, weights.key), key, value, settings),
      weights.value,
    );
  }

  /** The cache `[B, maxLength, L + R]`, checked to have room for T tokens. */
  #cache(batch: readonly number[], T: number): { rows: Tensor; index: CacheIndex } {
    const { cachedRows, cacheIndex } = this;
    if (!cachedRows || !cacheIndex) throw new Error(`${OP}: expected a cache, call initCache first`);
    const { shape } = cachedRows.value;
    const width = this.kvLoraRank + this.qkRopeHeadDim;
    if (shapeText(shape.slice(0, -2)) !== shapeText(batch)) {
      throw new RangeError(
        `${OP}: expected inputs of the cache's batch ${shapeText(shape.slice(0, -2))}, got ${shapeText(batch)}`,
      );
    }
    if (shape[shape.length - 1] !== width) {
      throw new RangeError(`${OP}: expected cached rows of ${width} values, got ${shapeText(shape)}`);
    }
    const maxLength = shape[shape.length - 2];
    checkRoom(OP, maxLength, cacheIndex.count, T);
    return { rows: reshape(cachedRows.value, [sizeOf(batch), maxLength, width]), index: cacheIndex };
  }

  #attendCache(query: Tensor, rows: Tensor, absorbed: boolean): Tensor {
    const [B, T, width] = rows.shape;
    const { rows: cached, index } = this.#cache((this.cachedRows as Cache).value.shape.slice(0, -2), T);
    writeTokens(
      OP,
      reshape(cached, [B, cached.shape[1], 1, width]),
      reshape(rows, [B, T, 1, width]),
      index.count,
    );
    const length = index.count + T;
    const weights = { key: this.kBProj.value, value: this.vBProj.value };
    let out: Tensor;
    if (absorbed) {
      const moved = absorbQuery(query, weights.key);
      out = absorbOutput(
        attend(moved, latentView(cached, length, this.kvLoraRank), { scale: this.scaling }),
        weights.value,
      );
    } else {
      const seen = slice(cached, [0, 0, 0], [B, length, width]);
      const bottomRight = { isCausal: true, causalAlignment: 'bottomRight' } as const;
      out = this.#attend(query, cast(seen, query.dtype), false, bottomRight);
    }
    index.advance(T);
    return out;
  }
}

const OP = 'MultiHeadLatentAttention';
const OPTIONS = optionKinds<MultiHeadLatentAttentionOptions>({
  hiddenSize: anything,
  numAttentionHeads: anything,
  qLoraRank: anything,
  kvLoraRank: anything,
  qkNopeHeadDim: anything,
  qkRopeHeadDim: anything,
  vHeadDim: anything,
  attentionBias: aBoolean,
  rmsNormEps: aNumber,
  scaling: aNumber,
  rope: anything,
  paramDtype: aDType,
  kernelInit: aFunction,
  decode: aBoolean,
  rngs: anything,
});
const CALL = optionKinds<MultiHeadLatentAttentionCall>({
  mask: checkTensor,
  isCausal: aBoolean,
  absorbed: aBoolean,
  decode: aBoolean,
});

/**
 * The first `length` of the rows `[B, maxLength, L + R]` as one key/value head, its values the first L
 * columns.
 */
function latentView(rows: Tensor, length: number, latent: number): CacheView {
  const { dtype, storage, shape } = rows;
  const [B, maxLength, width] = shape;
  return {
    keyDtype: dtype,
    valueDtype: dtype,
    numKeyValueHeads: 1,
    headDim: width,
    valueHeadDim: latent,
    keyTokenStride: width,
    keyHeadStride: width,
    valueTokenStride: width,
    valueHeadStride: width,
    rows: Array.from({ length: B }, (_, b) => {
      const offset = byteLengthOf(dtype, b * maxLength * width);
      const piece = { key: storage, keyByteOffset: offset, value: storage, valueByteOffset: offset, length };
      return { length, segments: [piece] };
    }),
  };
}
