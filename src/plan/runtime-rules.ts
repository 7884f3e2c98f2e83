/**
 * The options of a plan, and how each runtime allocates its cache: which layers slide, how tokens are rounded
 * up, which heads are cached. [run]: compared with what the runtime reports; [read]: only read in its source.
 */
import { anything, checkPositiveInteger } from '../arguments/kinds.ts';
import type { OptionKinds } from '../arguments/options.ts';
import { familyFacts } from '../format/families.ts';
import type { LayerShape, ModelShape } from '../format/shape-types.ts';
import { type StorageType, storageLayout } from '../format/storage-type.ts';
import { type KeyValueTypes, type KvDtype, rowBytes } from './kv-dtype.ts';

/**
 * The program whose cache is planned. `exact` is this library, to the byte; the others follow that program's
 * windows, block sizes and copied heads.
 */
export type Runtime = 'exact' | 'llama.cpp' | 'vllm' | 'transformers';
export const RUNTIMES: readonly Runtime[] = ['exact', 'llama.cpp', 'vllm', 'transformers'];

/** Options of `planKvCache`. */
export interface PlanOptions {
  /** Tokens per sequence; default the model's own context. */
  readonly contextLength?: number;
  /** Sequences; default 1. */
  readonly batchSize?: number;
  /** Default `f16`. */
  readonly kvDtype?: KvDtype;
  /**
   * K of every layer, a divisor of N, in place of its own; latent (MLA) layers then cache K expanded heads.
   */
  readonly numKeyValueHeads?: number;
  /** The program whose cache is planned; default `exact`, this library. */
  readonly runtime?: Runtime;
  /** Ranks that the heads are split over, for `exact` and `vllm`; more ranks than K copy heads. Default 1. */
  readonly tensorParallelSize?: number;
  /** Tokens of a block: of vLLM (default 16), or of a paged cache of `exact` (default: not paged). */
  readonly blockSize?: number;
  /**
   * Most new tokens of a pass: llama.cpp's n_ubatch (default 512), vLLM's max_num_batched_tokens (default
   * 2048), the chunk of a prompt of `exact` (default 256), which its cache does not depend on.
   */
  readonly batchTokens?: number;
}

/** `planKvCache` checks the others. */
export const PLAN_KINDS: OptionKinds<PlanOptions> = {
  contextLength: checkPositiveInteger,
  batchSize: checkPositiveInteger,
  kvDtype: anything,
  numKeyValueHeads: checkPositiveInteger,
  runtime: anything,
  tensorParallelSize: checkPositiveInteger,
  blockSize: checkPositiveInteger,
  batchTokens: checkPositiveInteger,
};

/** The options of a plan whose context is known. */
type Sized = PlanOptions & { readonly contextLength: number };

export interface RuntimeRules {
  /** Cells allocated per sequence for a full or latent layer. */
  tokens(options: Sized): number;
  /** Cells allocated per sequence for a layer that slides over `window` tokens. */
  slidingTokens(options: Sized, window: number): number;
  /** False when the runtime caches every token of this model's sliding layers. */
  slides(shape: ModelShape): boolean;
  /** K as cached. */
  cachedHeads(shape: ModelShape, layer: LayerShape): number;
  /** Whether expanded heads are cached for a layer with latent rows. */
  expands(layer: LayerShape): boolean;
  /** Bytes per token and rank of the key that the indexer of sparse attention caches. */
  indexBytes(layer: LayerShape, types: KeyValueTypes): number;
  /** @throws RangeError for a type that the runtime cannot cache */
  checkType(type: StorageType, headDim: number): void;
  /** Whether it has blocks of `blockSize` tokens. */
  readonly blocks: boolean;
  /** Whether `tensorParallelSize` may be above 1. */
  readonly tensorParallel: boolean;
}

const roundUp = (tokens: number, step: number) => Math.ceil(tokens / step) * step;
const ownHeads = (_: ModelShape, layer: LayerShape) => layer.numKeyValueHeads;
const never = () => false;
const indexRow = ({ indexKeyDim = 0 }: LayerShape, { key }: KeyValueTypes) => rowBytes(key, indexKeyDim, 1);
const PLAIN: readonly StorageType[] = ['f32', 'f16', 'bf16'];

function plainOnly(runtime: string, types: readonly StorageType[]): (type: StorageType) => void {
  return (type) => {
    if (types.includes(type)) return;
    throw new RangeError(`${runtime}: expected kvDtype ${types.join(', ')}, got ${type}`);
  };
}

/**
 * This library's caches [run: test/plan/exact.test.ts]: a full layer holds `contextLength` tokens, a sliding
 * one min(contextLength, window); in blocks (a paged cache) every layer holds whole blocks and no layer
 * slides.
 */
const exact: RuntimeRules = {
  tokens: ({ contextLength, blockSize = 1 }) => roundUp(contextLength, blockSize),
  slidingTokens: ({ contextLength, blockSize }, window) =>
    blockSize === undefined ? Math.min(contextLength, window) : roundUp(contextLength, blockSize),
  slides: () => true,
  cachedHeads: ownHeads,
  expands: never,
  indexBytes: indexRow,
  checkType() {},
  blocks: true,
  tensorParallel: true,
};

