import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { bytesSource } from '../../src/format/byte-source.ts';
import { FormatError } from '../../src/format/format-error.ts';
import { encodeSafetensorsHeader, readSafetensorsHeader } from '../../src/format/safetensors.ts';
import { buildSafetensors, smallSafetensors } from './build-files.ts';

const read = (bytes: Uint8Array) => readSafetensorsHeader(bytesSource('x.safetensors', bytes));

async function failure(bytes: Uint8Array): Promise<FormatError> {
  const error = await read(bytes).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(FormatError);
  return error as FormatError;
}

describe('readSafetensorsHeader', () => {
  it('reads what Python safetensors wrote', async () => {
    const bytes = await readFile(new URL('./outside/small.safetensors', import.meta.url));
    const { tensors, metadata, dataOffset } = await read(bytes);
    expect(metadata).toEqual({ format: 'np', größe: 'ü"x"' });
    const facts = [...tensors.values()].map((t) => [
      t.name,
      t.dtype,
      t.shape,
      t.byteOffset - dataOffset,
      t.byteLength,
    ]);
    expect(facts).toEqual([
      ['scalar', 'i64', [], 0, 8],
      ['a.bias', 'f32', [5], 8, 20],
      ['b.weight', 'f16', [2, 3], 28, 12],
      ['empty', 'u8', [0, 3], 40, 0],
      ['mask', 'bool', [3], 40, 3],
    ]);
    const bias = tensors.get('a.bias')!;
    const at = bytes.byteOffset + bias.byteOffset;
    expect([...new Float32Array(bytes.buffer.slice(at, at + bias.byteLength))]).toEqual([1, 2, 3, 4, 5]);
  });

  it('reads a file without tensors, and metadata keys that objects treat specially', async () => {
    const { tensors, metadata } = await read(buildSafetensors('{"__metadata__":{"__proto__":"p"}}  '));
    expect(tensors.size).toBe(0);
    expect(Object.entries(metadata)).toEqual([['__proto__', 'p']]);
  });

  it('reads data in any order of the header, with an escaped name', async () => {
    const header = `{"second":{"dtype":"U8","shape":[3],"data_offsets":[2,5]},
      "f\\u0069rst\\n":{"shape":[1,2],"data_offsets":[0,2],"dtype":"I8"}}`;
    const { tensors } = await read(buildSafetensors(header, new Uint8Array(5)));
    expect([...tensors.keys()]).toEqual(['second', 'first\n']);
  });

  const entry = (dtype: string, shape: unknown, offsets: unknown) =>
    `{"w":{"dtype":"${dtype}","shape":${JSON.stringify(shape)},"data_offsets":${JSON.stringify(offsets)}}}`;
  const one = entry('F32', [2], [0, 8]);

  it.each([
    ['a header that is no object', '[1,2,3]', 0, 8, 'starts with "{", got byte 0x5b'],
    ['JSON cut short', one.slice(0, -1), 8, 8 + one.length - 1, 'got the end of the text'],
    ['text after the object', `${one}x`, 8, 8 + one.length, 'expected the end of the JSON text, got "x"'],
    ['a trailing comma', `${one.slice(0, -1)},}`, 8, 8 + one.length, 'expected a JSON string, got "}"'],
    ['a name twice', `{"w":${one.slice(5, -1)},"w":${one.slice(5, -1)}}`, 8, undefined, '"w" again'],
    ['a field twice', one.replace('"dtype"', '"shape":[2],"dtype"'), 8, undefined, '"shape" again'],
    ['a tensor that is no object', '{"w":3}', 0, 13, 'tensor "w": expected an object, got 3'],
    ['no dtype', '{"w":{"shape":[],"data_offsets":[0,4]}}', 4, 13, 'expected dtype, got none'],
    ['an unknown dtype', entry('F31', [2], [0, 8]), 8, 22, 'got "F31"'],
    ['a dtype that is no string', '{"w":{"dtype":5,"shape":[],"data_offsets":[0,4]}}', 4, 22, 'got 5'],
    ['a negative dim', entry('F32', [-2], [0, 8]), 8, 36, 'shape: expected an array of integers'],
    ['a fractional dim', one.replace('[2]', '[2.0]'), 8, 36, 'shape'],
    ['an exponent in an offset', one.replace('[0,8]', '[0,8e0]'), 8, undefined, 'data_offsets'],
    ['a dim past 2^53', one.replace('[2]', '[9007199254740993]'), 8, 36, 'shape'],
    ['a size past 2^53', entry('F32', [2 ** 40, 2 ** 40], [0, 8]), 8, 36, '2^53'],
    ['three offsets', entry('F32', [2], [0, 8, 8]), 8, undefined, 'expected two integers'],
    ['offsets in reverse', entry('F32', [2], [8, 0]), 8, undefined, 'got 8..0'],
    ['data past the end of the file', one, 7, undefined, 'expected data_offsets inside 0..7, got 0..8'],
    ['a shape that does not fill its bytes', entry('F32', [3], [0, 8]), 8, undefined, 'expected 12 bytes'],
    ['a gap at the start', entry('F32', [2], [4, 12]), 12, 13, 'expected data at 0, got 4: a gap'],
    ['bytes after the last tensor', one, 11, 8 + one.length + 8, 'got 3 more bytes'],
    ['metadata that is no object', '{"__metadata__":[]}', 0, 24, '__metadata__'],
    ['metadata that is no string', '{"__metadata__":{"a":1}}', 0, 29, 'expected a string, got 1'],
    ['nesting without end', `{"w":${'['.repeat(5000)}`, 0, undefined, 'levels of JSON'],
    ['a raw line break in a name', '{"w\n":1}', 0, 9, 'closing quote'],
    ['a bad escape', '{"w\\x":1}', 0, 9, 'bad escape'],
  ])('refuses %s', async (_, header, dataBytes, byteOffset, text) => {
    const error = await failure(buildSafetensors(header, new Uint8Array(dataBytes)));
    expect(error.message).toContain(text);
    expect(error.message).toMatch(/^x\.safetensors: at byte \d+: .*expected/);
    expect(error.file).toBe('x.safetensors');
    if (byteOffset !== undefined) expect(error.byteOffset).toBe(byteOffset);
  });

  it('refuses overlaps', async () => {
    const header = `{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}`;
    expect((await failure(buildSafetensors(header, new Uint8Array(6)))).message).toContain(
      'tensor "b": expected data at 4, got 2: an overlap',
    );
  });

  it('counts bytes, not characters, in offsets of errors', async () => {
    const header = '{"größe":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}}';
    const at = new TextEncoder().encode(header.slice(0, header.indexOf('"F31"'))).length;
    expect((await failure(buildSafetensors(header, new Uint8Array(8)))).byteOffset).toBe(8 + at);
  });

  it('refuses headers that are not UTF-8, too long or too short', async () => {
    const invalid = buildSafetensors('{"w":1}');
    invalid[10] = 0xff;
    expect((await failure(invalid)).message).toContain('not UTF-8');
    for (const length of [0n, 1n, 12n, 100_000_001n, 2n ** 63n, 2n ** 64n - 1n]) {
      const bytes = buildSafetensors('{"w":1}    ');
      new DataView(bytes.buffer).setBigUint64(0, length, true);
      expect((await failure(bytes)).byteOffset).toBe(0);
    }
  });
});

