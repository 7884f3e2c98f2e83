/**
 * Damaged files: a parser gives a FormatError with a byte offset, or a header that is valid for the file. It
 * never reads outside the file, and never allocates more memory than the file has bytes.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ByteSource, bytesSource } from '../../src/format/byte-source.ts';
import { FormatError } from '../../src/format/format-error.ts';
import { type GgufHeader, readGgufHeader } from '../../src/format/gguf.ts';
import { readSafetensorsHeader, type SafetensorsHeader } from '../../src/format/safetensors.ts';
import { storageByteLength } from '../../src/format/storage-type.ts';
import type { TensorInfo } from '../../src/format/tensor-info.ts';
import { runs } from '../runs.ts';
import { buildSafetensors, smallGguf, smallSafetensors } from './build-files.ts';

/**
 * A source that fails the test when it is asked for bytes outside of the file, or for more than the file in
 * all.
 */
function strictSource(bytes: Uint8Array): ByteSource {
  const inner = bytesSource('x', bytes);
  let asked = 0;
  return {
    ...inner,
    async read(offset, length) {
      asked += length;
      expect(asked).toBeLessThanOrEqual(bytes.length);
      return inner.read(offset, length);
    },
  };
}

const SEED = 4;
/** Mutated headers per format, of which there are two. */
const MUTATIONS = runs(10_000, 50_000);

/**
 * One change to a header: bytes replaced, cut out, put in or copied from elsewhere, or a number made extreme.
 */
interface Mutation {
  readonly at: number;
  readonly drop: number;
  readonly put: readonly number[];
}

function mutation(dataOffset: number): fc.Arbitrary<Mutation> {
  const at = fc.nat(dataOffset);
  const extremes = [0n, 1n, 31n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];
  return fc.oneof(
    fc.record({ at, drop: fc.nat(9), put: fc.array(fc.nat(255), { maxLength: 9 }) }),
    fc.record({ at, drop: fc.constant(1), put: fc.tuple(fc.nat(255)) }),
    fc.record({ at, drop: fc.constantFrom(1, 4, 8), put: fc.constant([]) }),
    fc.tuple(at, fc.constantFrom(4, 8), fc.constantFrom(...extremes)).map(([start, width, value]) => {
      const word = new DataView(new ArrayBuffer(8));
      word.setBigUint64(0, value, true);
      return { at: start, drop: width, put: [...new Uint8Array(word.buffer, 0, width)] };
    }),
    fc.record({
      at,
      drop: fc.constant(1),
      put: fc.constantFrom(...[...'0129-.e[]{},:"'].map((c) => [c.charCodeAt(0)])),
    }),
  );
}

function mutate(bytes: Uint8Array, { at, drop, put }: Mutation): Uint8Array {
  return Uint8Array.of(...bytes.subarray(0, at), ...put, ...bytes.subarray(at + drop));
}

type Header = SafetensorsHeader | GgufHeader;
type Reader = (source: ByteSource) => Promise<Header>;

/** 'error', or 'parsed' when everything the header claims is true of the file. */
async function outcome(read: Reader, bytes: Uint8Array): Promise<'error' | 'parsed'> {
  let header: Header;
  try {
    header = await read(strictSource(bytes));
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    if (
      !Number.isSafeInteger(error.byteOffset) ||
      error.byteOffset! < 0 ||
      error.byteOffset! > bytes.length
    ) {
      throw new Error(`offset ${error.byteOffset} is not in the file: ${error.message}`);
    }
    return 'error';
  }
  checkTensors([...header.tensors.values()], header.dataOffset, bytes.length);
  for (const [name, info] of header.tensors)
    if (name !== info.name) throw new Error('a tensor under another name');
  if (!('version' in header)) {
    const total = [...header.tensors.values()].reduce(
      (sum, info) => sum + info.byteLength,
      header.dataOffset,
    );
    if (total !== bytes.length) throw new Error('a gap in a safetensors file');
  }
  return 'parsed';
}

