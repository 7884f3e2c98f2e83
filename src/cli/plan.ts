/**
 * `gqa plan`: the KV cache size of a model at a context length and batch size in a given runtime; what fits
 * into a memory budget; what fewer key/value heads save. Only headers are read, also over the network.
 */
import { Command, InvalidArgumentError } from 'commander';
import { findPath } from '../files/node-folder.ts';
import { hubIdUrl } from '../files/source.ts';
import type { ModelShape } from '../format/model-shape.ts';
import {
  compareHeads,
  type HeadChoice,
  type KvCachePlan,
  type KvDtype,
  listPresets,
  maxBatch,
  maxContext,
  type PlanOptions,
  planKvCache,
  type Runtime,
  readModelShape,
  type StorageType,
} from '../plan/index.ts';
import { KV_DTYPES, kvDtypeText } from '../plan/kv-dtype.ts';
import { nearPresets } from '../plan/presets.ts';
import { RUNTIMES } from '../plan/runtime-rules.ts';
import { oneLine, UsageError } from './errors.ts';
import * as parse from './options.ts';
import { binarySize, count, helpEnd, writeJson, writeNote, writeResult } from './output.ts';
import { writePage } from './pages/file.ts';
import { planPage } from './pages/plan.ts';
import { facts, table } from './table.ts';

interface PlanFlags {
  readonly context?: number;
  readonly batch: number;
  readonly kvDtype: KvDtype;
  readonly kvHeads?: number;
  readonly memory?: number;
  readonly runtime: Runtime;
  readonly tensorParallel: number;
  readonly blockSize?: number;
  readonly batchTokens?: number;
  readonly html?: string;
  readonly list?: true;
  readonly json?: true;
}

const example = `
Examples:
  npx gqa plan llama-3-8b --context 8192 --batch 16 --kv-dtype q8_0
  npx gqa plan model.gguf --memory 24GiB --runtime llama.cpp
  npx gqa plan Qwen/Qwen3-8B --context 32768 --html plan.html
  npx gqa plan llama-2-70b --kv-heads 64 --context 4096 --json | jq .totalBytes
  npx gqa plan --list`;

