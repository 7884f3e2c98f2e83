/**
 * The memory of a model that runs: weights, KV cache and activations. Each part says what it rests on.
 */
import { aNumber, anything, checkInteger, checkObject } from '../arguments/kinds.ts';
import { checkOptions, type OptionKinds, optionKinds } from '../arguments/options.ts';
import { MIXTURE_TYPES } from '../format/gguf-mixture.ts';
import { STORAGE_TYPES, type StorageType } from '../format/storage-type.ts';
import { activationBytes, DECODE_ROWS, PREFILL_CHUNK } from './activations.ts';
import { maxBatch, maxContext } from './budget.ts';
import { countWeights } from './count-weights.ts';
import { type KvCachePlan, planKvCache } from './plan-kv-cache.ts';
import { PLAN_KINDS, type PlanOptions, type Runtime } from './runtime-rules.ts';
import { type PlanSource, shapeOf } from './shape-of.ts';
import type { WeightGroup } from './weights.ts';

/** Tokens of a prompt that a runtime takes at once by default; transformers takes all. */
const CHUNK: Readonly<Record<Runtime, number>> = {
  exact: PREFILL_CHUNK,
  'llama.cpp': 512,
  vllm: 2048,
  transformers: Number.POSITIVE_INFINITY,
};

/** Options of `planMemory`; `batchTokens` is the chunk of a prompt, of this library by default 256. */
export interface MemoryOptions extends PlanOptions {
  /**
   * The weights as `readModelWeights` gives them, or the storage type of weights that are counted from the
   * shape; default `bf16`. `q8_0`, `q6_k`, `q4_k` and `q4_0` are the mixtures that llama.cpp and `gqa quantize`
   * write under these names, with more bits in some matrices; any other type is that of all matrices.
   */
  readonly weights?: StorageType | readonly WeightGroup[];
}

export const MEMORY_KINDS: OptionKinds<MemoryOptions> = { ...PLAN_KINDS, weights: anything };
const OPTIONS = optionKinds<MemoryOptions>(MEMORY_KINDS);

/** Memory of a model, in bytes over all ranks. Frozen. */
export interface MemoryPlan {
  readonly weights: {
    readonly bytes: number;
    readonly parameters: number;
    readonly groups: readonly WeightGroup[];
    /** What the figure rests on. */
    readonly basis: string;
  };
  readonly kvCache: KvCachePlan;
  readonly activations: {
    readonly bytes: number;
    /** Tokens of a prompt's chunk. */
    readonly tokens: number;
    readonly basis: string;
  };
  /** Weights, KV cache and activations; not the program itself. */
  readonly totalBytes: number;
  /** `totalBytes` divided by `tensorParallelSize`. */
  readonly bytesPerRank: number;
}

/**
 * Plans the memory of a model: weights, KV cache and the activations of a prompt's chunk.
 * @param source as for `planKvCache`
 * @param options as for `planKvCache`, and the weights
 * @throws as `planKvCache`; RangeError for an unknown storage type of weights, for weights to be counted from a
 * shape without the sizes of vocabulary or feed-forward layers, and for 2^53 bytes or more; TypeError or
 * RangeError for groups of weights without counts
 * @example planMemory('llama-3-8b', { contextLength: 8192, weights: 'q4_k' }).totalBytes;
 */
