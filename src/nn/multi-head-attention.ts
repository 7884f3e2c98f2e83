/**
 * Multi-head attention with grouped key/value heads: flax.nnx.MultiHeadAttention.
 *
 * Not included, since they only configure XLA: precision, dot_general and its classes, the promote_dtype
 * functions, the sharding arguments and the metadata of parameters.
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
import { zeros } from '../ops/creation.ts';
import { checkTensor, commonBackend } from '../ops/operands.ts';
import { aDType, type DType } from '../tensor/dtype.ts';
import { scope } from '../tensor/scope.ts';
import { shapeText } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { withFlax } from './arguments.ts';
import { type AttentionFn, dotProductAttention } from './attention.ts';
import { CacheIndex, cacheMask, checkTokens, writeTokens } from './attention-cache.ts';
import { type Initializer, lecunNormal, zeros as zerosInitializer } from './initializers.ts';
import { LinearGeneral } from './linear.ts';
import { Module, type View } from './module.ts';
import {
  NO_BATCH_SIZE,
  NO_CACHE,
  NO_DECODE,
  NO_DETERMINISTIC,
  NO_MAX_LENGTH,
  NO_RNGS,
  OP,
  VALUES_WITHOUT_KEYS,
} from './multi-head-attention-errors.ts';
import { LayerNorm } from './norm.ts';
import { type RngStream, Rngs } from './rngs.ts';
import { RoPE } from './rope.ts';
import { Cache } from './variable.ts';

/** Options of `MultiHeadAttention`, with the names and defaults of Flax. */
export interface MultiHeadAttentionOptions {
  /** Query heads N. */
  readonly numHeads: number;
  /** Key/value heads K, a divisor of N; default N. */
  readonly numKeyValueHeads?: number;
  /** Flax's name of `numKeyValueHeads`. */
  readonly numKvHeads?: number;
  /** Width of the query inputs. */
  readonly inFeatures: number;
  /** N times the head dim; default `inFeatures`. */
  readonly qkvFeatures?: number;
  /** Width of the output; default `inFeatures`. */
  readonly outFeatures?: number;
  /** Width of the key and value inputs; default `inFeatures`. */
  readonly inKvFeatures?: number;
  /** Dtype of the computation; default: promoted from inputs and parameters. */
  readonly dtype?: DType;
  /** Default f32. */
  readonly paramDtype?: DType;
  /** One dropout mask for all batch rows and heads; default true. */
  readonly broadcastDropout?: boolean;
  /** Probability of dropping an attention weight; default 0. */
  readonly dropoutRate?: number;
  /** True: no dropout. Required, here or in the call, when `dropoutRate` is not 0. */
  readonly deterministic?: boolean;
  /** Default lecunNormal. */
  readonly kernelInit?: Initializer;
  /** Default `kernelInit`. */
  readonly outKernelInit?: Initializer;
  /** Default zeros. */
  readonly biasInit?: Initializer;
  /** Default `biasInit`. */
  readonly outBiasInit?: Initializer;
  /** Default true. */
  readonly useBias?: boolean;
  /** Default `dotProductAttention` of gqa/nn. */
  readonly attentionFn?: AttentionFn;
  /** Append to the cache and attend to it. Required, here or in the call. */
  readonly decode?: boolean;
  /** LayerNorm over the head dim of queries and keys; default false. */
  readonly normalizeQk?: boolean;
  /** Rotates queries and keys by their positions; while decoding they start at the cache's length. */
  readonly rope?: RoPE;
  /** Keep a stream of dropout keys forked from `rngs`; default true. */
  readonly keepRngs?: boolean;
  /** Keys of the initial parameters. */
  readonly rngs: Rngs;
}

/** Options of one call of `MultiHeadAttention`. */
export interface MultiHeadAttentionCall {
  /**
   * Nonzero = may attend; broadcasts to `[...batch, N, T, S]`. While decoding S is the length of the cache.
   */
  readonly mask?: Tensor;
  /** A query sees no key after its own position; while decoding that is always so. Default false. */
  readonly isCausal?: boolean;
  /** No dropout; default the module's own. */
  readonly deterministic?: boolean;
  /** Dropout keys instead of the constructor's. */
  readonly rngs?: Rngs | RngStream;
  /** Sow the weights `[...batch, N, T, S]`: `pop().attentionWeights`. */
  readonly sowWeights?: boolean;
  /** Append to the cache and attend to it; default the module's own. */
  readonly decode?: boolean;
}

