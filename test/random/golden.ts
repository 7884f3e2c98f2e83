/** All arrays of a golden safetensors file, for the tests of random, nn and flax. */
import { readFileSync } from 'node:fs';

export interface GoldenArray {
  readonly shape: number[];
  readonly values: Float32Array | Int32Array | Uint32Array | Uint8Array;
}

const TYPES = { F32: Float32Array, I32: Int32Array, U32: Uint32Array, U8: Uint8Array };

export function readGolden(url: URL): Record<string, GoldenArray> {
  const file = readFileSync(url);
  const headerLength = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerLength)) as Record<
    string,
    { dtype: keyof typeof TYPES; shape: number[]; data_offsets: [number, number] }
  >;
  const arrays: Record<string, GoldenArray> = {};
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const [from, to] = data_offsets.map((offset) => 8 + headerLength + offset);
    const bytes = new Uint8Array(file.subarray(from, to));
    arrays[name] = { shape, values: new TYPES[dtype](bytes.buffer) };
  }
  return arrays;
}
