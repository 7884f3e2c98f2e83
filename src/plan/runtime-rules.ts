/**
 * How runtimes part from the plain sum: which layers they let slide, how they round tokens up, which heads they keep.
 * [run] was compared with what the runtime itself reports; [read] was only read in its source.
 */

import { familyFacts } from '../format/families.ts';
import type { LayerShape, ModelShape } from '../format/shape-types.ts';
import type { StorageType } from '../format/storage-type.ts';
import { storageLayout } from '../format/storage-type.ts';
import { type KeyValueTypes, rowBytes } from './kv-dtype.ts';

/**
 * Whose cache is planned: `exact` is this package's own caches, to the byte; the others follow how that program allocates
 * (windows, block sizes, replicated heads).
 */
export type Runtime = 'exact' | 'llama.cpp' | 'vllm' | 'transformers';
export const RUNTIMES: readonly Runtime[] = ['exact', 'llama.cpp', 'vllm', 'transformers'];

/** What the rules look at besides the layer. */
export interface RuleOptions {
  readonly contextLength: number;
  /** Tokens of a block; undefined = the runtime's default. */
  readonly blockSize: number | undefined;
  /** Most new tokens in one pass; undefined = the runtime's default. */
  readonly batchTokens: number | undefined;
}

export interface RuntimeRules {
  /** Cells allocated per sequence for a full or latent layer. */
  tokens(options: RuleOptions): number;
  /** Cells allocated per sequence for a layer that slides over `window` tokens. */
  slidingTokens(options: RuleOptions, window: number): number;
  /** False when the runtime keeps every token of this model's sliding layers. */
  slides(shape: ModelShape): boolean;
  /** K as cached. */
  cachedHeads(shape: ModelShape, layer: LayerShape): number;
  /** Whether the layer is cached as expanded heads, although it has latent rows. */
  expands(layer: LayerShape): boolean;
  /** Bytes per token of the key that a sparse layer's indexer caches, on every rank. */
  indexBytes(layer: LayerShape, types: KeyValueTypes): number;
  /** @throws RangeError when the runtime has no such cache */
  checkType(type: StorageType, headDim: number): void;
  /** Whether tensor-parallel ranks are modelled. */
  readonly tensorParallel: boolean;
}

const roundUp = (tokens: number, step: number) => Math.ceil(tokens / step) * step;
const ownHeads = (_: ModelShape, layer: LayerShape) => layer.numKeyValueHeads;
const never = () => false;
const indexRow = ({ indexKeyDim = 0 }: LayerShape, { key }: KeyValueTypes) => rowBytes(key, indexKeyDim, 1);
const PLAIN: readonly StorageType[] = ['f32', 'f16', 'bf16'];

function plainOnly(runtime: string, types: readonly StorageType[]): (type: StorageType) => void {
  return (type) => {
    if (!types.includes(type))
      throw new RangeError(`${runtime}: expected kvDtype ${types.join(', ')}, got ${type}`);
  };
}

/**
 * This library's caches [run: test/plan/exact.test.ts]: a full layer holds `contextLength` tokens, a sliding one
 * min(contextLength, window); in blocks (a paged cache) every layer holds whole blocks and no layer slides.
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
  tensorParallel: true,
};

/**
 * llama.cpp with flash attention and one stream per sequence (kv_unified off).
 * - Cells of a sequence are padded to 256: llama-context.cpp `n_ctx_seq = GGML_PAD(n_ctx_seq, 256)` [run: node-llama-cpp
 *   3.22.1 on SmolLM2-135M, contexts 700, 1000, 1024 and 2048, one to three sequences, f32, f16, q8_0 and K apart from V].
 * - Sliding layers hold pad(min(cells, n_swa + n_ubatch), 256): llama-kv-cache-iswa.cpp; n_ubatch is 512 by default [read].
 *   Before issue 17037 (November 2025) they were padded to 32 or 256 with n_pad.
 * - Only architectures whose loader sets a swa_type slide: src/models/*.cpp. Mistral, Phi-3, StarCoder2 and Qwen do not, and
 *   of EXAONE 4 only the one with 64 layers does [read: the sources in llama-cpp-python 0.3.36, as what follows].
 * - MLA caches one row (rank + rope) and no V, but only where the file has key_length_mla: hparams.is_mla, llama-kv-cache.cpp
 *   `has_v = !is_mla`. Without it, as in files of before April 2025, it caches the expanded K and V of every head.
 * - An indexer's keys have a cache of their own, of the same type (llama-kv-cache-dsa.cpp); beside plain heads (MiniMax M3,
 *   llama-kv-cache-msa.cpp) that cache has a row of values too, which nothing reads.
 * - Block types must divide the head dim: "K cache type q8_0 with block size 32 does not divide n_embd_head_k" [read].
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
  tensorParallel: false,
};

/**
 * vLLM, V1 engine [read; never run here].
 * - Blocks of 16 tokens; a full layer takes ceil(tokens / 16) of them: v1/kv_cache_interface.py FullAttentionSpec.
 * - A sliding layer is admitted with ceil(min(window - 1 + max_num_batched_tokens, tokens) / 16) + 1 blocks:
 *   SlidingWindowSpec.max_memory_usage_bytes; max_num_batched_tokens is 2048 in SchedulerConfig (servers choose more).
 *   With the hybrid manager off, or layers whose pages cannot be made equal, sliding layers are kept whole.
 * - MLA caches one latent row per token on every rank: MLAAttentionSpec, ModelConfig.get_num_kv_heads returns 1.
 * - An indexer's keys (DeepSeek V3.2, GLM) are in fp8 whatever the type of the cache, with one f32 scale per 128 values: 132 bytes
 *   for 128 dims, on every rank: DeepseekV32IndexerCache.
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
  tensorParallel: true,
};

/**
 * transformers' DynamicCache, as it is between two steps (during one, torch.cat holds a layer twice) [read: cache_utils.py of
 * 4.57.1 and 5.23.0; the latent and Falcon rules from research that compared both versions].
 * - It grows by cat, so it has exactly the tokens seen; DynamicSlidingWindowLayer keeps the last window - 1.
 * - 5.23.0 caches MLA's latent row; up to 4.57.1 it cached the expanded heads (DeepSeek-V3: 71 times as much).
 * - An indexer's keys are one more tensor of the cache, in its type: DynamicIndexedLayer.
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
  tensorParallel: false,
};

export const RULES: Readonly<Record<Runtime, RuntimeRules>> = {
  exact,
  'llama.cpp': llamaCpp,
  vllm,
  transformers,
};
