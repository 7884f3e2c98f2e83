/**
 * `gqa plan`: the memory of a model (KV cache, weights, activations) at a context length and batch size in a
 * given runtime, its speed on a device, what fits into a memory, and what fewer key/value heads save. Only
 * headers are read, also over the network.
 */
import { Command, InvalidArgumentError } from 'commander';
import type { BackendName } from '../backend/index.ts';
import { findPath } from '../files/node-folder.ts';
import { hubIdUrl } from '../files/source.ts';
import type { ModelShape } from '../format/model-shape.ts';
import {
  compareHeads,
  type Device,
  fitMemory,
  type KvDtype,
  listDevices,
  listPresets,
  type MemoryOptions,
  type MemoryPlan,
  maxBatch,
  maxContext,
  planKvCache,
  planMemory,
  planSpeed,
  type Runtime,
  type StorageType,
} from '../plan/index.ts';
import { KV_DTYPES, kvDtypeText } from '../plan/kv-dtype.ts';
import { nearPresets } from '../plan/presets.ts';
import { type GgufHeaders, readShape } from '../plan/read-shape.ts';
import { readWeights } from '../plan/read-weights.ts';
import { RUNTIMES } from '../plan/runtime-rules.ts';
import { type BackendFlags, useBackend } from './backend-options.ts';
import { oneLine, UsageError } from './errors.ts';
import * as parse from './options.ts';
import { binarySize, count, helpEnd, writeJson, writeNote, writeResult } from './output.ts';
import { checkPagePlace, writePage } from './pages/file.ts';
import { planPage } from './pages/plan.ts';
import {
  describePlan,
  type Fits,
  fitTable,
  headTable,
  layerTable,
  memoryTable,
  speedTable,
  weightTable,
} from './plan-tables.ts';
import { table } from './table.ts';

const BACKENDS: readonly BackendName[] = ['native', 'wasm'];

interface PlanFlags extends Pick<BackendFlags, 'backend' | 'threads'> {
  readonly contextLength?: number;
  readonly batchSize: number;
  readonly kvDtype: KvDtype;
  readonly numKeyValueHeads?: number;
  readonly memory?: number;
  readonly totalMemory?: number;
  readonly weights?: StorageType;
  readonly device?: string;
  readonly bandwidth?: number;
  readonly flops?: number;
  readonly runtime: Runtime;
  readonly tensorParallelSize: number;
  readonly blockSize?: number;
  readonly batchTokens?: number;
  readonly html?: string;
  readonly list?: true;
  readonly devices?: true;
  readonly json?: true;
}

const CONTEXT_HELP = "tokens per sequence (default: the model's context)";
const HEADS_HELP = "plan for K key/value heads instead of the model's";
const RANKS_HELP = 'ranks that share the heads (exact, vllm)';

const example = `
Examples:
  npx gqa plan llama-3-8b --context 8192 --batch 16 --kv-dtype q8_0
  npx gqa plan model.gguf --total-memory 16GiB --context 8192 --device this
  npx gqa plan llama-3-70b --weights q4_k --context 8192 --total-memory 48GB --device rtx-4090 --tensor-parallel 2
  npx gqa plan model.gguf --memory 24GiB --runtime llama.cpp
  npx gqa plan Qwen/Qwen3-8B --context 32768 --html plan.html
  npx gqa plan llama-2-70b --kv-heads 64 --context 4096 --json | jq .totalBytes
  npx gqa plan --list`;