/**
 * Multi-head attention with grouped key/value heads, with Flax's parameters, results and errors. Parameters
 * (f32 by default): `query.kernel` `[D, N, H]`, `key.kernel` and `value.kernel` `[Dkv, K, H]`, `out.kernel`
 * `[N, H, Dout]`, with their biases. docs/semantics.md lists where it differs from Flax 0.12.12.
 *
 * Source: flax/nnx/nn/attention.py (MultiHeadAttention).
 * @example
 * const layer = new MultiHeadAttention({ numHeads: 32, numKeyValueHeads: 8, inFeatures: 512, decode: false, rngs: new Rngs(0) });
 * const y = layer.forward(x, undefined, undefined, { isCausal: true }); // x and y [..., T, 512]
 */
export class MultiHeadAttention extends Module {
  /** kernel `[In, N, H]`, bias `[N, H]` */
  readonly query: LinearGeneral;
  /** kernel `[InKv, K, H]`, bias `[K, H]` */
  readonly key: LinearGeneral;
  /** kernel `[InKv, K, H]`, bias `[K, H]` */
  readonly value: LinearGeneral;
  readonly queryLn: LayerNorm | undefined;
  readonly keyLn: LayerNorm | undefined;
  /** kernel `[N, H, Out]`, bias `[Out]` */
  readonly out: LinearGeneral;
  readonly rope: RoPE | undefined;
  readonly rngs: RngStream | undefined;

  /** `[...batch, maxLength, K, H]` after `initCache`. */
  cachedKey: Cache | undefined = undefined;
  /** `[...batch, maxLength, K, H]` after `initCache`. */
  cachedValue: Cache | undefined = undefined;
  /** Tokens in the cache, an i32 scalar, after `initCache`. */
  cacheIndex: CacheIndex | undefined = undefined;

  readonly numHeads: number;
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  readonly inFeatures: number;
  readonly inKvFeatures: number;
  readonly qkvFeatures: number;
  readonly outFeatures: number;
  readonly dtype: DType | undefined;
  readonly broadcastDropout: boolean;
  readonly dropoutRate: number;
  readonly attentionFn: AttentionFn;
  deterministic: boolean | undefined;
  decode: boolean | undefined;

  /**
   * @throws RangeError unless counts are positive integers, N is a multiple of K, features are a multiple of
   *   N and the dropout rate is in [0, 1).
   */
  constructor(options: MultiHeadAttentionOptions) {
    super();
    checkOptions(OP, options, OPTIONS);
    const { inFeatures, rngs, paramDtype, useBias = true, dropoutRate = 0 } = options;
    const { kernelInit = lecunNormal(), biasInit = zerosInitializer } = options;
    this.numHeads = checkPositiveInteger(OP, 'numHeads', options.numHeads);
    this.inFeatures = checkPositiveInteger(OP, 'inFeatures', inFeatures);
    this.qkvFeatures = checkPositiveInteger(OP, 'qkvFeatures', options.qkvFeatures ?? inFeatures);
    this.outFeatures = checkPositiveInteger(OP, 'outFeatures', options.outFeatures ?? inFeatures);
    this.inKvFeatures = checkPositiveInteger(OP, 'inKvFeatures', options.inKvFeatures ?? inFeatures);
    this.numKeyValueHeads = keyValueHeads(options, this.numHeads);
    this.headDim = this.qkvFeatures / this.numHeads;
    if (!Number.isInteger(this.headDim)) {
      throw new RangeError(
        withFlax(
          `${OP}: expected qkvFeatures to be a multiple of numHeads, got ${this.qkvFeatures} and ${this.numHeads}`,
          `Memory dimension (${this.qkvFeatures}) must be divisible by 'num_heads' heads (${this.numHeads}).`,
        ),
      );
    }
    if (!(dropoutRate >= 0 && dropoutRate < 1)) {
      throw new RangeError(
        withFlax(
          `${OP}: expected 0 <= dropoutRate < 1, got ${dropoutRate}`,
          `dropout_rate must be in the range [0, 1), got ${dropoutRate}.`,
        ),
      );
    }
    this.dtype = options.dtype;
    this.broadcastDropout = options.broadcastDropout ?? true;
    this.dropoutRate = dropoutRate;
    this.deterministic = options.deterministic;
    this.decode = options.decode;
    this.attentionFn = options.attentionFn ?? dotProductAttention;
    if (options.rope !== undefined && !(options.rope instanceof RoPE)) {
      throw new TypeError(`${OP}: expected rope to be a RoPE, got ${describe(options.rope)}`);
    }
    this.rope = options.rope;

    // The order decides the random key of each parameter.
    const shared = { dtype: this.dtype, paramDtype, useBias, rngs };
    const projection = { ...shared, kernelInit, biasInit };
    const keyValue = {
      ...projection,
      inFeatures: this.inKvFeatures,
      outFeatures: [this.numKeyValueHeads, this.headDim],
    };
    this.query = new LinearGeneral({
      ...projection,
      inFeatures,
      outFeatures: [this.numHeads, this.headDim],
    });
    this.key = new LinearGeneral(keyValue);
    this.value = new LinearGeneral(keyValue);
    if (options.normalizeQk) {
      const norm = { numFeatures: this.headDim, useBias: false, dtype: this.dtype, paramDtype, rngs };
      this.queryLn = new LayerNorm(norm);
      this.keyLn = new LayerNorm(norm);
    }
    this.out = new LinearGeneral({
      ...shared,
      inFeatures: [this.numHeads, this.headDim],
      outFeatures: this.outFeatures,
      axis: [-2, -1],
      kernelInit: options.outKernelInit ?? kernelInit,
      biasInit: options.outBiasInit ?? biasInit,
    });
    this.rngs = (options.keepRngs ?? true) && dropoutRate > 0 ? rngs.dropout.fork() : undefined;
  }

