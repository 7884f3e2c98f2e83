/**
 * The memory and speed of a model before anything is loaded: KV cache, weights, activations, tokens per second.
 * Runs anywhere; paths need Node.
 * @module gqa/plan
 */
export type { ByteSource } from '../format/byte-source.ts';
export { FormatError } from '../format/format-error.ts';
export type { ExpertsShape, LayerKind, LayerShape, ModelShape } from '../format/shape-types.ts';
export type { StorageType } from '../format/storage-type.ts';
export { maxBatch, maxContext } from './budget.ts';
export { type CompareOptions, compareHeads, type HeadChoice } from './compare.ts';
export { type Device, listDevices } from './devices.ts';
export type { KvDtype } from './kv-dtype.ts';
export { type KvCachePlan, type LayerPlan, planKvCache } from './plan-kv-cache.ts';
export { fitMemory, type MemoryFit, type MemoryOptions, type MemoryPlan, planMemory } from './plan-memory.ts';
export { planSpeed, type SpeedOptions, type SpeedPlan } from './plan-speed.ts';
export { listPresets, type Preset, preset } from './presets.ts';
export { type ReadModelShapeOptions, readModelShape } from './read-model-shape.ts';
export { readModelWeights } from './read-model-weights.ts';
export type { ShapeSource } from './read-shape.ts';
export type { PlanOptions, Runtime } from './runtime-rules.ts';
export type { PlanSource } from './shape-of.ts';
export type { WeightGroup, WeightKind } from './weights.ts';
