/**
 * How one tensor changes: along one axis it consists of blocks, each a weighted sum of blocks of the old
 * tensor. And the tensors that hold a layer's heads, in every layout: separate or fused q, k, v; `[Out, In]`
 * or Conv1D's `[In, Out]`; weights and biases.
 */
import type { DecoderConfig, DecoderNames } from '../models/decoder-config.ts';
import { type HeadMix, isSame, type LayerMix } from './head-mix.ts';

/** A block of the new tensor along the axis that changes. */
export interface Block {
  /** Rows (or columns) of it. */
  readonly size: number;
  /** Where each source, of the same size, begins in the old tensor. Empty: a random block. */
  readonly sources: readonly BlockSource[];
}

export interface BlockSource {
  readonly first: number;
  readonly weight: number;
  /** `[size, size]` */
  readonly matrix?: Float64Array;
}

export interface TensorPlan {
  /** 0: blocks of rows. 1: blocks of columns. */
  readonly axis: 0 | 1;
  readonly blocks: readonly Block[];
  /**
   * Blocks without sources: a normal distribution of this standard deviation, by this number (one per
   * tensor).
   */
  readonly draw: { readonly stddev: number; readonly stream: number };
}

/** The tensors that change in a layer, by name. */
export function layerTensorPlans(
  config: DecoderConfig,
  names: DecoderNames,
  index: number,
  mix: LayerMix,
  initializerRange: number,
): Map<string, TensorPlan> {
  const { numHeads: N, numKeyValueHeads: K, headDim: H, biases } = config;
  const transposed = names.transposed ?? false;
  const layer = names.layer(index);
  const out = new Map<string, TensorPlan>();
  const put = (name: string, blocks: readonly Block[], axis: 0 | 1, part: number, stddev: number) => {
    out.set(name, { axis, blocks, draw: { stddev, stream: index * 8 + part } });
  };
  const projection = (name: string, blocks: readonly Block[], part: number) => {
    put(`${name}.weight`, blocks, transposed ? 1 : 0, part, initializerRange);
    if (biases.queryKeyValue) put(`${name}.bias`, blocks, 0, part + 4, 0);
  };
  const parts = [
    { mixes: mix.query, before: N },
    { mixes: mix.key, before: K },
    { mixes: mix.value, before: K },
  ];
  if (typeof layer.queryKeyValue === 'string') {
    if (!parts.every(({ mixes, before }) => isSame(mixes, before))) {
      const groups = layer.fusedOrder === 'groups' ? { before: K, after: mix.key.length } : ONE_GROUP;
      projection(layer.queryKeyValue, fusedBlocks(parts, groups, H), 0);
    }
  } else {
    parts.forEach(({ mixes, before }, part) => {
      if (!isSame(mixes, before)) projection(layer.queryKeyValue[part], headBlocks(mixes, before, H), part);
    });
  }
  if (!isSame(mix.output, N)) {
    put(`${layer.attentionOutput}.weight`, headBlocks(mix.output, N, H), transposed ? 0 : 1, 3, 0);
  }
  if (config.queryKeyNorm?.over === 'all' && config.queryKeyNorm.weighted !== false) {
    // Random heads take the mean, since a norm's weight is no random number.
    const keys = mix.key.map((sources, i) =>
      sources.length > 0
        ? sources
        : mix.groups[i].map((head, _, { length }) => ({ head, weight: 1 / length })),
    );
    if (!isSame(mix.query, N)) put(`${layer.queryNorm}.weight`, headBlocks(mix.query, N, H), 0, 7, 0);
    if (!isSame(keys, K)) put(`${layer.keyNorm}.weight`, headBlocks(keys, K, H), 0, 7, 0);
  }
  if (config.attentionSinks && !isSame(mix.query, N)) {
    // A sink moves with its query head; alignment does not change the scores.
    const blocks = mix.query.map(([{ head }]) => ({ size: 1, sources: [{ first: head, weight: 1 }] }));
    put(`${layer.sinks}`, blocks, 0, 7, 0);
  }
  return out;
}

const ONE_GROUP = { before: 1, after: 1 };

/** Blocks of q, k and v in turn, once for every group. */
function fusedBlocks(
  parts: readonly { readonly mixes: readonly HeadMix[]; readonly before: number }[],
  groups: { readonly before: number; readonly after: number },
  H: number,
): Block[] {
  const stride = parts.reduce((sum, { before }) => sum + before, 0) / groups.before;
  let start = 0;
  const blocks = parts.map(({ mixes, before }) => {
    const own = before / groups.before;
    const from = start;
    start += own;
    const place = (head: number) => (Math.floor(head / own) * stride + from + (head % own)) * H;
    return mixes.map((mix) => headBlock(mix, H, place));
  });
  return Array.from({ length: groups.after }, (_, group) =>
    blocks.flatMap((part) => {
      const own = part.length / groups.after;
      return part.slice(group * own, (group + 1) * own);
    }),
  ).flat();
}

function headBlock(mix: HeadMix, H: number, place: (head: number) => number): Block {
  return {
    size: H,
    sources: mix.map(({ head, weight, matrix }) => ({
      first: place(head),
      weight,
      ...(matrix && { matrix }),
    })),
  };
}

/** Heads as blocks of H; one block for all heads when they do not change. */
function headBlocks(mixes: readonly HeadMix[], before: number, H: number): Block[] {
  if (isSame(mixes, before)) return [{ size: before * H, sources: [{ first: 0, weight: 1 }] }];
  return mixes.map((mix) => headBlock(mix, H, (head) => head * H));
}
