/** Numbers to and from bytes: every f16 and bf16 value, ties, and hand-made blocks. */
import { expect, test } from 'vitest';
import { byteLengthOf, isBlockDType, isDType } from '../../src/tensor/dtype.ts';
import { decode, encode } from '../../src/tensor/encode.ts';
import { bfloatToNumber, halfToNumber, numberToBfloat, numberToHalf } from '../../src/tensor/half.ts';

test('every f16 and bf16 survives the way through a number', () => {
  for (let bits = 0; bits < 65536; bits++) {
    const half = halfToNumber(bits);
    if (!Number.isNaN(half)) expect(numberToHalf(half)).toBe(bits);
    const bfloat = bfloatToNumber(bits);
    if (!Number.isNaN(bfloat)) expect(numberToBfloat(bfloat)).toBe(bits);
  }
  expect(halfToNumber(numberToHalf(Number.NaN))).toBeNaN();
  expect(bfloatToNumber(numberToBfloat(Number.NaN))).toBeNaN();
});

test('numbers between two halves go to the nearer, ties to even', () => {
  for (let bits = 0; bits < 0x7bff; bits++) {
    const [low, high] = [halfToNumber(bits), halfToNumber(bits + 1)];
    const middle = (low + high) / 2;
    expect(numberToHalf(middle)).toBe(bits % 2 === 0 ? bits : bits + 1);
    expect(numberToHalf(low + (high - low) * 0.25)).toBe(bits);
    expect(numberToHalf(-(low + (high - low) * 0.75))).toBe((bits + 1) | 0x8000);
  }
  expect(halfToNumber(numberToHalf(65519))).toBe(65504);
  expect(halfToNumber(numberToHalf(65520))).toBe(Infinity);
  expect(bfloatToNumber(numberToBfloat(1 + 2 ** -8))).toBe(1);
  expect(bfloatToNumber(numberToBfloat(1 + 3 * 2 ** -8))).toBe(1 + 2 ** -6);
  expect(bfloatToNumber(numberToBfloat(3.4e38))).toBe(Infinity);
});

test('blocks as ggml lays them out', () => {
  const q8 = new Uint8Array(34).map((_, i) => (i < 2 ? [0x00, 0x38][i] : i - 18)); // scale 0.5
  expect(Array.from(decode('q8_0', q8, 32))).toEqual(Array.from({ length: 32 }, (_, i) => 0.5 * (i - 16)));
  const nibbles = Array.from({ length: 16 }, (_, i) => i | ((15 - i) << 4));
  const levels = Array.from({ length: 32 }, (_, i) => (i < 16 ? i : 31 - i));
  const q4 = Uint8Array.of(0x00, 0x38, ...nibbles);
  expect(Array.from(decode('q4_0', q4, 32))).toEqual(levels.map((level) => 0.5 * (level - 8)));
  const q41 = Uint8Array.of(0x00, 0x38, 0x00, 0xc0, ...nibbles); // minimum -2
  expect(Array.from(decode('q4_1', q41, 32))).toEqual(levels.map((level) => 0.5 * level - 2));
});

test('decode takes bytes at any alignment', () => {
  const bytes = new Uint8Array([0, ...encode('f32', [1.5, -2])]);
  expect(decode('f32', bytes.subarray(1), 2)).toEqual(Float32Array.of(1.5, -2));
});

test('dtypes', () => {
  expect(isDType('f32')).toBe(true);
  expect(isDType('toString')).toBe(false);
  expect(isBlockDType('q4_1')).toBe(true);
  expect(byteLengthOf('q8_0', 64)).toBe(68);
  expect(byteLengthOf('bf16', 3)).toBe(6);
  expect(() => encode('q8_0', [1])).toThrow(TypeError);
});