  /**
   * @param inputsQ `[...batch, T, inFeatures]`.
   * @param inputsK `[...batch, S, inKvFeatures]`; default `inputsQ`.
   * @param inputsV `[...batch, S, inKvFeatures]`; default `inputsK`.
   * @throws RangeError for invalid shapes and for a full cache, which is then unchanged; TypeError when
   *   `decode` is not set, or with dropout `deterministic` or a key is missing; Error when decoding without a
   *   cache.
   * @returns `[...batch, T, outFeatures]`.
   */
  forward(inputsQ: Tensor, inputsK?: Tensor, inputsV?: Tensor, call: MultiHeadAttentionCall = {}): Tensor {
    checkOptions(OP, call, CALL);
    if (inputsK === undefined && inputsV !== undefined) throw new TypeError(VALUES_WITHOUT_KEYS);
    const keys = inputsK ?? inputsQ;
    const values = inputsV ?? keys;
    commonBackend(OP, inputsQ, keys, values);
    this.#checkWidths(inputsQ, keys, values);
    const decode = call.decode ?? this.decode;
    if (decode === undefined) throw new TypeError(NO_DECODE);
    return scope(() => {
      const dropoutRng = this.#dropoutKey(call);
      let query = this.query.forward(inputsQ);
      let key = this.key.forward(keys);
      const value = this.value.forward(values);
      if (this.queryLn && this.keyLn) {
        query = this.queryLn.forward(query);
        key = this.keyLn.forward(key);
      }
      const position = decode ? this.#cache(key, value).index.count : 0;
      if (this.rope) {
        query = this.rope.rotateHeads(query, position);
        key = this.rope.rotateHeads(key, position);
      }
      const options = {
        dropoutRate: this.dropoutRate,
        dropoutRng,
        broadcastDropout: this.broadcastDropout,
        deterministic: dropoutRng === undefined,
        dtype: this.dtype,
        module: call.sowWeights ? this : undefined,
      };
      const mixed = decode
        ? this.#attendCache(query, key, value, call.mask, options)
        : this.attentionFn(query, key, value, {
            ...options,
            mask: call.mask,
            isCausal: call.isCausal ?? false,
          });
      return this.out.forward(mixed);
    });
  }

  /**
   * Allocates an empty cache.
   * @param inputShape `[...batch, maxLength, features]`, the shape of the inputs of one full sequence.
   * @param dtype of the cached keys and values: f32 (default), f16 or bf16, independent of the computation
   *   dtype.
   */
  initCache(inputShape: readonly number[], dtype: DType = 'f32'): void {
    if (!Array.isArray(inputShape) || inputShape.length < 2) {
      const got = Array.isArray(inputShape) ? shapeText(inputShape) : describe(inputShape);
      throw new RangeError(`initCache: expected [...batch, maxLength, features], got ${got}`);
    }
    const shape = [...inputShape.slice(0, -1), this.numKeyValueHeads, this.headDim];
    for (const old of [this.cachedKey, this.cachedValue, this.cacheIndex]) old?.dispose();
    this.cachedKey = new Cache(zeros(shape, { dtype }));
    this.cachedValue = new Cache(zeros(shape, { dtype }));
    this.cacheIndex = new CacheIndex();
  }

  /** @throws TypeError when only one of `batchSize` and `maxLength` is given. */
  protected override applyView(view: View): void {
    const { batchSize, maxLength } = view;
    if (view.deterministic !== undefined) this.deterministic = view.deterministic;
    if (view.decode !== undefined) this.decode = view.decode;
    if (batchSize === undefined && maxLength === undefined) return;
    if (batchSize === undefined) throw new TypeError(NO_BATCH_SIZE);
    if (maxLength === undefined) throw new TypeError(NO_MAX_LENGTH);
    const cached = this.dtype === 'f16' || this.dtype === 'bf16' ? this.dtype : 'f32';
    this.initCache([batchSize, maxLength, this.inFeatures].flat(), cached);
  }

