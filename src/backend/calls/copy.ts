/** Copies (kernels/copy.c): fill, dtype conversion, strided copies, embedding lookup. */
import { DTYPES, isBlockDType } from '../../tensor/dtype.ts';
import { UnsupportedError } from '../../tensor/errors.ts';
import type { Shape } from '../../tensor/shape.ts';
import { at, codeOf, type Operand, type PackedCall } from './call.ts';

/** Sets the `count` elements of `out` (a plain dtype) to `value`. */
export const fill = { name: 'fill', fields: { out: 'stored', count: 'number', value: 'number' } } as const;

/**
 * `out[outOffset + i] = x[xOffset + i]` for `count` elements, converting between f32, f16, bf16, i32, u32, u8
 * and bool (bool from others: nonzero = 1; floats to integers truncate) and from block types to f32 and from
 * f32 to q8_0 (offsets and count whole blocks). Equal dtypes copy bytes. Caches store K and V by this call.
 */
export interface ConvertCall {
  readonly out: Operand;
  /** Offsets count elements; default 0. */
  readonly outOffset?: number;
  readonly x: Operand;
  readonly xOffset?: number;
  readonly count: number;
}

export const convert: PackedCall<ConvertCall, 'convert'> = {
  name: 'convert',
  pack(host, { out, outOffset = 0, x, xOffset = 0, count }) {
    checkConversion(host.name, out, x);
    const block = host.block(7);
    block[0] = at(out);
    block[1] = codeOf(host, 'convert', out.dtype);
    block[2] = outOffset;
    block[3] = at(x);
    block[4] = codeOf(host, 'convert', x.dtype);
    block[5] = xOffset;
    block[6] = count;
  },
};

/** @throws UnsupportedError for a conversion to a block type, except f32 to q8_0 */
export function checkConversion(backend: string, out: Operand, x: Operand): void {
  if (!isBlockDType(out.dtype) || out.dtype === x.dtype) return;
  if (out.dtype === 'q8_0' && x.dtype === 'f32') return;
  throw new UnsupportedError('convert', `${x.dtype} to ${out.dtype}`, backend);
}

/**
 * `out[outOffset + idx . outStrides] = x[xOffset + idx . xStrides]` over all idx of `shape` (rank 1 to 6);
 * same plain dtype.
 */
export interface CopyStridedCall {
  readonly out: Operand;
  /** Offsets and strides count elements; offsets are 0 by default. */
  readonly outOffset?: number;
  readonly outStrides: readonly number[];
  readonly x: Operand;
  readonly xOffset?: number;
  readonly xStrides: readonly number[];
  readonly shape: Shape;
}

export const copyStrided: PackedCall<CopyStridedCall, 'copyStrided'> = {
  name: 'copyStrided',
  pack(host, { out, outOffset = 0, outStrides, x, xOffset = 0, xStrides, shape }) {
    const elementBytes = DTYPES[x.dtype].blockBytes;
    const head = [at(out), outOffset, at(x), xOffset, elementBytes, shape.length];
    host.block(head.length + 3 * shape.length).set([...head, ...shape, ...outStrides, ...xStrides]);
  },
};

/** `out[i] = condition[i] ? x[i] : y[i]`; condition bool, the others of one plain dtype. */
export const select = {
  name: 'select',
  fields: {
    out: 'operand',
    condition: 'operand',
    x: 'operand',
    y: 'operand',
    elementBytes: 'number',
    count: 'number',
  },
} as const;

/**
 * `out[i] = table[ids[i]]`: table `[V, dim]` f32, f16, bf16 or a block type, `count` i32 ids (checked by the
 * op), out `[count, dim]` f32.
 */
export const embedding = {
  name: 'embedding',
  fields: { out: 'f32', table: 'stored', dim: 'number', ids: 'operand', count: 'number' },
} as const;

/**
 * `dTable[vocabSize, dim]`: row i is the sum of the rows of `dOut` with id i, added in the order of the ids.
 */
export const embeddingBackward = {
  name: 'embeddingBackward',
  fields: {
    dTable: 'f32',
    vocabSize: 'number',
    dim: 'number',
    ids: 'operand',
    count: 'number',
    dOut: 'f32',
  },
} as const;
