/** The values of a tensor as text, as `console.log` prints them: of a long axis only the first and last. */
import { DTYPES, type DType, isBlockDType } from './dtype.ts';
import { decode, type NumericArray } from './encode.ts';
import { type Shape, stridesOf } from './shape.ts';
import { ownerOf, type Storage } from './storage.ts';

/** Axes longer than twice this and two more show this many values at each end. */
const EDGE = 3;
/** Axes beyond this rank are printed as one. */
const MAX_RANK = 6;
/** Longer texts have a line for each row. */
const MAX_LINE = 100;

/** Reads only what it prints. */
export function tensorText(storage: Storage, dtype: DType, shape: Shape): string {
  const size = shape.reduce((product, dim) => product * dim, 1);
  const axes = shape.length > MAX_RANK ? [size] : shape;
  const strides = stridesOf(axes);
  const valuesAt = (first: number, count: number) => {
    const values = readRange(storage, dtype, first, count);
    return Array.from(values, (value) => numberText(dtype, value));
  };
  const text = (axis: number, first: number, separator: (axis: number) => string): string => {
    if (axis === axes.length) return valuesAt(first, 1)[0];
    const dim = axes[axis];
    const isLong = dim > 2 * EDGE + 2;
    const isLast = axis === axes.length - 1;
    const part = (from: number, count: number) =>
      isLast
        ? valuesAt(first + from, count)
        : Array.from({ length: count }, (_, i) =>
            text(axis + 1, first + (from + i) * strides[axis], separator),
          );
    const parts = isLong ? [...part(0, EDGE), '…', ...part(dim - EDGE, EDGE)] : part(0, dim);
    return `[${parts.join(isLast ? ', ' : separator(axis))}]`;
  };
  const line = text(0, 0, () => ', ');
  return line.length <= MAX_LINE ? line : text(0, 0, (axis) => `,\n${' '.repeat(axis + 1)}`);
}

/** Elements of a tensor, of block types by way of the whole blocks around them. */
function readRange(storage: Storage, dtype: DType, first: number, count: number): NumericArray {
  if (count === 0) return new Float32Array(0);
  const { blockLength, blockBytes } = DTYPES[dtype];
  const block = Math.floor(first / blockLength);
  const blocks = Math.ceil((first + count) / blockLength) - block;
  const bytes = ownerOf(storage).read(storage, block * blockBytes, blocks * blockBytes);
  const skipped = first - block * blockLength;
  return decode(dtype, bytes, blocks * blockLength).subarray(skipped, skipped + count);
}

function numberText(dtype: DType, value: number): string {
  if (dtype === 'bool') return String(value !== 0);
  const isFloat = isBlockDType(dtype) || dtype.includes('f');
  // Seven digits hold an f32; more would print 0.1 as 0.10000000149011612.
  return Object.is(value, -0) ? '-0' : String(isFloat ? Number(value.toPrecision(7)) : value);
}
