/** `Model`: a decoder-only language model. */

import { grouped, printAsText } from '../arguments/inspect.ts';
import { aNumber, anything, describe, show } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { MatmulPrecision } from '../backend/calls/call.ts';
import { type BackendHandle, backendOfHandle, handleOf } from '../backend/index.ts';
import type { CacheLayer, KeyValueCache } from '../cache/cache.ts';
import type { Place } from '../files/folder.ts';
import type { StorageType } from '../format/storage-type.ts';
import { mul } from '../ops/binary.ts';
import { checkDropout, type DropoutMask } from '../ops/dropout.ts';
import { embedding } from '../ops/embedding.ts';
import { withMatmulPrecision } from '../ops/matmul-precision.ts';
import { upload } from '../ops/operands.ts';
import { reshape } from '../ops/reshape.ts';
import { scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import { type DecoderOutput, decoderForward, outputHead } from './decoder.ts';
import type { DecoderConfig, DecoderNames } from './decoder-config.ts';
import { makePass, type PassModel } from './decoder-pass.ts';
import type { DecoderWeights } from './decoder-weights.ts';
import { cacheLayers, type InitCacheOptions, makeCache } from './init-cache.ts';
import type { PassDropout } from './pass-dropout.ts';
import type { RopeTable } from './rope-table.ts';
import { batchRows, paddedBatch, type TokenBatch, type Tokens, tokenBatch } from './token-batch.ts';
import { TokenHistory } from './token-history.ts';

/** The parts of a model. The model takes ownership of the weights. */
export interface ModelParts extends PassModel {
  readonly weights: DecoderWeights;
  /** Every tensor of `weights`, to be freed with the model. */
  readonly tensors: readonly Tensor[];
  readonly endTokenIds: readonly number[];
  /** Builds the tokenizer; absent when the checkpoint has none. */
  readonly makeTokenizer?: () => Tokenizer;
  readonly origin: ModelOrigin;
  /** Undefined: the program's. */
  readonly matmulPrecision?: MatmulPrecision;
}

/** What a model was made from, as far as saving it needs that. */
export interface ModelOrigin {
  /** Names of its tensors in `configJson`'s form; for a GGUF file, in that file. */
  readonly names: DecoderNames;
  /** config.json; undefined for a GGUF file. */
  readonly configJson?: Readonly<Record<string, unknown>>;
  /** The checkpoint in Hugging Face's layout; undefined for a GGUF file, and for a model made from a config. */
  readonly place?: Required<Place>;
  /**
   * Stored types of tensors by name, where the model may hold them in a wider one without a change of their
   * numbers.
   */
  readonly dtypes?: ReadonlyMap<string, StorageType>;
  /** Tensors of the checkpoint that are none of the decoder's weights, such as a vision tower's. */
  readonly others?: readonly string[];
}

/**
 * `dropoutRate` and `dropoutKey`, default none, are for training: dropout is applied at the places of
 * nanoGPT, with an independent mask at each.
 */
export interface ForwardOptions extends DropoutMask {
  /** Continues every row behind the tokens it holds, and adds these. */
  readonly cache?: KeyValueCache;
  /** Logits of every token (the default) or of each row's last one. */
  readonly logits?: 'all' | 'last';
}

/** Options of `forward` that also ask for more than logits. */
export interface ForwardOutputOptions<Output extends DecoderOutput> extends ForwardOptions {
  /**
   * `'attentions'`: per layer the softmax weights before dropout, f32 `[B, N, T, S]`, with S the keys of the
   * longest row, those in a cache included (of a window cache those it still holds). `'hiddenStates'`: L + 1
   * tensors f32 `[B, T, D]`, the embedding first, the last one after the final norm. Both are zeros past a
   * row's end. Computed only when named here.
   */
  readonly output: readonly Output[];
}

/** What `forward` returns with an `output`: the logits and, per name, a tensor of each layer. */
export type ForwardOutput<Output extends DecoderOutput> = { readonly logits: Tensor } & {
  readonly [Name in Output]: readonly Tensor[];
};

const FORWARD_OPTIONS = optionKinds<ForwardOptions & Partial<ForwardOutputOptions<DecoderOutput>>>({
  dropoutRate: aNumber,
  dropoutKey: anything,
  cache: anything,
  logits: anything,
  output: anything,
});

const OUTPUTS: readonly DecoderOutput[] = ['attentions', 'hiddenStates'];

interface RunOptions {
  readonly cache?: KeyValueCache;
  readonly dropout?: PassDropout;
  readonly output: readonly DecoderOutput[];
}

/** @throws unless it is a list of known names */
function checkedOutput(output: readonly DecoderOutput[]): readonly DecoderOutput[] {
  if (!Array.isArray(output)) {
    throw new TypeError(`forward: expected output to be a list of names, got ${describe(output)}`);
  }
  const names: readonly DecoderOutput[] = [...output];
  for (const name of names) {
    if (OUTPUTS.includes(name)) continue;
    throw new RangeError(`forward: expected output of 'attentions' and 'hiddenStates', got ${show(name)}`);
  }
  return names;
}

/** Tokens per pass when a row is recomputed; limits the memory of intermediates. */
const REFEED_CHUNK = 512;

/**
 * A decoder-only language model, tokens in, logits out. `loadModel` makes it; `dispose` frees its weights.
 * @example
 * const loaded = await loadModel('SmolLM2-135M-Instruct.Q4_1.gguf');
 * const logits = loaded.forward([[1, 2, 3]], { logits: 'last' }); // [1, 1, V]
 * loaded.dispose();
 */
export class Model {
  readonly config: DecoderConfig;
  /** Where the weights are, and where it runs, whatever the current backend is. */
  readonly backend: BackendHandle;
  /** Tokens after which an answer is over, as the checkpoint says; `generate` stops at them by default. */
  readonly endTokenIds: readonly number[];
  readonly #parts: Omit<ModelParts, 'makeTokenizer'>;
  /** For models whose rotary frequencies depend on the length. */
  readonly #history: TokenHistory | undefined;
  #makeTokenizer: (() => Tokenizer) | undefined;
  #tokenizer: Tokenizer | undefined;
  #disposed = false;

  /** @internal */
  constructor(parts: ModelParts) {
    const { makeTokenizer, ...kept } = parts;
    const backend = backendOfHandle(parts.backend);
    this.#parts = { ...kept, backend };
    this.config = parts.config;
    this.backend = handleOf(backend);
    this.endTokenIds = parts.endTokenIds;
    const changing = [parts.ropeTable, parts.windowRopeTable].filter(
      (table) => table !== undefined && table.switchLength < Number.POSITIVE_INFINITY,
    );
    this.#history = changing.length > 0 ? new TokenHistory(changing as RopeTable[]) : undefined;
    this.#makeTokenizer = makeTokenizer;
  }

  /** The checkpoint's tokenizer, built at first use; undefined when it has none. */
  get tokenizer(): Tokenizer | undefined {
    if (this.#makeTokenizer) {
      this.#tokenizer = this.#makeTokenizer();
      this.#makeTokenizer = undefined;
    }
    return this.#tokenizer;
  }

  /**
   * One pass over the tokens. Its intermediates are freed; the logits are the caller's to dispose.
   *
   * With a cache each row continues at its own length and the cache holds the tokens afterwards; when the
   * pass fails the cache is as it was. A LongRoPE model (Phi-3) whose row crosses its original length feeds
   * the row's tokens again first; one with dynamic NTK scaling does so in every pass that ends past it.
   * @param tokens rows of token ids, which may differ in length, or an i32 tensor `[B, T]`
   * @throws RangeError for an empty row, an id outside of 0 … V - 1, a row beyond the model's context or
   * without room in the cache, a cache of another batch size, or dropout of a rate outside of [0, 1) or with
   * a cache.
   * @returns f32 `[B, T, V]` with T the longest row and zeros past a row's end, or `[B, 1, V]` for `logits:
   * 'last'`; with `output` an object of these `logits` and of what it names, as transformers'
   * `output_attentions` and `output_hidden_states`
   * @example const next = model.forward([[1, 2, 3]], { logits: 'last' }); // [1, 1, V]
   * @example
   * const { attentions, hiddenStates } = model.forward([[1, 2, 3]], { output: ['attentions', 'hiddenStates'] });
   * attentions[0]; // the first layer's weights [1, N, 3, 3]
   */
  forward<Output extends DecoderOutput>(
    tokens: Tokens,
    options: ForwardOutputOptions<Output>,
  ): ForwardOutput<Output>;
  forward(tokens: Tokens, options?: ForwardOptions): Tensor;
  forward(
    tokens: Tokens,
    options: ForwardOptions & { readonly output?: readonly DecoderOutput[] } = {},
  ): Tensor | ForwardOutput<DecoderOutput> | { readonly logits: Tensor } {
    checkOptions('forward', options, FORWARD_OPTIONS);
    const { cache, logits = 'all', output } = options;
    if (logits !== 'all' && logits !== 'last') {
      throw new TypeError(`forward: expected logits to be 'all' or 'last', got ${show(logits)}`);
    }
    const wanted = output === undefined ? [] : checkedOutput(output);
    const dropout = checkDropout('forward', options);
    if (dropout && cache) {
      throw new RangeError(`forward: expected no dropout with a cache, got dropoutRate ${dropout.rate}`);
    }
    const result = this.#run('forward', tokens, { cache, dropout, output: wanted }, (made, batch) => {
      const kept =
        logits === 'last' ? this.#lastTokens(made.hidden, batch) : this.#withoutPadding(made.hidden, batch);
      const scores = outputHead(this.config, this.#parts.weights, kept);
      return {
        // A bias of the head would fill the padding again.
        logits: this.config.biases.head && logits === 'all' ? this.#withoutPadding(scores, batch) : scores,
        attentions: made.attentions,
        hiddenStates: made.hiddenStates.map((x) => this.#withoutPadding(x, batch)),
      };
    });
    if (output === undefined) return result.logits;
    return { logits: result.logits, ...Object.fromEntries(wanted.map((name) => [name, result[name]])) };
  }

  /**
   * What the output head reads: f32 `[B, T, D]`, zeros past a row's end. `op` names the caller in errors.
   * @internal
   */
  lastHiddenState(op: string, tokens: Tokens): Tensor {
    return this.#run(op, tokens, { output: [] }, ({ hidden }, batch) => this.#withoutPadding(hidden, batch));
  }

  /** One pass; `finish` makes the result, and everything else made in the pass is freed. */
  #run<Result>(
    op: string,
    tokens: Tokens,
    { cache, dropout, output }: RunOptions,
    finish: (made: ReturnType<typeof decoderForward>, batch: TokenBatch) => Result,
  ): Result {
    if (this.#disposed) throw new Error(`${op}: the model was disposed`);
    const batch = tokenBatch(op, tokens, this.config.vocabSize);
    const offsets = this.#offsets(op, batch, cache);
    const ends = offsets.map((offset, row) => offset + batch.lengths[row]);
    cache?.reserve(batch.lengths);
    if (cache && this.#history) {
      const history = this.#history;
      withMatmulPrecision(this.#parts.matmulPrecision, () =>
        this.#feedStaleAgain(history, cache, batch, ends),
      );
    }
    const result = withMatmulPrecision(this.#parts.matmulPrecision, () =>
      scope(() => {
        const pass = makePass(this.#parts, batch, { offsets, ends, cache }, dropout);
        return finish(decoderForward(this.config, this.#parts.weights, pass, output), batch);
      }),
    );
    cache?.commit();
    if (cache) this.#history?.append(cache, batchRows(batch), ends);
    return result;
  }

  /**
   * An empty cache for this model, on its backend.
   * @throws RangeError for sizes below 1, or when there is no memory for it.
   */
  initCache(options: InitCacheOptions): KeyValueCache {
    return makeCache(this.config, this.#parts.backend, options);
  }

  /** What each layer keeps per token, for caches made without `initCache`. */
  get cacheLayers(): readonly CacheLayer[] {
    return cacheLayers(this.config);
  }

  /**
   * Whether rows of both lengths rotate by the same frequencies. Tokens of one pass are computed with those of
   * the row's last one.
   * @internal
   */
  sameFrequencies(length: number, other: number): boolean {
    return this.#history?.sameFrequencies(length, other) ?? true;
  }

  /** Its family, sizes, parameters and bytes. */
  toString(): string {
    const { modelType, numLayers, hiddenSize, numHeads, numKeyValueHeads, vocabSize } = this.config;
    const sizes = `${numLayers} layers, hiddenSize ${hiddenSize}, ${numHeads} heads, ${numKeyValueHeads} key/value heads, vocabSize ${vocabSize}`;
    const head = `${this.constructor.name} ${modelType} (${sizes})`;
    if (this.#disposed) return `${head} (disposed)`;
    let [parameters, bytes] = [0, 0];
    for (const { size, byteLength } of this.#parts.tensors) {
      parameters += size;
      bytes += byteLength;
    }
    return `${head}: ${grouped(parameters)} parameters, ${grouped(bytes)} bytes, on ${this.backend.name}`;
  }

  static {
    printAsText(Model);
  }

  /** What the model is made of, for `saveModel`. @internal @throws Error when it was disposed */
  get parts(): Omit<ModelParts, 'makeTokenizer'> {
    if (this.#disposed) throw new Error('saveModel: the model was disposed');
    return this.#parts;
  }

  /** Frees the weights. Safe to call twice; `forward` throws afterwards. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const tensor of this.#parts.tensors) tensor.dispose();
  }

  /**
   * The position of each row's first token.
   * @throws RangeError when a row does not fit into the cache's or the model's limits.
   */
  #offsets(op: string, batch: TokenBatch, cache: KeyValueCache | undefined): readonly number[] {
    const { maxPositionEmbeddings: context } = this.config;
    const numLayers = cacheLayers(this.config).length;
    if (cache && (cache.batchSize !== batch.batchSize || cache.numLayers !== numLayers)) {
      throw new RangeError(
        `${op}: expected a cache of ${batch.batchSize} rows and ${numLayers} layers, got ${cache.batchSize} rows and ${cache.numLayers} layers`,
      );
    }
    const offsets = cache?.lengths ?? new Array<number>(batch.batchSize).fill(0);
    for (let row = 0; row < offsets.length; row++) {
      const end = offsets[row] + batch.lengths[row];
      if (end > context) {
        throw new RangeError(
          `${op}: expected rows within the model's context of ${context} tokens, got ${end} in row ${row}`,
        );
      }
    }
    return offsets;
  }

  /**
   * Rows that cross the boundary between two sets of rotary frequencies are computed again, with the other
   * set.
   */
  #feedStaleAgain(
    history: TokenHistory,
    cache: KeyValueCache,
    batch: TokenBatch,
    ends: readonly number[],
  ): void {
    const rows = history.takeStale(cache, ends);
    const longest = Math.max(...rows.map((row) => row.length));
    for (let at = 0; at < longest; at += REFEED_CHUNK) {
      const chunk = rows.map((row) => row.slice(at, at + REFEED_CHUNK));
      const part = paddedBatch(chunk);
      const offsets = cache.lengths;
      cache.reserve(part.lengths);
      scope(() => {
        decoderForward(
          this.config,
          this.#parts.weights,
          makePass(this.#parts, part, { offsets, ends, cache }),
        );
      });
      cache.commit();
      history.append(cache, chunk, ends);
    }
    if (longest > 0) cache.reserve(batch.lengths);
  }

  /** `[B, T, D] -> [B, 1, D]`: each row's own last token. */
  #lastTokens(hidden: Tensor, { batchSize: B, length: T, lengths }: TokenBatch): Tensor {
    if (T === 1) return hidden;
    const D = this.config.hiddenSize;
    const last = Int32Array.from(lengths, (length, row) => row * T + length - 1);
    return embedding(reshape(hidden, [B * T, D]), upload(this.#parts.backend, 'i32', last, [B, 1]));
  }

  /** Sets values past each row's end to zero, which the head maps to zero. */
  #withoutPadding(hidden: Tensor, { batchSize: B, length: T, lengths }: TokenBatch): Tensor {
    if (lengths.every((length) => length === T)) return hidden;
    const mask = Float32Array.from({ length: B * T }, (_, i) => (i % T < lengths[Math.floor(i / T)] ? 1 : 0));
    return mul(hidden, upload(this.#parts.backend, 'f32', mask, [B, T, 1]));
  }
}