export function planCommand(): Command {
  return new Command('plan')
    .description("compute a model's memory (KV cache, weights, activations) and speed before it is loaded")
    .argument('[model]', 'a preset, a hub id (org/name), or a path or URL of a checkpoint or config.json')
    .addOption(parse.named('--context <tokens>', 'contextLength', CONTEXT_HELP, parse.positiveInteger))
    .addOption(parse.named('--batch <n>', 'batchSize', 'batch size', parse.positiveInteger).default(1))
    .option('--kv-dtype <dtype>', 'type of the KV cache; q8_0/f16: K in q8_0, V in f16', kvDtype, 'f16')
    .addOption(parse.named('--kv-heads <K>', 'numKeyValueHeads', HEADS_HELP, parse.positiveInteger))
    .option(
      '--memory <size>',
      'show what KV cache fits into this memory, such as 24GiB or 24GB',
      parse.memorySize,
    )
    .option('--total-memory <size>', 'show what fits into this memory beside the weights', parse.memorySize)
    .option(
      '--weights <dtype>',
      "type of the weights, as gqa quantize writes it (default: the files' own, else bf16)",
      weightDtype,
    )
    .option('--device <name>', 'estimate tokens per second on it; this: this machine, measured', deviceName)
    .option('--bandwidth <size>', 'bytes per second of another device, such as 100GB/s', parse.bandwidth)
    .option('--flops <n>', 'FLOP/s of another device, such as 30T', parse.flops)
    .addOption(parse.oneOf('--runtime <name>', 'runtime to plan for; exact: this library', RUNTIMES, 'exact'))
    .addOption(
      parse
        .named('--tensor-parallel <ranks>', 'tensorParallelSize', RANKS_HELP, parse.positiveInteger)
        .default(1),
    )
    .option('--block-size <tokens>', 'tokens per block (vllm: 16; exact: paged cache)', parse.positiveInteger)
    .option(
      '--batch-tokens <n>',
      'new tokens per pass (exact: 256; llama.cpp: 512; vllm: 2048)',
      parse.positiveInteger,
    )
    .addOption(parse.oneOf('--backend <name>', 'of --device this (default: native if built)', BACKENDS))
    .option('--threads <n>', 'of --device this (default: one per processor)', parse.threadCount)
    .option('--html <file>', 'also write a page with curves over the context', parse.path)
    .option('--list', 'list the presets')
    .option('--devices', 'list the devices')
    .option('--json', 'print one JSON object')
    .addHelpText('after', helpEnd(example))
    .action(run);
}

function kvDtype(text: string): KvDtype {
  const types = text.toLowerCase().split('/');
  if (types.length > 2 || !types.every((type) => (KV_DTYPES as readonly string[]).includes(type))) {
    throw new InvalidArgumentError(`Expected one of ${KV_DTYPES.join(', ')}, or two of them as K/V.`);
  }
  const [key, value = key] = types as StorageType[];
  return { key, value };
}

function weightDtype(text: string): StorageType {
  const type = text.toLowerCase();
  if ((KV_DTYPES as readonly string[]).includes(type)) return type as StorageType;
  throw new InvalidArgumentError(`Expected one of ${KV_DTYPES.join(', ')}.`);
}

function deviceName(text: string): string {
  const names = ['this', ...listDevices().map(({ id }) => `${id}`)];
  if (names.includes(text.toLowerCase())) return text.toLowerCase();
  throw new InvalidArgumentError(`Expected one of ${names.join(', ')}.`);
}