describe('encodeSafetensorsHeader', () => {
  it('writes headers that read back, aligned and without gaps', async () => {
    const entries = [
      { name: 'flags', dtype: 'bool', shape: [5] },
      { name: 'half "quoted"', dtype: 'f16', shape: [3, 7] },
      { name: '__proto__', dtype: 'f32', shape: [] },
      { name: 'wide', dtype: 'f64', shape: [11] },
      { name: 'none', dtype: 'bf16', shape: [0, 2] },
    ] as const;
    const { bytes, tensors } = encodeSafetensorsHeader(entries, { format: 'pt' });
    expect(bytes.length % 8).toBe(0);
    expect(tensors.map((t) => t.name)).toEqual(['wide', '__proto__', 'half "quoted"', 'none', 'flags']);
    const last = tensors[tensors.length - 1];
    const file = new Uint8Array(last.byteOffset + last.byteLength);
    file.set(bytes);
    const header = await read(file);
    expect([...header.tensors.values()]).toEqual(tensors);
    expect(header.metadata).toEqual({ format: 'pt' });
    expect(header.dataOffset).toBe(bytes.length);
    for (const { dtype, byteOffset } of tensors) {
      if (dtype === 'f64') expect(byteOffset % 8).toBe(0);
      if (dtype === 'f32') expect(byteOffset % 4).toBe(0);
    }
  });

  it('refuses what the format cannot hold', () => {
    const f32 = { dtype: 'f32', shape: [1] } as const;
    expect(() => encodeSafetensorsHeader([{ name: 'w', dtype: 'q4_1', shape: [32] }])).toThrow(TypeError);
    expect(() => encodeSafetensorsHeader([{ name: '__metadata__', ...f32 }])).toThrow('unique names');
    expect(() =>
      encodeSafetensorsHeader([
        { name: 'w', ...f32 },
        { name: 'w', ...f32 },
      ]),
    ).toThrow('"w" again');
    expect(() => encodeSafetensorsHeader([{ name: 'w', dtype: 'f32', shape: [-1] }])).toThrow('dims >= 0');
  });

  it('gives an empty file for no tensors', async () => {
    expect((await read(encodeSafetensorsHeader([]).bytes)).tensors.size).toBe(0);
    expect((await read(smallSafetensors())).tensors.size).toBe(3);
  });
});
