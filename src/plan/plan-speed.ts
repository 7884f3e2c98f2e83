/**
 * Tokens per second of a model on a device. Decoding reads all weights and the cache once per step, so memory
 * bandwidth bounds it; a prompt's tokens share each read, so arithmetic bounds prefill:
 *
 *   seconds of a step = max(bytes read / bandwidth, operations / FLOP/s)
 *
 * This is an ideal device: reading and products overlap, both at full rate, and nothing else takes time.
 *
 * Source: Pope et al. 2022, "Efficiently Scaling Transformer Inference".
 */
import { aNumber, anything } from '../arguments/kinds.ts';
import { checkOptions, optionKinds } from '../arguments/options.ts';
import type { ModelShape } from '../format/shape-types.ts';
import type { Device } from './devices.ts';
import { MEMORY_KINDS, type MemoryOptions, planMemory } from './plan-memory.ts';
import { type PlanSource, shapeOf } from './shape-of.ts';
import type { WeightGroup } from './weights.ts';

/** Options of `planSpeed`. */
export interface SpeedOptions extends MemoryOptions {
  /** Each rank is such a device. */
  readonly device: Device;
}

const OPTIONS = optionKinds<SpeedOptions>({ ...MEMORY_KINDS, device: anything });
const DEVICE = optionKinds<Device>({
  bandwidth: aNumber,
  flops: aNumber,
  id: anything,
  name: anything,
  source: anything,
});

/** Times on an ideal device. Frozen. */
export interface SpeedPlan {
  /** One token of each sequence, behind `contextLength` tokens. */
  readonly decode: {
    /** Of all sequences together. */
    readonly tokensPerSecond: number;
    /** Weights and cache that one step reads, over all ranks. */
    readonly bytesRead: number;
    readonly basis: string;
  };
  /** A prompt of `contextLength` tokens; undefined without the device's FLOP/s. */
  readonly prefill?: {
    readonly tokensPerSecond: number;
    /** Until the first token of one prompt. */
    readonly seconds: number;
    readonly basis: string;
  };
}

/**
 * Estimates tokens per second. With the peaks of `listDevices` they are upper bounds, for a runtime that
 * multiplies in bf16 or f16; with measured rates they are estimates.
 * @param options as for `planMemory`, and the device
 * @throws as `planMemory`; RangeError for a bandwidth, or FLOP/s, that is not above 0
 * @example
 * const options = { contextLength: 8192, weights: 'q4_k', device: { bandwidth: 100e9 } } as const;
 * planSpeed('llama-3-8b', options).decode.tokensPerSecond;
 */
export function planSpeed(source: PlanSource, options: SpeedOptions): SpeedPlan {
  checkOptions('planSpeed', options, OPTIONS);
  const { device, ...rest } = options;
  const { bandwidth, flops } = checkedDevice(device);
  const shape = shapeOf(source);
  const { weights, kvCache, activations } = planMemory(shape, rest);
  const ranks = options.tensorParallelSize ?? 1;
  const { batchSize, contextLength } = kvCache;
  const seconds = (bytes: number, operations: number) =>
    Math.max(bytes / (ranks * bandwidth), operations / (ranks * (flops ?? Infinity)));

  const read = bytesRead(shape, weights.groups, batchSize) + kvCache.totalBytes;
  const perToken = operationsPerToken(shape, weights.groups);
  const head = headOperations(weights.groups);
  const attention = (tokens: number) => attentionOperations(shape, tokens);
  const step = seconds(read, batchSize * (perToken + head + attention(contextLength)));
  const links = ranks > 1 ? '; links between ranks are not counted' : '';
  const decode = Object.freeze({
    tokensPerSecond: batchSize / step,
    bytesRead: read,
    basis: `weights and cache read once per step at ${rate(bandwidth, 'B/s')}${links}`,
  });
  if (flops === undefined) return Object.freeze({ decode });
  const chunks = Math.ceil(contextLength / activations.tokens);
  const operations = contextLength * (perToken + attention(contextLength) / 2);
  const whole = bytesRead(shape, weights.groups, activations.tokens);
  const prompt = chunks * seconds(whole, operations / chunks);
  return Object.freeze({
    decode,
    prefill: Object.freeze({
      tokensPerSecond: contextLength / prompt,
      seconds: prompt,
      basis: `products of the weights and of attention at ${rate(flops, 'FLOP/s')}${links}`,
    }),
  });
}

/** Bytes of weights that a pass over `tokens` tokens reads. */
export function bytesRead({ experts }: ModelShape, groups: readonly WeightGroup[], tokens: number): number {
  const hasHead = groups.some(({ kind }) => kind === 'head');
  // The share of experts that some token chooses, if each chooses at random.
  const { numExperts: E = 1, expertsPerToken: k = 1 } = experts ?? {};
  const chosen = 1 - (1 - k / E) ** tokens;
  return groups.reduce((sum, { kind, bytes }) => {
    // A table that is not the head too is read by single rows.
    if (kind === 'embedding' && hasHead) return sum;
    return sum + bytes * (kind === 'experts' ? chosen : 1);
  }, 0);
}

/** Two per weight that a token is multiplied with, without the output head: a prompt needs that once. */
function operationsPerToken({ experts }: ModelShape, groups: readonly WeightGroup[]): number {
  const { numExperts: E = 1, expertsPerToken: k = 1 } = experts ?? {};
  return groups.reduce((sum, { kind, parameters }) => {
    if (kind === 'embedding' || kind === 'head') return sum;
    return sum + 2 * parameters * (kind === 'experts' ? k / E : 1);
  }, 0);
}

function headOperations(groups: readonly WeightGroup[]): number {
  const head = groups.filter(({ kind }) => kind === 'head');
  const tied = groups.filter(({ kind }) => kind === 'embedding');
  return (head.length > 0 ? head : tied).reduce((sum, { parameters }) => sum + 2 * parameters, 0);
}

/** Of one token that sees `tokens` keys: a product with each key and each value. */
function attentionOperations({ layers, numHeads }: ModelShape, tokens: number): number {
  return layers.reduce((sum, { kind, numHeads: N = numHeads, keyHeadDim: H, valueHeadDim: Hv, window }) => {
    if (kind === 'linear') return sum;
    return sum + 2 * N * (H + Hv) * Math.min(tokens, window ?? tokens);
  }, 0);
}

function checkedDevice(device: Device): Device {
  checkOptions('planSpeed: device', device, DEVICE);
  const { bandwidth, flops } = device;
  if (!(bandwidth > 0) || (flops !== undefined && !(flops > 0))) {
    throw new RangeError(`planSpeed: expected a bandwidth and FLOP/s above 0, got ${bandwidth} and ${flops}`);
  }
  return device;
}

/** `68 GB/s`. */
export function rate(value: number, unit: string): string {
  const power = Math.min(4, Math.max(0, Math.floor(Math.log10(value) / 3)));
  return `${Number((value / 1000 ** power).toPrecision(3))} ${['', 'k', 'M', 'G', 'T'][power]}${unit}`;
}