  #checkWidths(inputsQ: Tensor, inputsK: Tensor, inputsV: Tensor): void {
    if (inputsQ.shape.at(-1) !== this.inFeatures) {
      throw new RangeError(
        `Incompatible input dimension, got ${inputsQ.shape.at(-1)} but module expects ${this.inFeatures}.`,
      );
    }
    for (const [name, { shape }] of [['inputsK', inputsK] as const, ['inputsV', inputsV] as const]) {
      if (shape.at(-1) === this.inKvFeatures) continue;
      throw new RangeError(
        `${OP}: expected ${name} of inKvFeatures=${this.inKvFeatures} features, got ${shape.at(-1)} in ${shapeText(shape)}`,
      );
    }
  }

  /** The key of this call's dropout mask, or undefined without dropout. */
  #dropoutKey(call: MultiHeadAttentionCall): Tensor | undefined {
    if (this.dropoutRate === 0) return undefined;
    const deterministic = call.deterministic ?? this.deterministic;
    if (deterministic === undefined) throw new TypeError(NO_DETERMINISTIC);
    if (deterministic) return undefined;
    const rngs = call.rngs instanceof Rngs ? call.rngs.dropout : (call.rngs ?? this.rngs);
    if (rngs === undefined) throw new TypeError(NO_RNGS);
    return rngs();
  }

  /** The cache, checked to have room for these keys and values. */
  #cache(key: Tensor, value: Tensor): { keys: Tensor; values: Tensor; index: CacheIndex } {
    const { cachedKey, cachedValue, cacheIndex } = this;
    if (!cachedKey || !cachedValue || !cacheIndex) {
      throw new Error(NO_CACHE);
    }
    const T = key.shape.at(-3) as number;
    checkTokens(OP, 'key', cachedKey.value, key, T, cacheIndex.count);
    checkTokens(OP, 'value', cachedValue.value, value, T, cacheIndex.count);
    return { keys: cachedKey.value, values: cachedValue.value, index: cacheIndex };
  }

  #attendCache(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | undefined,
    options: Parameters<AttentionFn>[3],
  ): Tensor {
    const { keys, values, index } = this.#cache(key, value);
    const T = key.shape.at(-3) as number;
    writeTokens(OP, keys, key, index.count);
    writeTokens(OP, values, value, index.count);
    const length = index.count + T;
    // A custom attention function gets what Flax passes: the whole cache and a mask of the filled part.
    const mixed =
      this.attentionFn === dotProductAttention && !options.module
        ? dotProductAttention(query, keys, values, { ...options, mask, cachedLength: length })
        : this.attentionFn(query, keys, values, { ...options, mask: cacheMask(mask, keys, length, T) });
    index.advance(T);
    return mixed;
  }
}

const OPTIONS = optionKinds<MultiHeadAttentionOptions>({
  numHeads: anything,
  numKeyValueHeads: anything,
  numKvHeads: anything,
  inFeatures: anything,
  qkvFeatures: anything,
  outFeatures: anything,
  inKvFeatures: anything,
  dtype: aDType,
  paramDtype: aDType,
  broadcastDropout: aBoolean,
  dropoutRate: aNumber,
  deterministic: aBoolean,
  kernelInit: aFunction,
  outKernelInit: aFunction,
  biasInit: aFunction,
  outBiasInit: aFunction,
  useBias: aBoolean,
  attentionFn: aFunction,
  decode: aBoolean,
  normalizeQk: aBoolean,
  rope: anything,
  keepRngs: aBoolean,
  rngs: anything,
});
const CALL = optionKinds<MultiHeadAttentionCall>({
  mask: checkTensor,
  isCausal: aBoolean,
  deterministic: aBoolean,
  rngs: anything,
  sowWeights: aBoolean,
  decode: aBoolean,
});

/** K, under either of its names. */
function keyValueHeads(options: MultiHeadAttentionOptions, numHeads: number): number {
  const { numKeyValueHeads, numKvHeads } = options;
  if (numKeyValueHeads !== undefined && numKvHeads !== undefined && numKeyValueHeads !== numKvHeads) {
    throw new RangeError(
      `${OP}: expected numKeyValueHeads and numKvHeads to agree, got ${numKeyValueHeads} and ${numKvHeads}`,
    );
  }
  const K = checkPositiveInteger(OP, 'numKeyValueHeads', numKeyValueHeads ?? numKvHeads ?? numHeads);
  if (numHeads % K !== 0) {
    throw new RangeError(
      withFlax(
        `${OP}: expected numHeads to be a multiple of numKeyValueHeads, got ${numHeads} and ${K}`,
        `num_heads (${numHeads}) must be divisible by num_kv_heads (${K}).`,
      ),
    );
  }
  return K;
}
