/** Files built byte by byte for the parser tests, without any of the code under test. */

/** A safetensors file from header text (or an object) and data. */
export function buildSafetensors(header: string | object, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const out = new Uint8Array(8 + json.length + data.length);
  new DataView(out.buffer).setBigUint64(0, BigInt(json.length), true);
  out.set(json, 8);
  out.set(data, 8 + json.length);
  return out;
}

/** Three tensors of 2, 3 and 5 values, with metadata and a padded header. */
export function smallSafetensors(): Uint8Array {
  const header = JSON.stringify({
    __metadata__: { format: 'pt' },
    'a.weight': { dtype: 'F32', shape: [2], data_offsets: [0, 8] },
    'b.weight': { dtype: 'BF16', shape: [3, 1], data_offsets: [8, 14] },
    'c.weight': { dtype: 'U8', shape: [5], data_offsets: [14, 19] },
  });
  return buildSafetensors(header.padEnd(Math.ceil(header.length / 8) * 8), new Uint8Array(19).fill(7));
}

/** Little-endian bytes, appended value by value. */
export class ByteWriter {
  readonly bytes: number[] = [];

  u8(value: number): this {
    this.bytes.push(value & 255);
    return this;
  }

  u32(value: number): this {
    for (let shift = 0; shift < 32; shift += 8) this.bytes.push((value >>> shift) & 255);
    return this;
  }

  u64(value: number | bigint): this {
    const big = BigInt.asUintN(64, BigInt(value));
    return this.u32(Number(big & 0xffffffffn)).u32(Number(big >> 32n));
  }

  string(text: string): this {
    const utf8 = new TextEncoder().encode(text);
    this.u64(utf8.length).bytes.push(...utf8);
    return this;
  }

  padTo(multiple: number): this {
    while (this.bytes.length % multiple !== 0) this.bytes.push(0);
    return this;
  }

  done(): Uint8Array {
    return Uint8Array.from(this.bytes);
  }
}

/** A metadata pair: key, value type id, and what writes the value. */
export type Pair = readonly [key: string, type: number, write: (w: ByteWriter) => void];

export interface GgufTensorSpec {
  readonly name: string;
  /** Fastest first, as GGUF stores them. */
  readonly dims: readonly (number | bigint)[];
  readonly type: number;
  readonly offset: number | bigint;
}

export interface GgufSpec {
  readonly version?: number;
  readonly pairs?: readonly Pair[];
  readonly tensors?: readonly GgufTensorSpec[];
  readonly alignment?: number;
  readonly dataBytes?: number;
}

export function buildGguf(spec: GgufSpec): Uint8Array {
  const { version = 3, pairs = [], tensors = [], alignment = 32, dataBytes = 0 } = spec;
  const w = new ByteWriter().u32(0x46554747).u32(version).u64(tensors.length).u64(pairs.length);
  for (const [key, type, write] of pairs) {
    w.string(key).u32(type);
    write(w);
  }
  for (const { name, dims, type, offset } of tensors) {
    w.string(name).u32(dims.length);
    for (const dim of dims) w.u64(dim);
    w.u32(type).u64(offset);
  }
  w.padTo(alignment);
  for (let i = 0; i < dataBytes; i++) w.u8(i);
  return w.done();
}

export const u32Pair = (key: string, value: number): Pair => [key, 4, (w) => w.u32(value)];
export const stringPair = (key: string, value: string): Pair => [key, 8, (w) => w.string(value)];
export const stringsPair = (key: string, values: readonly string[]): Pair => [
  key,
  9,
  (w) => {
    w.u32(8).u64(values.length);
    for (const value of values) w.string(value);
  },
];

/** A model header of a few hundred bytes with every kind of item and 224 bytes of data. */
export function smallGguf(): Uint8Array {
  return buildGguf({
    pairs: [
      stringPair('general.architecture', 'llama'),
      u32Pair('llama.block_count', 2),
      u32Pair('llama.embedding_length', 32),
      u32Pair('llama.attention.head_count', 4),
      stringsPair('tokenizer.ggml.tokens', ['<s>', 'Ġa', '']),
      ['scores', 9, (w) => w.u32(6).u64(2).u32(0x3f800000).u32(0)],
      ['flag', 7, (w) => w.u8(1)],
      ['nested', 9, (w) => w.u32(9).u64(2).u32(4).u64(1).u32(5).u32(0).u64(1).u8(6)],
    ],
    tensors: [
      { name: 'token_embd.weight', dims: [32, 3], type: 2, offset: 0 },
      { name: 'blk.0.f32', dims: [5, 2], type: 0, offset: 64 },
      { name: 'blk.0.q8_0', dims: [64], type: 8, offset: 128 },
    ],
    // 54 of 64, 40 of 64, 68 bytes: the last tensor ends with the file.
    dataBytes: 128 + 68,
  });
}
