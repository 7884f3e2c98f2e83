/** The tables of `gqa plan`. */
import type { ModelShape } from '../format/model-shape.ts';
import type {
  Device,
  HeadChoice,
  KvCachePlan,
  KvDtype,
  MemoryPlan,
  Runtime,
  SpeedPlan,
  WeightGroup,
} from '../plan/index.ts';
import { kvDtypeText } from '../plan/kv-dtype.ts';
import { rate } from '../plan/plan-speed.ts';
import { besideBytes, binarySize, count, partOf } from './output.ts';
import { cachedRanges } from './shape-text.ts';
import { facts, table } from './table.ts';

/** `1,073,741,824 bytes (1.07 GB, 1.0 GiB)`: both units, because sources use either. */
function bothSizes(bytes: number): string {
  const sizes = [decimalSize(bytes), besideBytes(bytes)].filter((size) => size !== '');
  return `${count(bytes)} bytes${sizes.length > 0 ? ` (${sizes.join(', ')})` : ''}`;
}

/** '' below 1 kB. */
function decimalSize(bytes: number): string {
  const power = Math.min(4, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  return power === 0 ? '' : `${(bytes / 1000 ** power).toFixed(2)} ${['kB', 'MB', 'GB', 'TB'][power - 1]}`;
}

export interface PlanFacts {
  readonly contextLength?: number;
  readonly kvDtype: KvDtype;
  readonly numKeyValueHeads?: number;
  readonly runtime: Runtime;
  readonly tensorParallelSize: number;
}

export function describePlan(name: string, shape: ModelShape, plan: KvCachePlan, flags: PlanFacts): string {
  const { numHeads: N, headDim: H, valueHeadDim: Hv, layers } = shape;
  const { numKeyValueHeads, keyHeadDim } = cachedRanges(shape);
  const heads = layers.some((layer) => layer.latent)
    ? `N=${N}, latent rows`
    : `N=${N}, K=${flags.numKeyValueHeads ?? numKeyValueHeads}`;
  const whole =
    flags.contextLength === undefined ? ", the model's whole context (--context sets another)" : '';
  return facts([
    ['model', name, shape.modelType],
    [
      'attention',
      `${heads}, H=${keyHeadDim}${Hv === H ? '' : ` (values ${Hv})`}`,
      `${count(shape.numLayers)} layers`,
    ],
    ['runtime', flags.runtime, `KV cache in ${kvDtypeText(flags.kvDtype)}`],
    ['context', `${count(plan.contextLength)} tokens`, `batch ${count(plan.batchSize)}${whole}`],
    ['per token', bothSizes(plan.bytesPerToken), 'all cached layers, without windows'],
    ['per sequence', bothSizes(plan.bytesPerSequence), 'windows applied'],
    [
      'total',
      bothSizes(plan.totalBytes),
      flags.tensorParallelSize > 1 ? `KV cache over ${flags.tensorParallelSize} ranks` : 'KV cache',
    ],
  ]);
}

/** Weights, cache, activations and their sum, and what each rests on. */
export function memoryTable(memory: MemoryPlan, ranks: number): string {
  const { weights, kvCache, activations, totalBytes, bytesPerRank } = memory;
  const row = (name: string, bytes: number, basis: string) => [name, count(bytes), besideBytes(bytes), basis];
  const rows = [
    row('weights', weights.bytes, weights.basis),
    row('KV cache', kvCache.totalBytes, 'the table above'),
    row('activations', activations.bytes, activations.basis),
    row('all', totalBytes, 'weights, cache and activations; not the program'),
  ];
  if (ranks > 1) rows.push(row('per rank', Math.ceil(bytesPerRank), `${ranks} ranks with equal shares`));
  return table(['memory', 'bytes', '', 'rests on'], rows, [1, 2]);
}

export function weightTable(groups: readonly WeightGroup[]): string {
  const rows = groups.map(({ kind, dtype, parameters, bytes }) => [
    kind,
    dtype,
    count(parameters),
    count(bytes),
    besideBytes(bytes),
  ]);
  return table(['weights', 'dtype', 'parameters', 'bytes', ''], rows, [2, 3, 4]);
}

/** Bandwidth, FLOP/s and the tokens per second that follow. */
export function speedTable(
  { bandwidth, flops, name }: Device,
  { decode, prefill }: SpeedPlan,
  plan: KvCachePlan,
): string {
  const arithmetic = flops === undefined ? 'no FLOP/s stated' : rate(flops, 'FLOP/s');
  const rows: [string, string, string][] = [
    ['device', rate(bandwidth, 'B/s'), `${name === undefined ? '' : `${name}, `}${arithmetic}`],
    [
      'decode',
      `${rounded(decode.tokensPerSecond)} tokens/s`,
      `behind ${count(plan.contextLength)} tokens, batch ${count(plan.batchSize)}: ${decode.basis}`,
    ],
  ];
  if (prefill) {
    const { tokensPerSecond, seconds, basis } = prefill;
    const value = `${rounded(tokensPerSecond)} tokens/s`;
    rows.push(['prefill', value, `${rounded(seconds)} s for ${count(plan.contextLength)} tokens: ${basis}`]);
  }
  return facts(rows);
}

/** Three digits, or all of a larger whole number. */
function rounded(value: number): string {
  if (value > 0 && value < 0.001) return 'below 0.001';
  return value >= 1000 ? count(Math.round(value)) : String(Number(value.toPrecision(3)));
}

/** One row per kind and size of layer; bytes are of all sequences, as in the total. */
export function layerTable(plan: KvCachePlan): string {
  const groups = new Map<string, { kind: string; tokens: number; bytes: number; layers: number }>();
  for (const { kind, tokens, bytes } of plan.layers) {
    const key = `${kind} ${tokens} ${bytes}`;
    const group = groups.get(key) ?? { kind, tokens, bytes: bytes * plan.batchSize, layers: 0 };
    group.layers++;
    groups.set(key, group);
  }
  const head = ['layers', 'kind', 'tokens', 'bytes per layer', 'total bytes', ''];
  const rows = [...groups.values()].map(({ kind, tokens, bytes, layers }) => [
    count(layers),
    kind,
    count(tokens),
    count(bytes),
    count(layers * bytes),
    besideBytes(layers * bytes),
  ]);
  return table(head, rows, [0, 2, 3, 4, 5]);
}

/** What fits into memory: `maxContext` is null when every layer has a window, so that any context fits. */
interface Fit {
  readonly memoryBytes: number;
  readonly maxContext: number | null;
  readonly maxBatch: number;
}

/** What fits into a memory of the cache alone, and into one with the weights. */
export interface Fits extends Partial<Fit> {
  readonly totalMemory?: Fit;
}

/** '' without a memory. */
export function fitTable(shape: ModelShape, plan: KvCachePlan, { totalMemory, ...cache }: Fits): string {
  const own = shape.maxPositionEmbeddings;
  const rows = (
    { memoryBytes, maxContext: context, maxBatch }: Fit,
    note: string,
  ): [string, string, string?][] => {
    const beyond = own !== undefined && (context ?? 0) > own ? `, beyond the model's ${count(own)}` : '';
    const tokens = context === 0 ? 'none: not one token fits' : `${count(context ?? 0)} tokens${beyond}`;
    const longest = context === null ? 'any: every layer has a window' : tokens;
    const most = maxBatch === 0 ? 'none: not one sequence fits' : count(maxBatch);
    return [
      ['memory', bothSizes(memoryBytes), note],
      ['longest context', `${longest} (batch ${count(plan.batchSize)})`],
      ['largest batch', `${most} (at ${count(plan.contextLength)} tokens)`],
    ];
  };
  return facts([
    ...(cache.memoryBytes === undefined ? [] : rows(cache as Fit, 'of the KV cache')),
    ...(totalMemory === undefined ? [] : rows(totalMemory, 'with weights and activations')),
  ]);
}

export function headTable(choices: readonly HeadChoice[]): string {
  const head = ['attention', 'K', 'per token', 'total bytes', '', 'of multi-head', ''];
  const rows = choices.map(({ attention, numKeyValueHeads, isOwn, plan, saving }) => [
    attention,
    numKeyValueHeads === undefined ? '' : count(numKeyValueHeads),
    binarySize(plan.bytesPerToken),
    count(plan.totalBytes),
    besideBytes(plan.totalBytes),
    plan.totalBytes === 0 ? '' : partOf(saving),
    isOwn ? 'as it is' : '',
  ]);
  return table(head, rows, [1, 2, 3, 4, 5]);
}