function checkTensors(infos: TensorInfo[], dataOffset: number, size: number): void {
  let end = dataOffset;
  for (const info of infos.sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength)) {
    const { dtype, shape, byteOffset, byteLength } = info;
    if (!shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0)) throw new Error(`shape ${shape}`);
    if (storageByteLength(dtype, shape) !== byteLength)
      throw new Error(`${info.name}: byteLength ${byteLength}`);
    if (byteLength === 0) continue;
    if (byteOffset < end || byteOffset + byteLength > size) throw new Error(`${info.name}: at ${byteOffset}`);
    end = byteOffset + byteLength;
  }
}

const files: [string, Reader, () => Uint8Array][] = [
  ['safetensors', readSafetensorsHeader, smallSafetensors],
  ['gguf', readGgufHeader, smallGguf],
];

describe.each(files)('%s', (_, read, small) => {
  it('is whole to begin with', async () => {
    expect(await outcome(read, small())).toBe('parsed');
  });

  it('refuses every truncation', async () => {
    const bytes = small();
    for (let length = 0; length < bytes.length; length++) {
      if ((await outcome(read, bytes.slice(0, length))) !== 'error')
        throw new Error(`${length} bytes were accepted`);
    }
  });

  it('refuses or correctly reads every flipped byte', async () => {
    const bytes = small();
    const { dataOffset } = await read(bytesSource('x', bytes));
    let refused = 0;
    for (const mask of [0x01, 0x02, 0x10, 0x20, 0x40, 0x80, 0xff]) {
      for (let at = 0; at < dataOffset; at++) {
        const flipped = bytes.slice();
        flipped[at] ^= mask;
        if ((await outcome(read, flipped)) === 'error') refused++;
      }
    }
    expect(refused).toBeGreaterThan(dataOffset);
  });

  it('refuses or correctly reads every byte and every 8-byte word set to an extreme', async () => {
    const bytes = small();
    const { dataOffset } = await read(bytesSource('x', bytes));
    const words = [0n, 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];
    for (let at = 0; at + 8 <= dataOffset; at++) {
      for (const word of words) {
        const changed = bytes.slice();
        new DataView(changed.buffer).setBigUint64(at, word, true);
        await outcome(read, changed);
      }
    }
  });

  it(`survives ${MUTATIONS} mutated headers`, async () => {
    const bytes = small();
    const { dataOffset } = await read(bytesSource('x', bytes));
    const counts = { error: 0, parsed: 0 };
    await fc.assert(
      fc.asyncProperty(fc.array(mutation(dataOffset), { minLength: 1, maxLength: 4 }), async (mutations) => {
        counts[await outcome(read, mutations.reduce(mutate, bytes))]++;
      }),
      { numRuns: MUTATIONS, seed: SEED },
    );
    // Both happen often, or the mutations test nothing.
    expect(Math.min(counts.error, counts.parsed)).toBeGreaterThan(MUTATIONS / 100);
  });

  it('survives random bytes after its magic', async () => {
    const start = small().subarray(0, 8);
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (rest) => {
        await outcome(read, Uint8Array.of(...start, ...rest));
      }),
      { numRuns: 1000, seed: SEED },
    );
  });
});

describe('safetensors headers as text', () => {
  it('survives any JSON', async () => {
    const field = fc.oneof(
      fc.constantFrom('dtype', 'shape', 'data_offsets', '__metadata__', 'w'),
      fc.string(),
    );
    const leaf = fc.oneof(fc.constantFrom('F32', 'U8', 0, 4, 2 ** 53, -1, 0.5, null, true), fc.jsonValue());
    const entry = fc.dictionary(
      field,
      fc.oneof(leaf, fc.array(fc.integer({ min: -1, max: 9 }), { maxLength: 3 })),
    );
    await fc.assert(
      fc.asyncProperty(fc.dictionary(field, fc.oneof(entry, leaf)), fc.nat(32), async (header, dataBytes) => {
        await outcome(readSafetensorsHeader, buildSafetensors(header, new Uint8Array(dataBytes)));
      }),
      { numRuns: 2000, seed: SEED },
    );
  });
});

