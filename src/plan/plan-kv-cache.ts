/**
 * The size of a model's KV cache, layer by layer. Pure arithmetic:
 *
 *   bytes of a layer = cached tokens x K x (bytes of a key head + bytes of a value head),
 *     or cached tokens x bytes of the latent row
 *
 * where tokens, K and the rounding follow the runtime's rules (runtime-rules.ts).
 */

import { checkPositiveInteger } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { LayerKind, LayerShape, ModelShape } from '../format/shape-types.ts';
import { type KeyValueTypes, keyValueTypes, rowBytes } from './kv-dtype.ts';
import { PLAN_KINDS, type PlanOptions, RULES, RUNTIMES, type RuntimeRules } from './runtime-rules.ts';
import { type PlanSource, shapeOf } from './shape-of.ts';

const OPTIONS = optionKinds<PlanOptions>(PLAN_KINDS);

/** The cache of one layer. */
export interface LayerPlan {
  /** What the layer caches. */
  readonly kind: LayerKind;
  /** Cells allocated per sequence. */
  readonly tokens: number;
  /** Per sequence. */
  readonly bytes: number;
}

/** The size of a KV cache, in bytes. */
export interface KvCachePlan {
  /** Growth per token of one sequence over all layers, windows ignored. */
  readonly bytesPerToken: number;
  /** One sequence of `contextLength` tokens, with windows. */
  readonly bytesPerSequence: number;
  /** `batchSize * bytesPerSequence`, over all ranks. */
  readonly totalBytes: number;
  /** One per decoder layer, in order. */
  readonly layers: readonly LayerPlan[];
  /** Tokens per sequence. */
  readonly contextLength: number;
  /** Sequences. */
  readonly batchSize: number;
  /**
   * Such as a context longer than the model's, or unknown keys about attention, with which sizes may be
   * wrong.
   */
  readonly warnings: readonly string[];
}

/**
 * Plans a KV cache.
 * @param source a model's shape (`readModelShape`), a parsed config.json, or a preset's id such as
 *   `llama-3-8b`
 * @throws RangeError for an unknown preset, a size that is not a positive integer, a K that does not divide
 *   N, a dtype or option that the runtime does not have; TypeError for a size that is no number; FormatError
 *   for a config without heads
 * @returns bytes; the fixed-size states of linear layers are not counted
 * @example planKvCache('llama-3-8b', { contextLength: 8192, kvDtype: 'f16' }).totalBytes // 1073741824
 */
export function planKvCache(source: PlanSource, options: PlanOptions = {}): KvCachePlan {
  checkOptions('planKvCache', options, OPTIONS);
  const shape = shapeOf(source);
  const { batchSize = 1, kvDtype = 'f16', runtime = 'exact', tensorParallelSize: ranks = 1 } = options;
  const contextLength = options.contextLength ?? shape.maxPositionEmbeddings;
  if (contextLength === undefined) {
    throw new RangeError('planKvCache: expected contextLength, since the model states none');
  }
  checkPositiveInteger('planKvCache', 'contextLength', contextLength);
  const rules = RULES[runtime];
  if (rules === undefined) {
    throw new RangeError(`planKvCache: expected runtime ${RUNTIMES.join(', ')}, got ${String(runtime)}`);
  }
  if (ranks > 1 && !rules.tensorParallel) {
    throw new RangeError(`planKvCache: expected tensorParallelSize 1 for ${runtime}, got ${ranks}`);
  }
  if (options.blockSize !== undefined && !rules.blocks) {
    throw new RangeError(
      `planKvCache: expected blockSize with runtime exact or vllm, got ${options.blockSize} with ${runtime}`,
    );
  }
  const types = keyValueTypes(kvDtype);
  const sized = { ...options, contextLength };
  const slides = rules.slides(shape);
  let bytesPerToken = 0;
  let bytesPerSequence = 0;
  const layers = shape.layers.map((own): LayerPlan => {
    const layer =
      options.numKeyValueHeads === undefined ? own : withHeads(shape, own, options.numKeyValueHeads);
    const perToken = layerBytes(shape, layer, types, rules, ranks);
    const window = slides ? layer.window : undefined;
    const cells = window === undefined ? rules.tokens(sized) : rules.slidingTokens(sized, window);
    const tokens = layer.kind === 'linear' || layer.kind === 'shared' ? 0 : cells;
    bytesPerToken += perToken;
    bytesPerSequence += perToken * tokens;
    return { kind: layer.kind, tokens, bytes: perToken * tokens };
  });
  const totalBytes = batchSize * bytesPerSequence;
  if (!Number.isSafeInteger(totalBytes)) {
    throw new RangeError(
      `planKvCache: expected fewer than 2^53 bytes, got about ${totalBytes.toExponential(3)}`,
    );
  }
  const warnings = warningsOf(shape, contextLength, layers);
  return { bytesPerToken, bytesPerSequence, totalBytes, layers, contextLength, batchSize, warnings };
}

function withHeads(shape: ModelShape, layer: LayerShape, K: number): LayerShape {
  if (layer.kind === 'linear' || layer.kind === 'shared') return layer;
  // The largest N means multi-head attention in every layer, also where one has fewer heads.
  const N = layer.numHeads ?? shape.numHeads;
  const heads = K === shape.numHeads ? N : K;
  if (N % heads !== 0) {
    throw new RangeError(
      `planKvCache: expected numKeyValueHeads to divide the query heads N=${N}, got K=${K}`,
    );
  }
  if (layer.latent === undefined) return { ...layer, numKeyValueHeads: heads };
  const { latent: _, indexKeyDim: __, ...plain } = layer;
  return { ...plain, kind: layer.kind === 'latent' ? 'full' : layer.kind, numKeyValueHeads: heads };
}

/** Bytes per token of one layer, over all ranks. */
function layerBytes(
  shape: ModelShape,
  layer: LayerShape,
  types: KeyValueTypes,
  rules: RuntimeRules,
  ranks: number,
): number {
  if (layer.kind === 'linear' || layer.kind === 'shared') return 0;
  const index = layer.indexKeyDim === undefined ? 0 : ranks * rules.indexBytes(layer, types);
  if (layer.indexKeyDim !== undefined) rules.checkType(types.key, layer.indexKeyDim);
  if (layer.latent !== undefined && !rules.expands(layer)) {
    const width = layer.latent.rank + layer.latent.ropeDim;
    rules.checkType(types.key, width);
    return index + ranks * rowBytes(types.key, width, 1); // every rank needs the whole latent row
  }
  rules.checkType(types.key, layer.keyHeadDim);
  rules.checkType(types.value, layer.valueHeadDim);
  const K = rules.cachedHeads(shape, layer);
  if (K % ranks !== 0 && ranks % K !== 0) {
    throw new RangeError(
      `planKvCache: expected tensorParallelSize to divide K=${K} or to be a multiple of it, got ${ranks}`,
    );
  }
  const heads = Math.max(K, ranks);
  return (
    index + rowBytes(types.key, layer.keyHeadDim, heads) + rowBytes(types.value, layer.valueHeadDim, heads)
  );
}

function warningsOf(shape: ModelShape, contextLength: number, layers: readonly LayerPlan[]): string[] {
  const warnings: string[] = [...(shape.warnings ?? [])];
  const { maxPositionEmbeddings: own } = shape;
  if (own !== undefined && contextLength > own) {
    warnings.push(`a context of ${contextLength} tokens is beyond the model's ${own}`);
  }
  const linear = layers.filter((layer) => layer.kind === 'linear').length;
  if (linear > 0) warnings.push(`the fixed-size states of ${linear} linear layers are not counted`);
  return warnings;
}
