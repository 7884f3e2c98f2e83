/** Attention: every option alone and in pairs, head dims around the vector widths, sizes that cross tiles. */
import * as gqa from '../../src/index.ts';
import { type Draw, integers, LENGTHS, normal, type OpCase, type OpCases, opCases } from './op-case.ts';

interface Dims {
  readonly B: number;
  readonly T: number;
  readonly S: number;
  readonly N: number;
  readonly K: number;
  readonly H: number;
  readonly Hv: number;
}

const BASE: Dims = { B: 2, T: 7, S: 11, N: 6, K: 2, H: 13, Hv: 17 };

/** What a row may set: options, and the shapes of the operands that go with them. */
interface Setting {
  readonly options?: gqa.AttentionOptions;
  readonly bias?: number[];
  readonly mask?: number[];
  readonly sinks?: true;
  readonly dtypes?: Readonly<Record<string, gqa.DType>>;
  readonly draw?: Readonly<Record<string, Draw>>;
}

type Attrs = gqa.AttentionOptions;

function attention(
  name: string,
  given: Partial<Dims>,
  setting: Setting = {},
  tolerance = 1e-5,
): OpCase<Attrs> {
  const { B, T, S, N, K, H, Hv } = { ...BASE, ...given, Hv: given.Hv ?? given.H ?? BASE.Hv };
  const options = setting.options ?? {};
  const order = (tokens: number, heads: number, dim: number) =>
    options.layout === 'BNTH' ? [B, heads, tokens, dim] : [B, tokens, heads, dim];
  const shapes: Record<string, number[]> = {
    query: order(T, N, H),
    key: order(S, K, H),
    value: order(S, K, Hv),
  };
  if (setting.bias) shapes.bias = setting.bias;
  if (setting.mask) shapes.mask = setting.mask;
  if (setting.sinks) shapes.sinks = [N];
  return {
    name,
    shapes,
    dtypes: { mask: 'bool', ...setting.dtypes },
    draw: { mask: integers(0, 2), ...setting.draw },
    attrs: options,
    tolerance,
    flops: 2 * B * T * S * N * (H + Hv),
  };
}

const causal = { options: { isCausal: true } };
const heads: [string, Partial<Dims>][] = [
  ['MHA', { N: 5, K: 5 }],
  ['GQA', { N: 6, K: 2 }],
  ['GQA group 4', { N: 12, K: 3 }],
  ['MQA', { N: 7, K: 1 }],
];
const lengths: [number, number][] = [
  [1, 17],
  [7, 7],
  [5, 11],
  [13, 7],
  [1, 1],
  [5, 1],
];

const shapesOfUse = heads.flatMap(([kind, dims]) =>
  lengths.flatMap(([T, S]) =>
    (['BTNH', 'BNTH'] as const).flatMap((layout) =>
      [false, true].map((isCausal) =>
        attention(
          `${kind} T${T} S${S} ${layout}${isCausal ? ' causal' : ''}`,
          { ...dims, T, S },
          { options: { layout, isCausal } },
        ),
      ),
    ),
  ),
);

const headDims = [1, 3, 5, 13, 16, 17, 19, 31, 32, 64, 65, 80, 96, 128].flatMap((H) => [
  attention(`H${H} prefill`, { H, S: 19 }),
  attention(`H${H} decode`, { H, T: 1, S: 37 }),
  attention(`Hv${H} prefill`, { H: 11, Hv: H, S: 19 }, causal),
  attention(`Hv${H} decode`, { H: 11, Hv: H, T: 1, S: 37 }),
]);

/** Values of no dims: the gradient is the log-sum-exp's. */
const noValues = [1, 3, 19].flatMap((S) => [
  attention(`Hv0 S${S} prefill`, { H: 3, Hv: 0, S }, { options: { returnLogSumExp: true } }),
  attention(`Hv0 S${S} decode`, { H: 3, Hv: 0, T: 1, S }, { options: { returnLogSumExp: true } }),
]);

const sequenceLengths = LENGTHS.flatMap((n) => [
  attention(`S${n} decode`, { T: 1, S: n, H: 16 }),
  attention(`S${n} prefill`, { T: 3, S: n, H: 16 }),
  attention(`T${n}`, { T: n, S: 23, H: 8 }),
  attention(`T${n} S${n} causal`, { T: n, S: n, H: 8 }, causal),
]);

/** -Infinity in about a third of the places, and in whole rows of T now and then. */
const maskingBias: Draw = (uniform, i, shape) => {
  const value = normal(uniform, i, shape);
  const row = Math.floor(i / shape[shape.length - 1]);
  return i % 3 === 0 || row % 5 === 0 ? -Infinity : value;
};