describe('sizes that lie', () => {
  /** A file of 1 TB that begins with `bytes` and is zero beyond; it refuses to be read whole. */
  function hugeSource(bytes: Uint8Array): ByteSource {
    return {
      name: 'huge',
      size: 2 ** 40,
      async read(offset, length) {
        if (length > 2 ** 29) throw new Error(`asked for ${length} bytes at once`);
        const out = new Uint8Array(length);
        out.set(bytes.subarray(Math.min(offset, bytes.length), Math.min(offset + length, bytes.length)));
        return out;
      },
    };
  }

  it('does not buy memory for a length field, however large the file', async () => {
    const word = (value: number) => {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
      return [...bytes];
    };
    const head = [0x47, 0x47, 0x55, 0x46, 3, 0, 0, 0];
    const key = [...word(1), 0x61];
    const cases = [
      // A string, an array of bytes and an array of strings of 2^35 items; 2^35 pairs; 2^35 tensors.
      [...head, ...word(0), ...word(1), ...key, 8, 0, 0, 0, ...word(2 ** 35)],
      [...head, ...word(0), ...word(1), ...key, 9, 0, 0, 0, 0, 0, 0, 0, ...word(2 ** 35)],
      [...head, ...word(0), ...word(2 ** 35), ...word(2 ** 35)],
      [...head, ...word(2 ** 35), ...word(0)],
    ];
    for (const bytes of cases) {
      const error = await readGgufHeader(hugeSource(Uint8Array.from(bytes))).catch(
        (reason: unknown) => reason,
      );
      expect(error).toBeInstanceOf(FormatError);
    }
    const safetensors = Uint8Array.from([...word(2 ** 35), 0x7b]);
    await expect(readSafetensorsHeader(hugeSource(safetensors))).rejects.toThrow(
      'expected a header of 2 to 100000000',
    );
  });
});

describe('counts that would take many times the header in memory', () => {
  const le = (bytes: 4 | 8, value: number) => {
    const view = new DataView(new ArrayBuffer(bytes));
    if (bytes === 4) view.setUint32(0, value, true);
    else view.setBigUint64(0, BigInt(value), true);
    return [...new Uint8Array(view.buffer)];
  };
  /** A file of one key `a` whose value is an array of `count` items, each of `item` zero bytes. */
  const oneArray = (type: number, count: number, item: number) => {
    const head = [0x47, 0x47, 0x55, 0x46, ...le(4, 3), ...le(8, 0), ...le(8, 1), ...le(8, 1), 0x61];
    const start = [...head, ...le(4, 9), ...le(4, type), ...le(8, count)];
    const bytes = new Uint8Array(start.length + count * item);
    bytes.set(start);
    return bytes;
  };

  it.each([
    ['bools', 7, 2 ** 20 + 1, 1],
    ['strings', 8, 2 ** 21 + 1, 8],
    ['arrays', 9, 2 ** 16 + 1, 12],
  ])('an array of %s in GGUF', async (_, type, count, item) => {
    await expect(readGgufHeader(bytesSource('x', oneArray(type, count, item)))).rejects.toThrow(
      `x: at byte 41: expected a count of a of at most ${count - 1}, got ${count}`,
    );
    const fitting = await readGgufHeader(bytesSource('x', oneArray(type, 10, item)));
    expect(fitting.metadata.get('a')).toHaveLength(10);
  });

  it('tensors, dims and nesting in safetensors', async () => {
    const entry = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}';
    const many = Array.from({ length: 2 ** 18 + 1 }, (_, i) => `"${i}":${entry}`);
    const dims = entry.replace('[0]', `[${'0,'.repeat(64)}0]`);
    for (const [header, message] of [
      [`{${many.join()}}`, 'expected at most 262144 tensors, got more'],
      [`{"w":${dims}}`, 'shape: expected an array of integers in 0..2^53, at most 64 of them'],
      [`{"w":${entry.replace('{', `{"x":${'['.repeat(20)}${']'.repeat(20)},`)}}`, 'levels of JSON'],
    ]) {
      await expect(readSafetensorsHeader(bytesSource('x', buildSafetensors(header)))).rejects.toThrow(
        message,
      );
    }
    const skipped = entry.replace('{', `{"x":[${'{"a":[1,"b",null]},'.repeat(99)}true],`);
    const { tensors } = await readSafetensorsHeader(bytesSource('x', buildSafetensors(`{"w":${skipped}}`)));
    expect(tensors.get('w')?.shape).toEqual([0]);
  });
});