export function planMemory(source: PlanSource, options: MemoryOptions = {}): MemoryPlan {
  checkOptions('planMemory', options, OPTIONS);
  const { weights: given = 'bf16', ...rest } = options;
  const shape = shapeOf(source);
  const kvCache = planKvCache(shape, rest);
  const groups = typeof given === 'string' ? countWeights(shape, checkedType(given)) : checkedGroups(given);
  const sum = (size: 'bytes' | 'parameters') => groups.reduce((total, group) => total + group[size], 0);
  const ranks = options.tensorParallelSize ?? 1;
  const tokens = Math.min(options.batchTokens ?? CHUNK[options.runtime ?? 'exact'], kvCache.contextLength);
  const activations = ranks * activationBytes(shape, tokens, Math.min(kvCache.batchSize, DECODE_ROWS));
  const totalBytes = sum('bytes') + kvCache.totalBytes + activations;
  for (const [name, value] of Object.entries({ bytes: totalBytes, parameters: sum('parameters') })) {
    if (Number.isSafeInteger(value)) continue;
    throw new RangeError(`planMemory: expected fewer than 2^53 ${name}, got about ${value.toExponential(3)}`);
  }
  const other =
    options.runtime === undefined || options.runtime === 'exact' ? '' : `, as this library computes`;
  return Object.freeze({
    weights: Object.freeze({
      bytes: sum('bytes'),
      parameters: sum('parameters'),
      groups,
      basis: typeof given === 'string' ? countedBasis(given) : 'tensors in the files',
    }),
    kvCache: Object.freeze(kvCache),
    activations: Object.freeze({
      bytes: activations,
      tokens,
      basis: `one layer's tensors in f32 for ${tokens} tokens${other}`,
    }),
    totalBytes,
    bytesPerRank: totalBytes / ranks,
  });
}

function countedBasis(type: StorageType): string {
  const types = MIXTURE_TYPES.includes(type) ? `llama.cpp's ${type} mixture` : `all as ${type}`;
  return `sizes of the config, ${types}, without biases`;
}

/** What fits into a memory, weights and activations included. */
export interface MemoryFit {
  /** Tokens per sequence, 0 when not even one fits; Infinity when every layer slides and all windows fit. */
  readonly maxContext: number;
  /** Sequences of `contextLength` tokens. */
  readonly maxBatch: number;
}

/**
 * The longest context (with `batchSize` sequences) and the most sequences (of `contextLength` tokens) that fit
 * into a memory with the weights and activations.
 * @param memoryBytes of all ranks together
 * @throws as `planMemory`
 * @example fitMemory('llama-3-8b', 24 * 2 ** 30, { contextLength: 8192, weights: 'q8_0' }).maxBatch;
 */
export function fitMemory(source: PlanSource, memoryBytes: number, options: MemoryOptions = {}): MemoryFit {
  aNumber('fitMemory', 'memoryBytes', memoryBytes);
  checkOptions('fitMemory', options, OPTIONS);
  const shape = shapeOf(source);
  const { weights: _, contextLength, batchSize, ...rest } = options;
  const leftFor = (rows: number | undefined) => {
    const { totalBytes, kvCache } = planMemory(shape, { ...options, batchSize: rows });
    return memoryBytes - (totalBytes - kvCache.totalBytes);
  };
  const least = planKvCache(shape, { ...rest, contextLength: 1 }).totalBytes;
  const context = leftFor(batchSize);
  const fitsOne = context >= least * (batchSize ?? 1);
  // More rows need more activations, up to those of one decoding pass.
  const few = leftFor(1);
  const rows = few < least ? 0 : maxBatch(shape, few, { ...rest, contextLength });
  const many = leftFor(Math.max(1, Math.min(rows, DECODE_ROWS)));
  return Object.freeze({
    maxContext: fitsOne ? maxContext(shape, context, { ...rest, batchSize }) : 0,
    maxBatch: many < least ? 0 : maxBatch(shape, many, { ...rest, contextLength }),
  });
}

function checkedGroups(groups: readonly WeightGroup[]): readonly WeightGroup[] {
  const what = 'weights to be a storage type or a list of groups';
  checkObject('planMemory', what, groups);
  if (!Array.isArray(groups)) throw new TypeError(`planMemory: expected ${what}, got an object`);
  groups.forEach((group: WeightGroup, i) => {
    checkObject('planMemory', `weights[${i}] to be a group`, group);
    for (const name of ['parameters', 'bytes'] as const) {
      checkInteger('planMemory', `weights[${i}].${name}`, group[name], 0);
    }
  });
  return groups;
}

function checkedType(type: StorageType): StorageType {
  if (STORAGE_TYPES.includes(type)) return type;
  throw new RangeError(
    `planMemory: expected weights to be one of ${STORAGE_TYPES.join(', ')}, got ${String(type)}`,
  );
}
