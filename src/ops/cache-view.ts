/**
 * Copies and checks the view of a cache that attention reads. A view is a plain object that programs can
 * build, and kernels read the addresses in it, so each number is checked against its memory.
 */

import { checkObject, describe } from '../arguments/kinds.ts';
import type { Backend } from '../backend/backend.ts';
import type { KeyValueSegment, KeyValueView } from '../backend/calls/attention.ts';
import { byteLengthOf, DTYPES, type DType, isBlockDType, isDType } from '../tensor/dtype.ts';
import { UnsupportedError } from '../tensor/errors.ts';
import { isFreed, ownerOf, Storage } from '../tensor/storage.ts';
import { MAX_COUNT } from './attention-call.ts';

/** Keys and values of a cache, read in place by attention, with the cache's own window. */
export interface CacheView extends KeyValueView {
  /** Maximum number of keys a query sees, its own included; default all. */
  readonly window?: number;
  /** First keys of a row that the window does not hide; default 0. */
  readonly pinned?: number;
}

/** Memory layout of the keys or of the values. */
interface Side {
  readonly name: 'key' | 'value';
  readonly dtype: DType;
  readonly tokenStride: number;
  /** Elements that a token spans. */
  readonly tokenLength: number;
  /** Added to the offsets of row b, b times. */
  readonly rowBytes: number;
}

/**
 * @throws TypeError for wrong types; RangeError for numbers that are inconsistent or outside the memory;
 *   Error for memory of another backend or of a disposed cache
 */
export function checkedView(op: string, backend: Backend, view: CacheView): CacheView {
  const { keyDtype, valueDtype, window, pinned = 0, rows, keyRowBytes = 0, valueRowBytes = 0 } = view;
  const count = (name: string, value: number, least = 0) => checkCount(op, name, value, least);
  const numKeyValueHeads = count('numKeyValueHeads', view.numKeyValueHeads, 1);
  const headDim = count('headDim', view.headDim);
  const valueHeadDim = count('valueHeadDim', view.valueHeadDim);
  const keyTokenStride = count('keyTokenStride', view.keyTokenStride);
  const keyHeadStride = count('keyHeadStride', view.keyHeadStride);
  const valueTokenStride = count('valueTokenStride', view.valueTokenStride);
  const valueHeadStride = count('valueHeadStride', view.valueHeadStride);
  if (window !== undefined && window !== Infinity) count('window', window, 1);
  count('pinned', pinned);
  const side = (
    name: Side['name'],
    dtype: DType,
    tokenStride: number,
    headStride: number,
    dim: number,
    rowBytes: number,
  ): Side => {
    checkStrides(op, backend, name, dtype, tokenStride, headStride);
    count(`${name}RowBytes`, rowBytes);
    return { name, dtype, tokenStride, tokenLength: (numKeyValueHeads - 1) * headStride + dim, rowBytes };
  };
  const key = side('key', keyDtype, keyTokenStride, keyHeadStride, headDim, keyRowBytes);
  const value = side('value', valueDtype, valueTokenStride, valueHeadStride, valueHeadDim, valueRowBytes);
  const ownRows = Array.from(rows, (row, b) => checkedRow(op, backend, row, b, key, value));
  return {
    keyDtype,
    valueDtype,
    numKeyValueHeads,
    headDim,
    valueHeadDim,
    keyTokenStride,
    keyHeadStride,
    valueTokenStride,
    valueHeadStride,
    rows: ownRows,
    keyRowBytes,
    valueRowBytes,
    window,
    pinned,
  };
}

function checkedRow(
  op: string,
  backend: Backend,
  row: KeyValueView['rows'][number],
  b: number,
  key: Side,
  value: Side,
): KeyValueView['rows'][number] {
  checkObject(op, 'a view of a cache', row?.segments);
  const length = checkCount(op, `the length of row ${b}`, row.length);
  let held = 0;
  const segments = Array.from(row.segments, (segment): KeyValueSegment => {
    const own = {
      key: segment.key,
      keyByteOffset: segment.keyByteOffset,
      value: segment.value,
      valueByteOffset: segment.valueByteOffset,
      length: checkCount(op, 'the length of a segment', segment.length),
    };
    checkSegment(op, backend, key, own.key, own.keyByteOffset, own.length, b);
    checkSegment(op, backend, value, own.value, own.valueByteOffset, own.length, b);
    held += own.length;
    return own;
  });
  if (length > held || held > MAX_COUNT) {
    throw new RangeError(
      `${op}: expected segments of row ${b} to hold from ${length} to ${MAX_COUNT} tokens, got ${held}`,
    );
  }
  return { length, segments };
}

/** @throws unless the tokens of a segment lie inside its storage */
function checkSegment(
  op: string,
  backend: Backend,
  { name, dtype, tokenStride, tokenLength, rowBytes }: Side,
  storage: Storage,
  byteOffset: number,
  length: number,
  b: number,
): void {
  if (!(storage instanceof Storage)) {
    throw new TypeError(
      `${op}: expected a view's ${name} to be a backend's memory, got ${describe(storage)}`,
    );
  }
  if (isFreed(storage)) throw new Error(`${op}: expected the view of a live cache, got one after dispose()`);
  const owner = ownerOf(storage);
  if (owner !== backend) {
    throw new Error(`${op}: expected query and view on one backend, got ${backend.name} and ${owner.name}`);
  }
  checkCount(op, `${name}ByteOffset`, byteOffset);
  const { blockLength, blockBytes } = DTYPES[dtype];
  const from = byteOffset + b * rowBytes;
  const tokens = Math.ceil(((length - 1) * tokenStride + tokenLength) / blockLength) * blockLength;
  const end = length === 0 ? from : from + byteLengthOf(dtype, tokens);
  if (from % (blockLength > 1 ? 2 : blockBytes) === 0 && end <= storage.byteLength) return;
  throw new RangeError(
    `${op}: expected a view's ${name} inside its ${storage.byteLength} bytes of ${dtype}, got ${length} tokens from byte ${from} to ${end}`,
  );
}

function checkStrides(
  op: string,
  backend: Backend,
  name: string,
  dtype: DType,
  tokenStride: number,
  headStride: number,
): void {
  if (!isDType(dtype))
    throw new TypeError(`${op}: expected ${name}Dtype to be a dtype, got ${describe(dtype)}`);
  const plain = dtype === 'f32' || dtype === 'f16' || dtype === 'bf16' || dtype === 'f64';
  if (!plain && dtype !== 'q8_0') throw new UnsupportedError(op, dtype, backend.name);
  const { blockLength } = DTYPES[dtype];
  if (isBlockDType(dtype) && (tokenStride % blockLength !== 0 || headStride % blockLength !== 0)) {
    throw new RangeError(
      `${op}: expected ${name} strides of whole blocks of ${blockLength}, got ${tokenStride} and ${headStride}`,
    );
  }
}

function checkCount(op: string, name: string, value: number, least = 0): number {
  if (Number.isSafeInteger(value) && value >= least) return value;
  throw new RangeError(
    `${op}: expected ${name} of a view to be an integer from ${least} on, got ${describe(value)}`,
  );
}