/**
 * llama.cpp with flash attention and one stream per sequence (kv_unified off).
 * - Cells of a sequence are padded to 256: llama-context.cpp `n_ctx_seq = GGML_PAD(n_ctx_seq, 256)` [run:
 *   node-llama-cpp 3.22.1 on SmolLM2-135M, contexts 700, 1000, 1024 and 2048, one to three sequences, f32,
 *   f16, q8_0 and K apart from V].
 * - Sliding layers hold pad(min(cells, n_swa + n_ubatch), 256): llama-kv-cache-iswa.cpp; n_ubatch is 512 by
 *   default [read]. Before its issue 17037 (November 2025) they were padded to 32 or 256 with n_pad.
 * - Only architectures whose loader sets a swa_type slide: src/models/*.cpp. Mistral, Phi-3, StarCoder2 and
 *   Qwen do not; EXAONE 4 does with 64 layers [read: the sources in llama-cpp-python 0.3.36, also for the
 *   points below].
 * - MLA caches one row (rank + rope) and no V, but only where the file has key_length_mla: hparams.is_mla,
 *   llama-kv-cache.cpp `has_v = !is_mla`. For files without it, older than April 2025, it caches the expanded
 *   K and V of every head.
 * - The keys of an indexer are in a separate cache of the same type (llama-kv-cache-dsa.cpp). Besides plain
 *   heads (MiniMax M3, llama-kv-cache-msa.cpp) that cache also allocates a row of values, which is not used.
 * - Block types must divide the head dim: "K cache type q8_0 with block size 32 does not divide
 *   n_embd_head_k" [read].
 */
const llamaCpp: RuntimeRules = {
  tokens: ({ contextLength }) => roundUp(contextLength, 256),
  slidingTokens: ({ contextLength, batchTokens = 512 }, window) =>
    roundUp(Math.min(roundUp(contextLength, 256), window + batchTokens), 256),
  slides({ modelType, numLayers }) {
    const { slidesInLlamaCpp } = familyFacts(modelType);
    return slidesInLlamaCpp === true || slidesInLlamaCpp === numLayers;
  },
  cachedHeads: ownHeads,
  expands: ({ latent }) => latent?.expandedInLlamaCpp === true,
  indexBytes: (layer, types) =>
    indexRow(layer, types) + (layer.latent === undefined ? rowBytes(types.value, layer.valueHeadDim, 1) : 0),
  checkType(type, headDim) {
    const { blockLength } = storageLayout(type);
    if (headDim % blockLength !== 0) {
      throw new RangeError(
        `llama.cpp: expected a head dim in whole ${type} blocks of ${blockLength}, got H=${headDim}`,
      );
    }
  },
  blocks: false,
  tensorParallel: false,
};

/**
 * vLLM, V1 engine [read; never run here].
 * - Blocks of 16 tokens; a full layer takes ceil(tokens / 16) of them: v1/kv_cache_interface.py
 *   FullAttentionSpec.
 * - A sliding layer is admitted with ceil(min(window - 1 + max_num_batched_tokens, tokens) / 16) + 1 blocks:
 *   SlidingWindowSpec.max_memory_usage_bytes; max_num_batched_tokens is 2048 in SchedulerConfig (servers
 *   choose more). With the hybrid manager off, or layers whose pages cannot be made equal, sliding layers are
 *   kept whole.
 * - MLA caches one latent row per token on every rank: MLAAttentionSpec, ModelConfig.get_num_kv_heads returns
 *   1.
 * - The keys of an indexer (DeepSeek V3.2, GLM) are in fp8 whatever the type of the cache, with one f32 scale
 *   per 128 values: 132 bytes for 128 dims, on every rank: DeepseekV32IndexerCache.
 * - K heads per rank are max(1, K / ranks): ModelConfig.get_num_kv_heads; past K ranks the heads are copied.
 */
const vllm: RuntimeRules = {
  tokens: ({ contextLength, blockSize = 16 }) => roundUp(contextLength, blockSize),
  slidingTokens: ({ contextLength, blockSize = 16, batchTokens = 2048 }, window) =>
    roundUp(Math.min(window - 1 + batchTokens, contextLength), blockSize) + blockSize,
  slides: () => true,
  cachedHeads: ownHeads,
  expands: never,
  indexBytes: ({ indexKeyDim = 0 }) => indexKeyDim + 4 * Math.floor(indexKeyDim / 128),
  checkType: plainOnly('vllm', [...PLAIN, 'f8_e4m3', 'f8_e5m2']),
  blocks: true,
  tensorParallel: true,
};

/**
 * transformers' DynamicCache between two steps; during a step torch.cat holds a layer twice. [read:
 * cache_utils.py of 4.57.1 and 5.23.0]
 * - It grows by torch.cat, so it holds exactly the tokens seen; DynamicSlidingWindowLayer keeps the last
 *   window - 1.
 * - 5.23.0 caches MLA's latent row; up to 4.57.1 it cached the expanded heads (DeepSeek-V3: 71 times as
 *   much).
 * - The keys of an indexer are one more tensor of the cache, of its type: DynamicIndexedLayer.
 * - Falcon with the new decoder architecture broadcasts K and V to all N heads before it caches them.
 */
const transformers: RuntimeRules = {
  tokens: ({ contextLength }) => contextLength,
  slidingTokens: ({ contextLength }, window) => Math.min(contextLength, window - 1),
  slides: () => true,
  cachedHeads: ({ modelType, numHeads }, { numKeyValueHeads: K }) =>
    K > 1 && familyFacts(modelType).cachesAllHeads === true ? numHeads : K,
  expands: never,
  indexBytes: indexRow,
  checkType: plainOnly('transformers', PLAIN),
  blocks: false,
  tensorParallel: false,
};

export const RULES: Readonly<Record<Runtime, RuntimeRules>> = {
  exact,
  'llama.cpp': llamaCpp,
  vllm,
  transformers,
};
