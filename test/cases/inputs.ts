/** Inputs of an op case: drawn from the row's seed, rounded to their dtype, as tensors of a backend. */
import type { Backend } from '../../src/backend/backend.ts';
import { type DType, Tensor } from '../../src/index.ts';
import { byteLengthOf, isBlockDType } from '../../src/tensor/dtype.ts';
import { decode, encode } from '../../src/tensor/encode.ts';
import { numberToHalf } from '../../src/tensor/half.ts';
import { sizeOf } from '../../src/tensor/shape.ts';
import { normal, type OpCase } from './op-case.ts';

/** Bytes of each input in its own dtype, and the numbers they stand for. */
export interface CaseInput {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly values: ArrayLike<number>;
}

/** FNV-1a of the row's name: the same inputs in every run and on every machine. */
export function seedOf(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** Mulberry32: small, seeded, good enough to fill arrays. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function drawInputs(row: OpCase): CaseInput[] {
  const uniform = randomFrom(seedOf(row.name));
  return Object.entries(row.shapes).map(([name, shape]) => {
    const dtype = row.dtypes?.[name] ?? 'f32';
    const draw = row.draw?.[name] ?? normal;
    const drawn = Float64Array.from({ length: sizeOf(shape) }, (_, i) => draw(uniform, i, shape));
    const bytes = isBlockDType(dtype) ? quantize(dtype, drawn) : encode(dtype, drawn);
    return { name, dtype, shape, bytes, values: decode(dtype, bytes, drawn.length) };
  });
}

/** The input as it is, on `backend`. */
export function storedTensor(backend: Backend, input: CaseInput): Tensor {
  const storage = backend.allocate(input.bytes.byteLength);
  backend.write(storage, input.bytes);
  return new Tensor(storage, input.dtype, input.shape);
}

/** The input for the oracle: floats and blocks as f64, integers and bools as they are. */
export function oracleTensor(reference: Backend, input: CaseInput): Tensor {
  if (['i32', 'u32', 'u8', 'bool'].includes(input.dtype)) return storedTensor(reference, input);
  return storedTensor(reference, { ...input, dtype: 'f64', bytes: encode('f64', input.values) });
}

/** Blocks of 32 by the plain rule (scale from the largest magnitude); only tests write blocks. */
export function quantize(dtype: DType, values: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(byteLengthOf(dtype, values.length));
  const blockBytes = byteLengthOf(dtype, 32);
  for (let block = 0; block * 32 < values.length; block++) {
    const row = Array.from({ length: 32 }, (_, i) => values[block * 32 + i]);
    const at = block * blockBytes;
    const view = new DataView(bytes.buffer, at, blockBytes);
    const [low, high] = [Math.min(...row), Math.max(...row)];
    const magnitude = Math.max(-low, high) || 1;
    const scale =
      dtype === 'q8_0' ? magnitude / 127 : dtype === 'q4_0' ? magnitude / 7 : (high - low) / 15 || 1;
    view.setUint16(0, numberToHalf(scale), true);
    if (dtype === 'q8_0') {
      for (let i = 0; i < 32; i++) view.setInt8(2 + i, Math.round(row[i] / scale));
      continue;
    }
    if (dtype === 'q4_1') view.setUint16(2, numberToHalf(low), true);
    const data = dtype === 'q4_1' ? 4 : 2;
    const level = (x: number) =>
      Math.min(15, Math.max(0, Math.round(dtype === 'q4_1' ? (x - low) / scale : x / scale + 8)));
    for (let i = 0; i < 16; i++) bytes[at + data + i] = level(row[i]) | (level(row[i + 16]) << 4);
  }
  return bytes;
}
