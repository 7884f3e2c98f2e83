/** The GGUF writer against the reader: value types, alignment, tensors; and Q8_0 against the gguf package. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openCheckpoint } from '../../src/checkpoint/index.ts';
import { type GgufPair, writeGguf } from '../../src/checkpoint/write-gguf.ts';
import { GOLDEN } from '../models/golden.ts';
import { withFolder } from './temporary-folder.ts';

const pairs: ReadonlyMap<string, GgufPair> = new Map<string, GgufPair>([
  ['general.architecture', { type: 'string', value: 'llama' }],
  ['general.alignment', { type: 'u32', value: 64 }],
  ['u8', { type: 'u8', value: 200 }],
  ['i8', { type: 'i8', value: -3 }],
  ['u16', { type: 'u16', value: 60_000 }],
  ['i16', { type: 'i16', value: -300 }],
  ['i32', { type: 'i32', value: -70_000 }],
  ['f32', { type: 'f32', value: 0.5 }],
  ['f64', { type: 'f64', value: 0.1 }],
  ['bool', { type: 'bool', value: true }],
  ['u64', { type: 'u64', value: 2n ** 63n }],
  ['i64', { type: 'i64', value: -5 }],
  ['strings', { type: '[string]', value: ['a', 'ß', ''] }],
  ['floats', { type: '[f32]', value: Float32Array.of(1, 2.5) }],
  ['flags', { type: '[bool]', value: [true, false] }],
  ['nested', { type: '[[u16]]', value: [Uint16Array.of(1, 2), Uint16Array.of(3)] }],
  ['long', { type: '[string]', value: Array.from({ length: 9000 }, (_, i) => `token ${i}`) }],
]);

test('what is written is read back, in its own types', () =>
  withFolder({}, async (folder) => {
    const path = join(folder, 'model.gguf');
    const data = { a: Float32Array.of(1, 2, 3, 4, 5, 6), b: Uint8Array.from({ length: 68 }, (_, i) => i) };
    await writeGguf(
      path,
      pairs,
      new Map([
        ['a', { dtype: 'f32', shape: [2, 3], data: data.a } as const],
        [
          'b',
          {
            dtype: 'q8_0',
            shape: [2, 32],
            data: () => [data.b.subarray(0, 60), data.b.subarray(60)],
          } as const,
        ],
      ]),
    );
    await using checkpoint = await openCheckpoint(path);
    const { metadata, metadataTypes, alignment } = checkpoint.gguf!;
    expect(alignment).toBe(64);
    for (const [key, { type, value }] of pairs) {
      expect(metadataTypes.get(key)).toBe(type);
      expect(metadata.get(key)).toEqual(value);
    }
    expect([...metadata.keys()]).toEqual([...pairs.keys()]);
    expect(checkpoint.tensor('a')).toMatchObject({ shape: [2, 3], dtype: 'f32' });
    expect(checkpoint.tensor('b').byteOffset % 64).toBe(0);
    expect(Buffer.from(await checkpoint.readBytes('b')).equals(Buffer.from(data.b))).toBe(true);
  }));

test('a file of the gguf package, read and written, holds the same', () =>
  withFolder({}, async (folder) => {
    await using before = await openCheckpoint(join(GOLDEN, 'tiny-mistral/plain.gguf'));
    const { metadata, metadataTypes } = before.gguf!;
    const path = join(folder, 'again.gguf');
    const tensors = new Map();
    for (const { name, dtype, shape } of before.tensors.values()) {
      tensors.set(name, { dtype, shape, data: await before.readBytes(name) });
    }
    await writeGguf(
      path,
      new Map([...metadata].map(([key, value]) => [key, { type: metadataTypes.get(key)!, value }])),
      tensors,
    );
    expect(readFileSync(path).equals(readFileSync(before.path))).toBe(true);
  }));

test('wrong sizes are refused and leave no file', () =>
  withFolder({}, async (folder) => {
    const path = join(folder, 'model.gguf');
    const tensors = new Map([['a', { dtype: 'f32', shape: [3], data: Float32Array.of(1, 2) } as const]]);
    await expect(writeGguf(path, pairs, tensors)).rejects.toThrow(
      'writeGguf: a: expected 12 bytes for its shape, got 8',
    );
    await expect(openCheckpoint(path)).rejects.toThrow('nothing there');
  }));

test.each<[type: string, value: unknown, error: string]>([
  ['u8', 300, 'RangeError: encodeGgufHeader: key: expected a value of type u8, got 300'],
  ['u32', -1, 'RangeError: encodeGgufHeader: key: expected a value of type u32, got -1'],
  ['i16', 1.5, 'RangeError: encodeGgufHeader: key: expected a value of type i16, got 1.5'],
  ['u32', Number.NaN, 'RangeError: encodeGgufHeader: key: expected a value of type u32, got NaN'],
  ['u64', -1n, 'RangeError: encodeGgufHeader: key: expected a value of type u64, got -1'],
  [
    'i64',
    2n ** 63n,
    'RangeError: encodeGgufHeader: key: expected a value of type i64, got 9223372036854775808',
  ],
  ['[u8]', [1, 256], 'RangeError: encodeGgufHeader: key: expected a value of type u8, got 256'],
  ['u8', '5', 'TypeError: encodeGgufHeader: key: expected a value of type u8, got "5"'],
  ['f32', true, 'TypeError: encodeGgufHeader: key: expected a value of type f32, got true'],
  ['bool', 1, 'TypeError: encodeGgufHeader: key: expected a value of type bool, got 1'],
  ['string', 5, 'TypeError: encodeGgufHeader: key: expected a value of type string, got 5'],
  [
    '[u8]',
    Float32Array.of(1),
    'TypeError: encodeGgufHeader: key: expected a value of type [u8], got Float32Array',
  ],
  ['[string]', 'abc', 'TypeError: encodeGgufHeader: key: expected a value of type [string], got string'],
])('a value of %s that is %o is refused, and no file is left', (type, value, error) =>
  withFolder({}, async (folder) => {
    const metadata = new Map([['key', { type, value } as GgufPair]]);
    const writing = writeGguf(join(folder, 'model.gguf'), metadata, new Map());
    expect(await writing.catch(String)).toBe(error);
    expect(readdirSync(folder)).toEqual([]);
  }),
);
