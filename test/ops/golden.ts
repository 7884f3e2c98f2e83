/**
 * Golden vectors: the cases of a JSON file and the tensors of the safetensors file beside it
 * (test/golden/README.md).
 */
import { readFileSync } from 'node:fs';
import type { DType } from '../../src/index.ts';
import { encode } from '../../src/tensor/encode.ts';
import type { CaseInput } from '../cases/inputs.ts';

export interface GoldenFile<Case> {
  readonly cases: readonly Case[];
  /** The whole JSON file. */
  readonly json: Readonly<Record<string, unknown>>;
  /** An array as an input that any backend can take, or undefined. */
  input(name: string): CaseInput | undefined;
  /** The numbers of an array. @throws Error when there is none of that name. */
  values(name: string): ArrayLike<number>;
}

const folder = new URL('../golden/', import.meta.url);

export function readGolden<Case>(name: string): GoldenFile<Case> {
  const json = JSON.parse(readFileSync(new URL(`${name}.json`, folder), 'utf8')) as { cases: Case[] };
  const file = readFileSync(new URL(`${name}.safetensors`, folder));
  const headerLength = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerLength)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const read = (key: string): CaseInput | undefined => {
    const entry = header[key];
    if (!entry) return undefined;
    const [from, to] = entry.data_offsets.map((offset) => 8 + headerLength + offset);
    const bytes = new Uint8Array(file.subarray(from, to));
    const array = {
      F32: () => new Float32Array(bytes.buffer),
      I32: () => new Int32Array(bytes.buffer),
      U32: () => new Uint32Array(bytes.buffer),
      U8: () => bytes,
    }[entry.dtype];
    if (!array) throw new Error(`${name}: ${key} is ${entry.dtype}`);
    const dtype = entry.dtype.toLowerCase() as DType;
    return { name: key, dtype, shape: entry.shape, bytes, values: array() };
  };
  return {
    cases: json.cases,
    json: { ...json },
    input: read,
    values(key) {
      const found = read(key);
      if (!found) throw new Error(`${name}: no array ${key}`);
      return found.values;
    },
  };
}

/** The same input in another float type. */
export function recast(input: CaseInput, dtype: DType): CaseInput {
  return { ...input, dtype, bytes: encode(dtype, input.values) };
}