export function planCommand(): Command {
  return new Command('plan')
    .description("compute the size of a model's KV cache, and what fewer key/value heads would save")
    .argument('[model]', 'a preset, a hub id (org/name), or a path or URL of a checkpoint or config.json')
    .option('--context <tokens>', "tokens per sequence (default: the model's context)", parse.positiveInteger)
    .option('--batch <n>', 'batch size', parse.positiveInteger, 1)
    .option('--kv-dtype <dtype>', 'type of the KV cache; q8_0/f16: K in q8_0, V in f16', kvDtype, 'f16')
    .option('--kv-heads <K>', "plan for K key/value heads instead of the model's", parse.positiveInteger)
    .option('--memory <size>', 'show what fits into this memory, such as 24GiB or 24GB', parse.memorySize)
    .addOption(parse.oneOf('--runtime <name>', 'runtime to plan for; exact: this library', RUNTIMES, 'exact'))
    .option('--tensor-parallel <ranks>', 'ranks that share the heads (exact, vllm)', parse.positiveInteger, 1)
    .option('--block-size <tokens>', 'tokens per block (vllm: 16; exact: paged cache)', parse.positiveInteger)
    .option('--batch-tokens <n>', 'new tokens per pass (llama.cpp: 512; vllm: 2048)', parse.positiveInteger)
    .option('--html <file>', 'also write a page with curves over the context', parse.path)
    .option('--list', 'list the presets')
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

async function run(model: string | undefined, flags: PlanFlags): Promise<void> {
  if (flags.list) return list(flags.json === true);
  if (model === undefined) throw new UsageError('expected a model, or --list for the presets');
  const { name, shape } = await findModel(model);
  const options: PlanOptions = {
    contextLength: flags.context,
    batchSize: flags.batch,
    kvDtype: flags.kvDtype,
    numKeyValueHeads: flags.kvHeads,
    runtime: flags.runtime,
    tensorParallelSize: flags.tensorParallel,
    blockSize: flags.blockSize,
    batchTokens: flags.batchTokens,
  };
  if (flags.context === undefined && shape.maxPositionEmbeddings === undefined) {
    throw new UsageError('expected --context, since the checkpoint does not state a context length');
  }
  const plan = planKvCache(shape, options);
  const fits = flags.memory === undefined ? undefined : whatFits(shape, options, flags.memory);
  if (flags.json) {
    writeJson({ model: name, runtime: flags.runtime, kvDtype: kvDtypeText(flags.kvDtype), ...plan, ...fits });
  } else {
    writeResult(describe(name, shape, plan, flags));
    writeResult(`\n${layerTable(plan)}`);
    if (fits !== undefined) writeResult(`\n${budgetTable(shape, plan, fits)}`);
    const { numKeyValueHeads, ...rest } = options;
    if (numKeyValueHeads === undefined) writeResult(`\n${headTable(compareHeads(shape, rest))}`);
  }
  for (const warning of plan.warnings) writeNote(`gqa: warning: ${oneLine(warning)}`);
  if (flags.html !== undefined) {
    await writePage(flags.html, planPage(name, shape, options));
  }
}

/** A preset, else a URL, else a path, else a hub id. */
async function findModel(text: string): Promise<{ name: string; shape: ModelShape }> {
  const known = listPresets().find(({ id }) => id === text.toLowerCase());
  if (known !== undefined) {
    if (!known.verified) writeNote(`gqa: warning: the sizes of ${known.id} come from one secondary source`);
    return { name: known.id, shape: known.shape };
  }
  const url = hubIdUrl(text);
  const isOther =
    /^[./~\\]|^[A-Za-z]:|^https?:/i.test(text) || (!url && /\.(gguf|json|safetensors)$/i.test(text));
  if (isOther || (await findPath(text)) !== undefined)
    return { name: text, shape: await readModelShape(text) };
  if (url === undefined) throw unknownPreset(text);
  try {
    return { name: text, shape: await readModelShape(text) };
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

function list(json: boolean): void {
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

/** `1,073,741,824 bytes (1.07 GB, 1.00 GiB)`: both units, because sources use either. */
function bothSizes(bytes: number): string {
  return `${count(bytes)} bytes (${decimalSize(bytes)}, ${binarySize(bytes)})`;
}

function decimalSize(bytes: number): string {
  const power = Math.min(4, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)));
  return `${(bytes / 1000 ** power).toFixed(power === 0 ? 0 : 2)} ${['bytes', 'kB', 'MB', 'GB', 'TB'][power]}`;
}

function describe(name: string, shape: ModelShape, plan: KvCachePlan, flags: PlanFlags): string {
  const { numHeads: N, numKeyValueHeads: K, headDim: H, valueHeadDim: Hv } = shape;
  const heads = shape.layers.some((layer) => layer.latent)
    ? `N=${N}, latent rows`
    : `N=${N}, K=${flags.kvHeads ?? K}`;
  return facts([
    ['model', name, shape.modelType],
    ['attention', `${heads}, H=${H}${Hv === H ? '' : ` (values ${Hv})`}`, `${count(shape.numLayers)} layers`],
    ['runtime', flags.runtime, kvDtypeText(flags.kvDtype)],
    ['context', `${count(plan.contextLength)} tokens`, `batch ${count(plan.batchSize)}`],
    ['per token', bothSizes(plan.bytesPerToken), 'all cached layers, without windows'],
    ['per sequence', bothSizes(plan.bytesPerSequence), 'windows applied'],
    [
      'total',
      bothSizes(plan.totalBytes),
      flags.tensorParallel > 1 ? `over ${flags.tensorParallel} ranks` : '',
    ],
  ]);
}

/** One row per kind and size of layer; bytes are of all sequences, as in the total. */
function layerTable(plan: KvCachePlan): string {
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
    binarySize(layers * bytes),
  ]);
  return table(head, rows, [0, 2, 3, 4, 5]);
}

interface Fits {
  readonly memoryBytes: number;
  /** null: any context, since every layer has a window. */
  readonly maxContext: number | null;
  readonly maxBatch: number;
}

function whatFits(shape: ModelShape, options: PlanOptions, memoryBytes: number): Fits {
  const { contextLength, batchSize, ...rest } = options;
  const context = maxContext(shape, memoryBytes, { ...rest, batchSize });
  return {
    memoryBytes,
    maxContext: Number.isFinite(context) ? context : null,
    maxBatch: maxBatch(shape, memoryBytes, { ...rest, contextLength }),
  };
}

function budgetTable(shape: ModelShape, plan: KvCachePlan, fits: Fits): string {
  const own = shape.maxPositionEmbeddings;
  const context = fits.maxContext;
  const beyond = own !== undefined && (context ?? 0) > own ? `, beyond the model's ${count(own)}` : '';
  const longest = context === null ? 'any: every layer has a window' : `${count(context)} tokens${beyond}`;
  return facts([
    ['memory', bothSizes(fits.memoryBytes)],
    ['longest context', `${longest} (batch ${count(plan.batchSize)})`],
    ['largest batch', `${count(fits.maxBatch)} (at ${count(plan.contextLength)} tokens)`],
  ]);
}

function headTable(choices: readonly HeadChoice[]): string {
  const head = ['attention', 'K', 'per token', 'total bytes', '', 'of multi-head', ''];
  const rows = choices.map(({ attention, numKeyValueHeads, isOwn, plan, saving }) => [
    attention,
    numKeyValueHeads === undefined ? '' : count(numKeyValueHeads),
    binarySize(plan.bytesPerToken),
    count(plan.totalBytes),
    binarySize(plan.totalBytes),
    `1/${Number(saving.toFixed(2))}`,
    isOwn ? 'as it is' : '',
  ]);
  return table(head, rows, [1, 2, 3, 4, 5]);
}
