/** Fill, dtype conversion, strided copies and embedding lookup of the reference backend. */
import { byteLengthOf, DTYPES } from '../../tensor/dtype.ts';
import { encode } from '../../tensor/encode.ts';
import { encodeQ8 } from '../../tensor/encode-q8.ts';
import { sizeOf } from '../../tensor/shape.ts';
import type { ArgumentsOf } from '../calls/call.ts';
import * as calls from '../calls/copy.ts';
import { bytesOf, decodeAt, store, valuesOf, walk } from './memory.ts';

export function fill({ out, count, value }: ArgumentsOf<typeof calls.fill>): void {
  store(out, new Float64Array(count).fill(value));
}

export function convert({ out, outOffset = 0, x, xOffset = 0, count }: calls.ConvertCall): void {
  calls.checkConversion('reference', out, x);
  const from = byteLengthOf(x.dtype, xOffset);
  const to = byteLengthOf(out.dtype, outOffset);
  if (out.dtype === x.dtype) {
    const bytes = bytesOf(x.storage).subarray(from, from + byteLengthOf(x.dtype, count));
    bytesOf(out.storage).set(bytes, to);
    return;
  }
  const values = decodeAt(x.storage, x.dtype, from, count);
  if (out.dtype === 'q8_0') {
    bytesOf(out.storage).set(encodeQ8(values), to);
    return;
  }
  const truth = out.dtype === 'bool';
  bytesOf(out.storage).set(
    encode(out.dtype, truth ? Array.from(values, (v) => Number(v !== 0)) : values),
    to,
  );
}

export function copyStrided(call: calls.CopyStridedCall): void {
  const { out, outOffset = 0, outStrides, x, xOffset = 0, xStrides, shape } = call;
  const width = DTYPES[x.dtype].blockBytes;
  const from = bytesOf(x.storage);
  const to = bytesOf(out.storage);
  walk(shape, [outStrides, xStrides], (o, i) => {
    for (let byte = 0; byte < width; byte++)
      to[(outOffset + o) * width + byte] = from[(xOffset + i) * width + byte];
  });
}

export function select({ out, condition, x, y, count }: ArgumentsOf<typeof calls.select>): void {
  const chosen = valuesOf(condition);
  const width = DTYPES[x.dtype].blockBytes;
  for (let i = 0; i < count; i++) {
    const from = bytesOf((chosen[i] ? x : y).storage);
    bytesOf(out.storage).set(from.subarray(i * width, (i + 1) * width), i * width);
  }
}

export function embedding({ out, table, dim, ids, count }: ArgumentsOf<typeof calls.embedding>): void {
  const rowBytes = byteLengthOf(table.dtype, dim);
  const result = new Float64Array(count * dim);
  valuesOf(ids).forEach((id, i) => {
    result.set(decodeAt(table.storage, table.dtype, id * rowBytes, dim), i * dim);
  });
  store(out, result);
}

export function embeddingBackward({
  dTable,
  dim,
  ids,
  dOut,
}: ArgumentsOf<typeof calls.embeddingBackward>): void {
  const g = valuesOf(dOut);
  const result = new Float64Array(sizeOf(dTable.shape));
  valuesOf(ids).forEach((id, i) => {
    for (let d = 0; d < dim; d++) result[id * dim + d] += g[i * dim + d];
  });
  store(dTable, result);
}
