/**
 * The size of a model's KV cache, before anything is loaded. Runs anywhere; paths need Node.
 * @module gqa/plan
 */
export type { ByteSource } from '../format/byte-source.ts';
export { FormatError } from '../format/format-error.ts';
export type { LayerKind, LayerShape, ModelShape } from '../format/shape-types.ts';
export type { StorageType } from '../format/storage-type.ts';
export { maxBatch, maxContext } from './budget.ts';
export { type CompareOptions, compareHeads, type HeadChoice } from './compare.ts';
export type { KvDtype } from './kv-dtype.ts';
export { type KvCachePlan, type LayerPlan, type PlanSource, planKvCache } from './plan-kv-cache.ts';
export { listPresets, type Preset, preset } from './presets.ts';
export { type ReadModelShapeOptions, readModelShape } from './read-model-shape.ts';
export type { ShapeSource } from './read-shape.ts';
export type { PlanOptions, Runtime } from './runtime-rules.ts';