const OPTIONS: Record<string, Setting> = {
  causal,
  'causal bottom right': { options: { isCausal: true, causalAlignment: 'bottomRight' } },
  'window 2': { options: { localWindowSize: 2 } },
  'window [3, 1]': { options: { localWindowSize: [3, 1] } },
  'window [1, 0] bottom right': { options: { localWindowSize: [1, 0], causalAlignment: 'bottomRight' } },
  'window [4, Infinity]': { options: { localWindowSize: [4, Infinity] } },
  'chunks of 3': { options: { chunkSize: 3 } },
  'causal chunks of 4 bottom right': {
    options: { chunkSize: 4, isCausal: true, causalAlignment: 'bottomRight' },
  },
  'query lengths': { options: { querySeqLengths: [5, 0] } },
  'key lengths': { options: { keyValueSeqLengths: [4, 11] } },
  'an empty row of keys': { options: { keyValueSeqLengths: [0, 9] } },
  'soft cap': { options: { logitsSoftCap: 1.5 } },
  scale: { options: { scale: 0.7 } },
  sinks: { sinks: true },
  bias: { bias: [2, 6, 7, 11] },
  'bias per head': { bias: [6, 1, 11] },
  'bias that masks': { bias: [2, 1, 7, 11], draw: { bias: maskingBias } },
  'bias bf16': { bias: [7, 1], dtypes: { bias: 'bf16' } },
  mask: { mask: [2, 6, 7, 11] },
  'mask of keys': { mask: [2, 1, 1, 11] },
  'mask of one row': { mask: [11], dtypes: { mask: 'u8' } },
  'log-sum-exp': { options: { returnLogSumExp: true } },
  'dropout broadcast': { options: { dropoutRate: 0.3, dropoutKey: [17, 42] } },
  'dropout per head': {
    options: { dropoutRate: 0.6, dropoutKey: [0, 2 ** 32 - 1], broadcastDropout: false },
  },
  BNTH: { options: { layout: 'BNTH' } },
};

/** `queryOffset`, which excludes `causalAlignment`: one number, one per row, before and behind the keys. */
const offsets = ([3, [4, -2], [30, -30]] as const).flatMap((queryOffset) =>
  [1, 7].flatMap((T) => [
    attention(
      `query offset ${queryOffset} causal T${T}`,
      { T },
      { options: { queryOffset, isCausal: true } },
    ),
    attention(
      `query offset ${queryOffset} chunks T${T}`,
      { T },
      { options: { queryOffset, chunkSize: 4, keyValueSeqLengths: [9, 6] } },
    ),
    attention(
      `query offset ${queryOffset} window T${T}`,
      { T },
      { options: { queryOffset, localWindowSize: [3, 2], keyValueSeqLengths: [9, 6] }, sinks: true },
    ),
  ]),
);

function join(a: Setting, b: Setting): Setting {
  return {
    ...a,
    ...b,
    options: { ...a.options, ...b.options },
    dtypes: { ...a.dtypes, ...b.dtypes },
    draw: { ...a.draw, ...b.draw },
  };
}

const names = Object.keys(OPTIONS);
const pairs = names.flatMap((first, i) => [
  attention(first, {}, OPTIONS[first]),
  // A decode step takes other kernels: every option there too, where its operands' shapes do not name T.
  ...(OPTIONS[first].bias?.includes(7) || OPTIONS[first].mask?.includes(7) || first === 'query lengths'
    ? []
    : [attention(`${first}, decode`, { T: 1 }, OPTIONS[first])]),
  ...names
    .slice(i + 1)
    .map((second) => attention(`${first}, ${second}`, {}, join(OPTIONS[first], OPTIONS[second]))),
]);

const FLOATS: gqa.DType[] = ['f32', 'f16', 'bf16'];
const storage = FLOATS.flatMap((key) =>
  FLOATS.flatMap((value) => [
    attention(`key ${key} value ${value}`, { S: 37 }, { dtypes: { key, value } }),
    attention(`key ${key} value ${value} decode`, { T: 1, S: 67, H: 32 }, { dtypes: { key, value } }),
    attention(
      `key ${key} value ${value} MQA decode`,
      { T: 1, S: 67, N: 8, K: 1, H: 19 },
      { dtypes: { key, value } },
    ),
  ]),
).concat([
  // The output is rounded to the query's type: 11 and 8 bits.
  attention('query f16', {}, { dtypes: { query: 'f16' } }, 2 ** -11),
  attention('query bf16', {}, { dtypes: { query: 'bf16' }, options: { returnLogSumExp: true } }, 2 ** -8),
  attention(
    'all bf16 causal',
    {},
    { dtypes: { query: 'bf16', key: 'bf16', value: 'bf16' }, ...causal },
    2 ** -8,
  ),
]);

