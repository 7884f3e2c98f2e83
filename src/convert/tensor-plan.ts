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
  /** Where each source, of the same size, begins in the old tensor. Empty: a random block, or `values`. */
  readonly sources: readonly BlockSource[];
  /** `[size, other axis]`: the block's numbers, in place of sources. */
  readonly values?: Float32Array;
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
  const projection = (
    name: string,
    make: (own: readonly HeadPart[]) => Block[],
    own: HeadPart[],
    part: number,
  ) => {
    put(`${name}.weight`, make(own), transposed ? 1 : 0, part, initializerRange);
    const sums = own.map(({ mixes, before }) => ({ mixes, before }));
    if (biases.queryKeyValue) put(`${name}.bias`, make(sums), 0, part + 4, 0);
  };
  const { weights } = mix;
  const parts: HeadPart[] = [
    { mixes: mix.query, before: N, values: weights?.query },
    { mixes: mix.key, before: K, values: weights?.key },
    { mixes: mix.value, before: K, values: weights?.value },
  ];
  if (typeof layer.queryKeyValue === 'string') {
    if (!parts.every(isUnchanged)) {
      const groups = layer.fusedOrder === 'groups' ? { before: K, after: mix.key.length } : ONE_GROUP;
      projection(layer.queryKeyValue, (own) => fusedBlocks(own, groups, H), parts, 0);
    }
  } else {
    parts.forEach((own, part) => {
      if (isUnchanged(own)) return;
      projection(layer.queryKeyValue[part], ([one]) => headBlocks(one, H), [own], part);
    });
  }
  const output: HeadPart = { mixes: mix.output, before: N, values: weights?.output };
  if (!isUnchanged(output)) {
    put(`${layer.attentionOutput}.weight`, headBlocks(output, H), transposed ? 0 : 1, 3, 0);
  }
  if (config.queryKeyNorm?.over === 'all' && config.queryKeyNorm.weighted !== false) {
    // Random heads take the mean, since a norm's weight is no random number.
    const keys = mix.key.map((sources, i) =>
      sources.length > 0
        ? sources
        : mix.groups[i].map((head, _, { length }) => ({ head, weight: 1 / length })),
    );
    if (!isSame(mix.query, N))
      put(`${layer.queryNorm}.weight`, headBlocks({ mixes: mix.query, before: N }, H), 0, 7, 0);
    if (!isSame(keys, K)) put(`${layer.keyNorm}.weight`, headBlocks({ mixes: keys, before: K }, H), 0, 7, 0);
  }
  if (config.attentionSinks && !isSame(mix.query, N)) {
    // A sink moves with its query head; alignment does not change the scores.
    const blocks = mix.query.map(([{ head }]) => ({ size: 1, sources: [{ first: head, weight: 1 }] }));
    put(`${layer.sinks}`, blocks, 0, 7, 0);
  }
  return out;
}

const ONE_GROUP = { before: 1, after: 1 };

/** The new heads of one projection, as sums of the `before` old ones or as numbers. */
interface HeadPart {
  readonly mixes: readonly HeadMix[];
  readonly before: number;
  /** `[heads * H, D]` */
  readonly values?: Float32Array;
}

function isUnchanged({ mixes, before, values }: HeadPart): boolean {
  return values === undefined && isSame(mixes, before);
}

/** Blocks of q, k and v in turn, once for every group. */
function fusedBlocks(
  parts: readonly HeadPart[],
  groups: { readonly before: number; readonly after: number },
  H: number,
): Block[] {
  const stride = parts.reduce((sum, { before }) => sum + before, 0) / groups.before;
  let start = 0;
  const blocks = parts.map((part) => {
    const { mixes, before } = part;
    const own = before / groups.before;
    const from = start;
    start += own;
    const place = (head: number) => (Math.floor(head / own) * stride + from + (head % own)) * H;
    return mixes.map((_, head) => headBlock(part, head, H, place));
  });
  return Array.from({ length: groups.after }, (_, group) =>
    blocks.flatMap((part) => {
      const own = part.length / groups.after;
      return part.slice(group * own, (group + 1) * own);
    }),
  ).flat();
}

function headBlock(
  { mixes, values }: HeadPart,
  index: number,
  H: number,
  place: (head: number) => number,
): Block {
  if (values) {
    const size = values.length / mixes.length;
    return { size: H, sources: [], values: values.subarray(index * size, (index + 1) * size) };
  }
  return {
    size: H,
    sources: mixes[index].map(({ head, weight, matrix }) => ({
      first: place(head),
      weight,
      ...(matrix && { matrix }),
    })),
  };
}

/** Heads as blocks of H; one block for all heads when they do not change. */
function headBlocks(part: HeadPart, H: number): Block[] {
  if (isUnchanged(part)) return [{ size: part.before * H, sources: [{ first: 0, weight: 1 }] }];
  return part.mixes.map((_, index) => headBlock(part, index, H, (head) => head * H));
}
