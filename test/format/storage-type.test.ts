import { describe, expect, it } from 'vitest';
import {
  ggmlTypeOf,
  STORAGE_TYPES,
  safetensorsTypeOf,
  storageByteLength,
  storageLayout,
  storageTypeOfGgml,
  storageTypeOfSafetensors,
} from '../../src/format/storage-type.ts';

describe('storage types', () => {
  // gguf-py 0.19.0 GGML_QUANT_SIZES, evaluated: id, name, block length, block bytes. q8_1 as in
  // ggml-common.h.
  it.each([
    ...[
      [0, 'f32', 1, 4],
      [1, 'f16', 1, 2],
      [2, 'q4_0', 32, 18],
      [3, 'q4_1', 32, 20],
      [6, 'q5_0', 32, 22],
    ],
    ...[
      [7, 'q5_1', 32, 24],
      [8, 'q8_0', 32, 34],
      [9, 'q8_1', 32, 36],
      [10, 'q2_k', 256, 84],
    ],
    ...[
      [11, 'q3_k', 256, 110],
      [12, 'q4_k', 256, 144],
      [13, 'q5_k', 256, 176],
      [14, 'q6_k', 256, 210],
    ],
    ...[
      [15, 'q8_k', 256, 292],
      [16, 'iq2_xxs', 256, 66],
      [17, 'iq2_xs', 256, 74],
      [18, 'iq3_xxs', 256, 98],
    ],
    ...[
      [19, 'iq1_s', 256, 50],
      [20, 'iq4_nl', 32, 18],
      [21, 'iq3_s', 256, 110],
      [22, 'iq2_s', 256, 82],
    ],
    ...[
      [23, 'iq4_xs', 256, 136],
      [24, 'i8', 1, 1],
      [25, 'i16', 1, 2],
      [26, 'i32', 1, 4],
      [27, 'i64', 1, 8],
    ],
    ...[
      [28, 'f64', 1, 8],
      [29, 'iq1_m', 256, 56],
      [30, 'bf16', 1, 2],
      [34, 'tq1_0', 256, 54],
    ],
    ...[
      [35, 'tq2_0', 256, 66],
      [39, 'mxfp4', 32, 17],
      [40, 'nvfp4', 64, 36],
      [41, 'q1_0', 128, 18],
    ],
  ] as [number, string, number, number][])(
    'ggml type %i is %s: %i values in %i bytes',
    (id, name, length, bytes) => {
      const type = storageTypeOfGgml(id);
      expect(type).toBe(name);
      expect(storageLayout(type!)).toEqual({ blockLength: length, blockBytes: bytes });
      expect(ggmlTypeOf(type!)).toBe(id);
    },
  );

  it('knows no withdrawn ggml types', () => {
    for (const id of [4, 5, 31, 32, 33, 36, 37, 38, 42, -1]) expect(storageTypeOfGgml(id)).toBeUndefined();
  });

  it('maps safetensors dtypes both ways', () => {
    const stored = STORAGE_TYPES.filter((type) => safetensorsTypeOf(type) !== undefined);
    expect(stored).toHaveLength(16);
    for (const type of stored) expect(storageTypeOfSafetensors(safetensorsTypeOf(type)!)).toBe(type);
    expect(storageTypeOfSafetensors('F4')).toBeUndefined();
  });

  it('computes byte lengths', () => {
    expect(storageByteLength('f32', [])).toBe(4);
    expect(storageByteLength('bf16', [3, 5])).toBe(30);
    expect(storageByteLength('q4_1', [7, 64])).toBe(7 * 2 * 20);
    expect(storageByteLength('q6_k', [2, 512])).toBe(2 * 2 * 210);
    expect(storageByteLength('q8_0', [0, 32])).toBe(0);
  });

  it('refuses rows that are not whole blocks and sizes past 2^53', () => {
    expect(() => storageByteLength('q8_0', [4, 33])).toThrow('whole q8_0 blocks of 32, got 33');
    expect(() => storageByteLength('q8_0', [])).toThrow(RangeError);
    expect(() => storageByteLength('f32', [2 ** 30, 2 ** 30])).toThrow('2^53');
    expect(() => storageByteLength('u8', new Array(40).fill(2 ** 52))).toThrow('2^53');
  });
});