async function run(model: string | undefined, flags: PlanFlags, command: Command): Promise<void> {
  for (const name of ['list', 'devices'] as const) if (flags[name]) checkAlone(`--${name}`, model, command);
  if (flags.list) return listModels(flags.json === true);
  if (flags.devices) return listAllDevices(flags.json === true);
  if (model === undefined) throw new UsageError('expected a model, or --list for the presets');
  checkDeviceFlags(flags);
  if (flags.html !== undefined) await checkPagePlace(flags.html);
  const { name, shape, weights } = await findModel(model, flags.weights);
  const cacheOptions = {
    contextLength: flags.contextLength,
    batchSize: flags.batchSize,
    kvDtype: flags.kvDtype,
    numKeyValueHeads: flags.numKeyValueHeads,
    runtime: flags.runtime,
    tensorParallelSize: flags.tensorParallelSize,
    blockSize: flags.blockSize,
    batchTokens: flags.batchTokens,
  };
  const options: MemoryOptions = { ...cacheOptions, weights };
  if (flags.contextLength === undefined && shape.maxPositionEmbeddings === undefined) {
    throw new UsageError('expected --context, since the checkpoint does not state a context length');
  }
  const memory = planMemory(shape, options);
  const plan = memory.kvCache;
  const fits: Fits = {
    ...(flags.memory !== undefined && {
      memoryBytes: flags.memory,
      ...cacheFit(shape, cacheOptions, flags.memory),
    }),
    ...(flags.totalMemory !== undefined && { totalMemory: totalFit(shape, options, flags.totalMemory) }),
  };
  const device = await deviceOf(flags, shape, memory);
  const speed = device && planSpeed(shape, { ...options, device });
  const isModelContext = flags.contextLength === undefined;
  if (flags.json) {
    const { weights, activations, totalBytes, bytesPerRank } = memory;
    writeJson({
      model: name,
      runtime: flags.runtime,
      kvDtype: kvDtypeText(flags.kvDtype),
      isModelContext,
      ...plan,
      ...fits,
      memory: { weights, activations, totalBytes, bytesPerRank },
      ...(speed && { device, speed }),
    });
  } else {
    writeResult(describePlan(name, shape, plan, flags));
    writeResult(`\n${layerTable(plan)}`);
    writeResult(`\n${memoryTable(memory, flags.tensorParallelSize)}`);
    writeResult(`\n${weightTable(memory.weights.groups)}`);
    const fitText = fitTable(shape, plan, fits);
    if (fitText !== '') writeResult(`\n${fitText}`);
    if (device && speed) writeResult(`\n${speedTable(device, speed, plan)}`);
    const { numKeyValueHeads, ...rest } = cacheOptions;
    if (numKeyValueHeads === undefined) writeResult(`\n${headTable(compareHeads(shape, rest))}`);
  }
  for (const warning of plan.warnings) writeNote(`gqa: warning: ${oneLine(warning)}`);
  if (flags.html !== undefined) {
    await writePage(flags.html, planPage(name, shape, options, speed));
  }
}

/** @throws UsageError for a model or other flags than --json beside a list */
function checkAlone(list: string, model: string | undefined, command: Command): void {
  const given = command.options
    .filter((option) => command.getOptionValueSource(option.attributeName()) === 'cli')
    .map(({ long }) => `${long}`)
    .filter((flag) => flag !== list && flag !== '--json');
  const others = model === undefined ? given : [JSON.stringify(model), ...given];
  if (others.length > 0)
    throw new UsageError(`expected ${list} alone or with --json, got ${others.join(', ')}`);
}

function checkDeviceFlags({ device, bandwidth, flops, backend, threads }: PlanFlags): void {
  if (device !== undefined && (bandwidth !== undefined || flops !== undefined)) {
    throw new UsageError('expected --device, or --bandwidth and --flops, got both');
  }
  if (flops !== undefined && bandwidth === undefined) {
    throw new UsageError('expected --bandwidth beside --flops, got --flops alone');
  }
  if (device !== 'this' && (backend !== undefined || threads !== undefined)) {
    const flag = backend === undefined ? '--threads' : '--backend';
    const other = device === undefined ? 'no --device' : `--device ${device}`;
    throw new UsageError(`expected ${flag} with --device this, got ${other}`);
  }
}

async function deviceOf(
  flags: PlanFlags,
  shape: ModelShape,
  { weights, kvCache }: MemoryPlan,
): Promise<Device | undefined> {
  if (flags.bandwidth !== undefined) return { bandwidth: flags.bandwidth, flops: flags.flops };
  if (flags.device === undefined) return undefined;
  if (flags.device !== 'this') return listDevices().find(({ id }) => id === flags.device);
  await useBackend(flags);
  // Imported here, because only this needs the kernels.
  const { measureDevice } = await import('./measure-device.ts');
  return measureDevice(shape, weights.groups, kvCache.contextLength);
}

