/** Attention over cache views: pages in any order, rings, rows of different lengths. */
import * as gqa from '../../src/index.ts';
import { byteLengthOf } from '../../src/tensor/dtype.ts';
import { integers, type OpCase, type OpCases, opCases } from './op-case.ts';

/** One piece of a row: `length` tokens of page `page`, from token `from`. */
interface Piece {
  readonly page: number;
  readonly from?: number;
  readonly length: number;
}

interface AttendAttrs {
  readonly rows: readonly { readonly length: number; readonly pieces: readonly Piece[] }[];
  readonly options?: gqa.AttendOptions;
  /** Pages are `[P, K, page, H]` instead of `[P, page, K, H]`. */
  readonly headMajor?: boolean;
}

interface Pool {
  readonly T: number;
  readonly N: number;
  readonly K: number;
  readonly H: number;
  readonly Hv?: number;
  readonly pages: number;
  readonly page: number;
  readonly dtype?: gqa.DType;
  readonly sinks?: boolean;
  /** Shapes that broadcast to `[B, N, T, S]`. */
  readonly mask?: readonly number[];
  readonly bias?: readonly number[];
}

function attend(name: string, pool: Pool, attrs: AttendAttrs, tolerance = 1e-5): OpCase<AttendAttrs> {
  const { T, N, K, H, Hv = H, pages, page, dtype = 'f32' } = pool;
  // Block types hold whole blocks per head.
  const stored = (dim: number) => (dtype === 'q8_0' ? Math.ceil(dim / 32) * 32 : dim);
  const order = (dim: number) =>
    attrs.headMajor ? [pages, K, page, stored(dim)] : [pages, page, K, stored(dim)];
  return {
    name,
    shapes: {
      query: [attrs.rows.length, T, N, H],
      key: order(H),
      value: order(Hv),
      ...(pool.sinks ? { sinks: [N] } : {}),
      ...(pool.mask ? { mask: pool.mask } : {}),
      ...(pool.bias ? { bias: pool.bias } : {}),
    },
    dtypes: { key: dtype, value: dtype, mask: 'bool' },
    draw: { mask: integers(0, 2) },
    attrs,
    tolerance,
  };
}

function viewOf(
  query: gqa.Tensor,
  key: gqa.Tensor,
  value: gqa.Tensor,
  { rows, headMajor }: AttendAttrs,
  valueHeadDim: number,
): gqa.KeyValueView {
  const [page, K] = headMajor ? [key.shape[2], key.shape[1]] : [key.shape[1], key.shape[2]];
  const [keyDim, valueDim] = [key.shape[3], value.shape[3]];
  const strides = (dim: number) => (headMajor ? [dim, page * dim] : [K * dim, dim]);
  const [keyTokenStride, keyHeadStride] = strides(keyDim);
  const [valueTokenStride, valueHeadStride] = strides(valueDim);
  return {
    keyDtype: key.dtype,
    valueDtype: value.dtype,
    numKeyValueHeads: K,
    headDim: query.shape[3],
    valueHeadDim,
    keyTokenStride,
    keyHeadStride,
    valueTokenStride,
    valueHeadStride,
    rows: rows.map(({ length, pieces }) => ({
      length,
      segments: pieces.map(({ page: index, from = 0, length: tokens }) => ({
        key: key.storage,
        keyByteOffset: byteLengthOf(key.dtype, index * page * K * keyDim + from * keyTokenStride),
        value: value.storage,
        valueByteOffset: byteLengthOf(value.dtype, index * page * K * valueDim + from * valueTokenStride),
        length: tokens,
      })),
    })),
  };
}

/** Two rows of pages of 16 in mixed order, the last of each half full. */
const paged = {
  rows: [
    {
      length: 37,
      pieces: [
        { page: 4, length: 16 },
        { page: 1, length: 16 },
        { page: 6, length: 16 },
      ],
    },
    {
      length: 19,
      pieces: [
        { page: 2, length: 16 },
        { page: 0, length: 3 },
      ],
    },
  ],
};
/** A ring of 11 whose oldest token is at 7, and one not yet full. */
const ring = {
  rows: [
    {
      length: 11,
      pieces: [
        { page: 0, from: 7, length: 4 },
        { page: 0, from: 0, length: 7 },
      ],
    },
    { length: 5, pieces: [{ page: 1, length: 5 }] },
  ],
};
const single = {
  rows: [
    { length: 13, pieces: [{ page: 0, length: 17 }] },
    { length: 17, pieces: [{ page: 1, length: 17 }] },
  ],
};
const POOL: Pool = { T: 3, N: 6, K: 2, H: 13, pages: 7, page: 16 };