/** NaN at tokens that `hidden` names, in `[B, S, K, H]`. */
function poisoned(hidden: (b: number, s: number) => boolean): Draw {
  return (uniform, i, shape) => {
    const [, S, K, H] = shape;
    const token = Math.floor(i / (K * H));
    const value = normal(uniform, i, shape);
    return hidden(Math.floor(token / S), token % S) ? Number.NaN : value;
  };
}

function poison(hidden: (b: number, s: number) => boolean): { key: Draw; value: Draw } {
  return { key: poisoned(hidden), value: poisoned(hidden) };
}

const keyLengths = [4, 9];
const beyond = poison((b, s) => s >= keyLengths[b]);
const third = poison((_, s) => s === 3);
const everyQueryBut: Draw = (_, i) => (i % 11 === 3 ? 0 : 1);
const nan = [1, 7]
  .flatMap((T) => [
    attention(
      `NaN past the key lengths T${T}`,
      { T },
      { options: { keyValueSeqLengths: keyLengths }, draw: beyond },
    ),
    attention(`NaN ahead of the causal mask T${T}`, { T }, { ...causal, draw: poison((_, s) => s >= T) }),
    attention(
      `NaN behind the window T${T}`,
      { T },
      {
        options: { localWindowSize: [2, 1], causalAlignment: 'bottomRight' },
        draw: poison((_, s) => s < 11 - T - 2),
      },
    ),
    attention(`NaN under the mask T${T}`, { T }, { mask: [11], draw: { ...third, mask: everyQueryBut } }),
    attention(
      `NaN under a bias of -Infinity T${T}`,
      { T },
      {
        bias: [11],
        draw: { ...third, bias: (_, i) => (i % 11 === 3 ? -Infinity : 0.5) },
      },
    ),
    attention(
      `NaN under the mask with sinks and log-sum-exp T${T}`,
      { T },
      {
        mask: [11],
        sinks: true,
        options: { returnLogSumExp: true },
        draw: { ...third, mask: everyQueryBut },
      },
    ),
    attention(
      `nothing but NaN, all masked T${T}`,
      { T },
      {
        mask: [1],
        options: { returnLogSumExp: true },
        draw: { ...poison(() => true), mask: () => 0 },
      },
    ),
  ])
  .concat([
    // Queries before the poisoned key must stay clean although others of their tile see it.
    attention('NaN that later queries see', { T: 13, S: 13 }, { ...causal, draw: poison((_, s) => s === 5) }),
    attention(
      'NaN value that later queries see',
      { T: 13, S: 13 },
      { ...causal, draw: { value: poisoned((_, s) => s === 5) } },
    ),
    attention(
      'NaN value that some queries see',
      {},
      {
        mask: [7, 1],
        draw: { value: poisoned((_, s) => s === 5), mask: (_, i) => i % 2 },
      },
    ),
    attention(
      'NaN query',
      {},
      { draw: { query: (uniform, i, shape) => (i < 13 ? Number.NaN : normal(uniform, i, shape)) } },
    ),
  ]);

const edges = [
  attention('S0', { S: 0 }, { options: { returnLogSumExp: true } }),
  attention('S0 decode', { T: 1, S: 0 }),
  attention('S0 with sinks', { S: 0 }, { sinks: true, options: { returnLogSumExp: true } }),
  attention('T0', { T: 0 }, { options: { returnLogSumExp: true } }),
  attention('B0', { B: 0 }),
  attention(
    'no query sees a key',
    { T: 13, S: 5 },
    { options: { localWindowSize: [0, 0], isCausal: true, returnLogSumExp: true } },
  ),
  attention(
    'bottom right, more queries than keys',
    { T: 13, S: 5 },
    {
      options: { isCausal: true, causalAlignment: 'bottomRight', returnLogSumExp: true },
    },
  ),
  attention(
    'bottom right with both lengths',
    {},
    {
      options: {
        isCausal: true,
        causalAlignment: 'bottomRight',
        querySeqLengths: [3, 7],
        keyValueSeqLengths: [8, 5],
      },
    },
  ),
  attention('huge logits', {}, { options: { scale: 1e4, returnLogSumExp: true } }, 2e-5),
  attention('huge logits decode', { T: 1 }, { options: { scale: 1e4 } }, 2e-5),
  attention('tiny logits', {}, { options: { scale: 1e-12 } }),
  attention('scale 0', {}, { options: { scale: 0 } }),
  attention('negative scale', {}, { options: { scale: -0.5 } }),
  attention('large bias', {}, { bias: [2, 1, 7, 11], draw: { bias: (uniform) => 1e30 * (uniform() - 0.5) } }),
  attention(
    'lowest finite bias as a mask',
    {},
    { bias: [7, 11], draw: { bias: (_, i) => (i % 2 ? -3.4e38 : 0) } },
  ),
  attention('sinks of -Infinity', {}, { sinks: true, draw: { sinks: () => -Infinity } }),
  attention(
    'large sinks',
    {},
    { sinks: true, draw: { sinks: () => 50 }, options: { returnLogSumExp: true } },
  ),
];