interface FoundModel {
  readonly name: string;
  readonly shape: ModelShape;
  /** Undefined: counted from the shape. */
  readonly weights: MemoryOptions['weights'];
}

async function readModel(name: string, weights: StorageType | undefined): Promise<FoundModel> {
  const headers: GgufHeaders = new Map();
  const shape = await readShape(name, {}, headers);
  return { name, shape, weights: weights ?? (await readWeights(name, {}, headers)) };
}

/** A preset, else a URL, else a path, else a hub id. */
async function findModel(text: string, weights: StorageType | undefined): Promise<FoundModel> {
  const known = listPresets().find(({ id }) => id === text.toLowerCase());
  if (known !== undefined) {
    if (!known.verified) writeNote(`gqa: warning: the sizes of ${known.id} come from one secondary source`);
    return { name: known.id, shape: known.shape, weights };
  }
  const url = hubIdUrl(text);
  const isOther =
    /^[./~\\]|^[A-Za-z]:|^https?:/i.test(text) || (!url && /\.(gguf|json|safetensors)$/i.test(text));
  if (isOther || (await findPath(text)) !== undefined) return readModel(text, weights);
  if (url === undefined) throw unknownPreset(text);
  try {
    return await readModel(text, weights);
  } catch (error) {
    const why = (error as Error).message;
    throw new Error(`${text}: expected a preset, a path or a hub id; ${why}${nearText(text)}`);
  }
}

function unknownPreset(text: string): UsageError {
  return new UsageError(
    `expected a preset (--list shows them), a path, a URL or a hub id, got ${JSON.stringify(text)}${nearText(text)}`,
  );
}

function nearText(text: string): string {
  const near = nearPresets(text);
  return near.length === 0 ? '' : `; similar presets: ${near.join(', ')}`;
}

function listModels(json: boolean): void {
  const presets = listPresets();
  if (json) {
    writeJson({ presets: presets.map(({ id, name, verified }) => ({ id, name, verified })) });
    return;
  }
  const head = ['preset', 'model', 'layers', 'N', 'K', 'H', 'context', 'per token (f16)', ''];
  const rows = presets.map(({ id, name, shape, verified }) => [
    id,
    name,
    count(shape.numLayers),
    count(shape.numHeads),
    shape.layers.some((layer) => layer.latent) ? 'latent' : count(shape.numKeyValueHeads),
    count(shape.headDim),
    count(shape.maxPositionEmbeddings ?? 0),
    binarySize(planKvCache(shape, { contextLength: 1 }).bytesPerToken),
    verified ? '' : 'not verified',
  ]);
  writeResult(table(head, rows, [2, 3, 4, 5, 6, 7]));
}

function listAllDevices(json: boolean): void {
  const devices = listDevices();
  if (json) {
    writeJson({ devices });
    return;
  }
  const head = ['device', 'name', 'GB/s', 'TFLOP/s', 'source'];
  const rows = devices.map(({ id, name, bandwidth, flops, source }) => [
    `${id}`,
    `${name}`,
    `${bandwidth / 1e9}`,
    flops === undefined ? '' : `${flops / 1e12}`,
    `${source}`,
  ]);
  writeResult(table(head, rows, [2, 3]));
}

type CacheOptions = Omit<MemoryOptions, 'weights'>;

function cacheFit(shape: ModelShape, options: CacheOptions, memoryBytes: number) {
  const { contextLength, batchSize, ...rest } = options;
  const context = maxContext(shape, memoryBytes, { ...rest, batchSize });
  return {
    maxContext: Number.isFinite(context) ? context : null,
    maxBatch: maxBatch(shape, memoryBytes, { ...rest, contextLength }),
  };
}

function totalFit(shape: ModelShape, options: MemoryOptions, memoryBytes: number) {
  const { maxContext, maxBatch } = fitMemory(shape, memoryBytes, options);
  return { memoryBytes, maxContext: Number.isFinite(maxContext) ? maxContext : null, maxBatch };
}