const layouts: [string, Partial<Pool>, AttendAttrs][] = [
  ['paged', {}, paged],
  ['ring', { pages: 2, page: 11 }, ring],
  ['static', { pages: 2, page: 17 }, single],
  ['static head-major', { pages: 2, page: 17 }, { ...single, headMajor: true }],
];
const settings: [string, Partial<Pool>, gqa.AttendOptions][] = [
  ['causal', {}, {}],
  ['not causal', {}, { isCausal: false }],
  ['decode', { T: 1 }, {}],
  ['decode MQA', { T: 1, N: 5, K: 1 }, {}],
  ['decode MHA', { T: 1, N: 3, K: 3 }, {}],
  ['Hv 32', { Hv: 32 }, {}],
  ['window', {}, { localWindowSize: [3, 0] }],
  ['sinks', { sinks: true }, {}],
  ['sinks decode window', { T: 1, sinks: true }, { localWindowSize: 4 }],
  ['soft cap and scale', {}, { logitsSoftCap: 2, scale: 0.5 }],
  ['query lengths', {}, { queryLengths: [1, 3] }],
  ['query offsets', {}, { queryOffsets: [2, 0] }],
  ['chunks', {}, { chunkSize: 5 }],
  ['chunks of sequences whose first keys are gone', {}, { chunkSize: 5, queryPositions: [30, 3] }],
  ['decode in chunks', { T: 1 }, { chunkSize: 7, queryPositions: [30, 3] }],
];

export const attendCases: OpCases = opCases<AttendAttrs>({
  op: 'attend',
  run: ({ query, key, value, sinks, mask, bias }, attrs) => {
    // The oracle's pool is f64 of the same padded shape; Hv of a padded pool is its stored width.
    const view = viewOf(query, key, value, attrs, value.shape[3]);
    return gqa.attend(query, view, { ...attrs.options, sinks, mask, bias });
  },
  rows: [
    ...layouts.flatMap(([layout, pool, attrs]) =>
      settings.map(([setting, more, options]) =>
        attend(`${layout}, ${setting}`, { ...POOL, ...pool, ...more }, { ...attrs, options }),
      ),
    ),
    ...(['f16', 'bf16', 'q8_0'] as const).flatMap((dtype) =>
      [
        ['prefill', { T: 3, H: 64 }],
        ['decode', { T: 1, H: 64 }],
        ['decode padded head', { T: 1, H: 40 }],
        ['prefill padded head', { T: 5, H: 19 }],
      ].map(([name, more]) =>
        attend(`paged ${dtype} ${name}`, { ...POOL, ...(more as Partial<Pool>), dtype }, paged),
      ),
    ),
    attend(
      'long ragged pages',
      { ...POOL, T: 67, H: 64, pages: 40, page: 16 },
      {
        rows: [
          { length: 311, pieces: Array.from({ length: 20 }, (_, i) => ({ page: (i * 7) % 40, length: 16 })) },
          { length: 80, pieces: Array.from({ length: 5 }, (_, i) => ({ page: 39 - i, length: 16 })) },
        ],
      },
    ),
    attend(
      'long ragged pages decode',
      { ...POOL, T: 1, H: 128, pages: 40, page: 16 },
      {
        rows: [
          { length: 640, pieces: Array.from({ length: 40 }, (_, i) => ({ page: (i * 7) % 40, length: 16 })) },
          { length: 1, pieces: [{ page: 3, length: 16 }] },
          {
            length: 33,
            pieces: [
              { page: 9, length: 16 },
              { page: 8, length: 16 },
              { page: 7, length: 16 },
            ],
          },
        ],
      },
    ),
    attend(
      'pieces of one token',
      { ...POOL, T: 3 },
      {
        rows: [
          {
            length: 23,
            pieces: Array.from({ length: 23 }, (_, i) => ({ page: (i * 3) % 7, from: i % 16, length: 1 })),
          },
        ],
      },
    ),
    ...[1, 3].flatMap((T) => [
      attend(`mask of keys T${T}`, { ...POOL, T, mask: [2, 1, 1, 37] }, paged),
      attend(`mask and bias T${T}`, { ...POOL, T, mask: [6, T, 37], bias: [2, 6, T, 37] }, paged),
      attend(`bias of a ring T${T}`, { ...POOL, pages: 2, page: 11, T, bias: [11] }, ring),
      attend(
        `mask, window, offsets T${T}`,
        { ...POOL, T, mask: [T, 37] },
        { ...paged, options: { localWindowSize: [9, 2], isCausal: false, queryOffsets: [20, 4] } },
      ),
    ]),
    attend('an empty row', { ...POOL, T: 2 }, { rows: [{ length: 0, pieces: [] }, paged.rows[1]] }),
  ],
});
