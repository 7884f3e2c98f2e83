/**
 * `gqa inspect`: the contents of a checkpoint, read from its headers only: the attention shape, the sizes,
 * and KV cache bytes per token.
 */

import { Command } from 'commander';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { openCheckpoint } from '../checkpoint/open-checkpoint.ts';
import {
  kvElementsPerToken,
  type LayerKind,
  type LayerShape,
  type ModelShape,
} from '../format/model-shape.ts';
import { oneLine } from './errors.ts';
import { CHECKPOINT_HELP } from './load-checkpoint.ts';
import * as parse from './options.ts';
import {
  besideBytes,
  binarySize,
  count,
  exactSize,
  helpEnd,
  rangeText,
  writeJson,
  writeNote,
  writeResult,
} from './output.ts';
import { cachedRanges } from './shape-text.ts';
import { facts, table } from './table.ts';

interface InspectOptions {
  readonly tensors?: true;
  readonly json?: true;
}

/** Tensors and bytes of one dtype. */
interface Share {
  tensors: number;
  parameters: number;
  bytes: number;
}

const example = `
Examples:
  npx gqa inspect model.gguf
  npx gqa inspect models/SmolLM2-135M --tensors
  npx gqa inspect model.gguf --json | jq .kvBytesPerToken.f16`;

export function inspectCommand(): Command {
  return new Command('inspect')
    .description('show the attention shape, weights and KV cache size of a checkpoint')
    .argument('<checkpoint>', CHECKPOINT_HELP, parse.path)
    .option('--tensors', 'list every tensor')
    .option('--json', 'print one JSON object')
    .addHelpText('after', helpEnd(example))
    .action(inspect);
}

async function inspect(path: string, options: InspectOptions): Promise<void> {
  const checkpoint = await openCheckpoint(path);
  try {
    const { shape, problem } = shapeOf(checkpoint);
    const shares = sharesOf(checkpoint);
    if (options.json) writeJson(toJson(checkpoint, shape, shares, options.tensors === true));
    else {
      if (shape !== undefined) writeResult(describeShape(shape));
      writeResult(describeWeights(shares));
      if (options.tensors) writeResult(`\n${listTensors(checkpoint)}`);
    }
    for (const warning of shape?.warnings ?? []) writeNote(`gqa: warning: ${oneLine(warning)}`);
    if (problem !== undefined) writeNote(`gqa: ${oneLine(problem.message)}; only the tensors are shown`);
  } finally {
    await checkpoint.close();
  }
}

/** The tensors are shown even when the attention shape is missing or the family unknown. */
function shapeOf(checkpoint: Checkpoint): { shape?: ModelShape; problem?: Error } {
  try {
    return { shape: checkpoint.shape };
  } catch (error) {
    return { problem: error as Error };
  }
}

function sharesOf(checkpoint: Checkpoint): Map<string, Share> {
  const shares = new Map<string, Share>();
  for (const { dtype, shape, byteLength } of checkpoint.tensors.values()) {
    const share = shares.get(dtype) ?? { tensors: 0, parameters: 0, bytes: 0 };
    share.tensors++;
    share.parameters += shape.reduce((product, dim) => product * dim, 1);
    share.bytes += byteLength;
    shares.set(dtype, share);
  }
  return new Map([...shares].sort(([, a], [, b]) => b.bytes - a.bytes));
}

function sumOf(shares: ReadonlyMap<string, Share>): Share {
  const sum: Share = { tensors: 0, parameters: 0, bytes: 0 };
  for (const share of shares.values()) {
    sum.tensors += share.tensors;
    sum.parameters += share.parameters;
    sum.bytes += share.bytes;
  }
  return sum;
}

function describeShape(shape: ModelShape): string {
  const { numHeads: N, headDim: H, valueHeadDim: Hv } = shape;
  const { numKeyValueHeads, keyHeadDim } = cachedRanges(shape);
  const values = kvElementsPerToken(shape);
  const sizes = groupSizes(shape);
  const context = shape.maxPositionEmbeddings;
  const rows: [string, string, string?][] = [
    ['family', shape.modelType],
    ['layers', count(shape.numLayers), layerKinds(shape)],
    ['N', count(N), 'query heads'],
    ['K', numKeyValueHeads, 'key/value heads'],
    ['G', sizes.length === 0 ? '?' : rangeText(sizes), groupNote(shape)],
    ['H', keyHeadDim, Hv === H ? 'head dim' : `head dim; values ${count(Hv)}`],
    ['D', count(shape.hiddenSize), 'model dim'],
    ['V', shape.vocabSize === undefined ? '?' : count(shape.vocabSize), 'vocabulary'],
    ['context', context === undefined ? '?' : count(context), 'tokens'],
    ['KV cache f32', exactSize(values * 4), 'per token'],
    ['KV cache f16', exactSize(values * 2), 'per token'],
  ];
  if (context !== undefined && shape.layers.every((layer) => layer.window === undefined)) {
    rows.push(['', binarySize(values * 2 * context), 'f16 at full context']);
  }
  return facts(rows);
}