const tiles = [
  attention('T67 S300 H64', { B: 1, T: 67, S: 300, N: 4, K: 2, H: 64 }),
  attention(
    'T131 S517 H64 bottom right',
    { B: 1, T: 131, S: 517, N: 4, K: 2, H: 64 },
    OPTIONS['causal bottom right'],
  ),
  attention('T131 S131 H128 causal', { B: 1, T: 131, S: 131, N: 8, K: 2, H: 128 }, causal),
  attention(
    'T257 window 33',
    { B: 1, T: 257, S: 257, N: 3, K: 1, H: 32 },
    { options: { localWindowSize: [33, 0], isCausal: true } },
  ),
  attention(
    'T257 bf16 BNTH',
    { B: 2, T: 257, S: 257, N: 4, K: 4, H: 40 },
    {
      options: { isCausal: true, layout: 'BNTH' },
      dtypes: { key: 'bf16', value: 'bf16' },
    },
  ),
  attention(
    'T65 S1031 key lengths',
    { T: 65, S: 1031, N: 6, K: 3, H: 24 },
    {
      options: {
        keyValueSeqLengths: [1031, 513],
        isCausal: true,
        causalAlignment: 'bottomRight',
        returnLogSumExp: true,
      },
    },
  ),
  attention(
    'T131 mask and soft cap',
    { B: 1, T: 131, S: 259, N: 4, K: 2, H: 48 },
    {
      mask: [131, 259],
      options: { logitsSoftCap: 5 },
    },
  ),
  attention(
    'T131 bias and sinks',
    { B: 1, T: 131, S: 259, N: 4, K: 2, H: 48 },
    {
      bias: [4, 131, 259],
      sinks: true,
      options: { returnLogSumExp: true },
    },
  ),
  attention(
    'T131 dropout',
    { B: 2, T: 131, S: 259, N: 4, K: 2, H: 16 },
    {
      options: { dropoutRate: 0.4, dropoutKey: [3, 5], broadcastDropout: false, isCausal: true },
    },
  ),
  attention('decode S4099 GQA', { B: 1, T: 1, S: 4099, N: 8, K: 2, H: 128 }),
  attention(
    'decode S4099 MQA',
    { B: 1, T: 1, S: 4099, N: 8, K: 1, H: 64 },
    { options: { returnLogSumExp: true } },
  ),
  attention(
    'decode S2053 f16 lengths',
    { B: 3, T: 1, S: 2053, N: 6, K: 3, H: 64 },
    {
      options: { keyValueSeqLengths: [2053, 1, 1029] },
      dtypes: { key: 'f16', value: 'f16' },
    },
  ),
  attention(
    'decode S2053 window',
    { B: 2, T: 1, S: 2053, N: 6, K: 3, H: 64 },
    {
      options: { localWindowSize: [511, 0], isCausal: true, causalAlignment: 'bottomRight' },
      sinks: true,
    },
  ),
  attention('T3 S1031', { B: 1, T: 3, S: 1031, N: 8, K: 2, H: 64 }, OPTIONS['causal bottom right']),
  attention('T17 S1031', { B: 1, T: 17, S: 1031, N: 8, K: 2, H: 64 }, OPTIONS['causal bottom right']),
];

export const attentionCases: OpCases = opCases<Attrs>({
  op: 'dotProductAttention',
  run: ({ query, key, value, bias, mask, sinks }, options) =>
    gqa.dotProductAttention(query, key, value, { ...options, bias, mask, sinks }),
  rows: [
    ...shapesOfUse,
    ...headDims,
    ...noValues,
    ...sequenceLengths,
    ...pairs,
    ...offsets,
    ...storage,
    ...nan,
    ...edges,
    ...tiles,
  ],
});