/** `N / K` of each layer with a cache of its own. */
function groupSizes(shape: ModelShape): number[] {
  return shape.layers
    .filter((layer) => layer.numKeyValueHeads > 0 && layer.kind !== 'shared')
    .map((layer) => (layer.numHeads ?? shape.numHeads) / layer.numKeyValueHeads);
}

function groupNote(shape: ModelShape): string {
  if (shape.layers.some((layer) => layer.kind === 'latent')) return 'multi-head latent attention';
  const isMultiQuery = shape.layers.every(({ numKeyValueHeads: K }) => K <= 1);
  const isMultiHead = groupSizes(shape).every((G) => G === 1);
  const name = isMultiHead ? 'multi-head' : isMultiQuery ? 'multi-query' : 'grouped-query';
  return `query heads per key/value head: ${name} attention`;
}

/** Layers by kind, such as `4 full, 22 sliding over 512 tokens`; '' when all cache all tokens. */
function layerKinds(shape: ModelShape): string {
  const kinds = new Map<LayerKind, LayerShape[]>();
  for (const layer of shape.layers) kinds.set(layer.kind, [...(kinds.get(layer.kind) ?? []), layer]);
  if (kinds.size === 1 && kinds.has('full')) return '';
  const parts = [...kinds].map(([kind, layers]) => {
    const windows = kind === 'sliding' || kind === 'chunked' ? layers.map((layer) => layer.window ?? 0) : [];
    const window = [...new Set(windows)].map(count).join(' or ');
    return `${count(layers.length)} ${kind}${window === '' ? '' : ` over ${window} tokens`}`;
  });
  return parts.join(', ');
}

function describeWeights(shares: ReadonlyMap<string, Share>): string {
  const row = (name: string, { tensors, parameters, bytes }: Share): string[] => [
    name,
    count(parameters),
    count(bytes),
    besideBytes(bytes),
    count(tensors),
  ];
  const head = ['dtype', 'parameters', 'bytes', '', 'tensors'];
  const rows = [...[...shares].map(([dtype, share]) => row(dtype, share)), row('all', sumOf(shares))];
  return `\n${table(head, rows, [1, 2, 3, 4])}`;
}

function listTensors(checkpoint: Checkpoint): string {
  const head = ['tensor', 'dtype', 'shape', 'bytes'];
  const rows = [...checkpoint.tensors.values()].map(({ name, dtype, shape, byteLength }) => [
    name,
    dtype,
    `[${shape.join(', ')}]`,
    count(byteLength),
  ]);
  return table(head, rows, [3]);
}

function toJson(
  checkpoint: Checkpoint,
  shape: ModelShape | undefined,
  shares: ReadonlyMap<string, Share>,
  tensors: boolean,
): object {
  const { parameters, bytes } = sumOf(shares);
  const values = shape === undefined ? undefined : kvElementsPerToken(shape);
  return {
    path: checkpoint.path,
    format: checkpoint.kind,
    ...(shape !== undefined && {
      family: shape.modelType,
      numLayers: shape.numLayers,
      numHeads: shape.numHeads,
      numKeyValueHeads: shape.numKeyValueHeads,
      groupSize: groupSizes(shape).reduce<number | undefined>((most, G) => Math.max(most ?? G, G), undefined),
      headDim: shape.headDim,
      valueHeadDim: shape.valueHeadDim,
      hiddenSize: shape.hiddenSize,
      vocabSize: shape.vocabSize,
      contextLength: shape.maxPositionEmbeddings,
      layers: shape.layers,
      warnings: shape.warnings ?? [],
      kvBytesPerToken: { f32: values! * 4, f16: values! * 2 },
    }),
    parameters,
    bytes,
    dtypes: Object.fromEntries(shares),
    ...(tensors && { tensors: [...checkpoint.tensors.values()] }),
  };
}
