/**
 * Stored bytes and numbers: the bytes of the gguf package and PyTorch for the same values, and every f16 and
 * bf16 value in both directions.
 */
import { describe, expect, test } from 'vitest';
import { open } from '../../src/backend/registry.ts';
import { loadTensor, openCheckpoint } from '../../src/checkpoint/index.ts';
import { addScaled, bytesOf, decodeInto, encodeInto } from '../../src/convert/number-codec.ts';
import { key, normal } from '../../src/random/index.ts';
import { GOLDEN } from '../models/golden.ts';

const sizes = ['3x32', '7x96', '13x160'];

const types = ['q8_0', 'q4_0', 'q5_0', 'q5_1', 'f16', 'bf16', 'f32'];

test.each(types.flatMap((type) => sizes.map((size) => [type, size] as const)))(
  '%s %s',
  async (type, size) => {
    await using golden = await openCheckpoint(`${GOLDEN}/quant/blocks.safetensors`);
    const read = (name: string) =>
      loadTensor(golden, `${type}-${size}/${name}`, { backend: open('reference') }).dataSync();
    const values = Float64Array.from(read('source'));
    const dtype = type as 'q8_0';
    const bytes = encodeInto(dtype, values, new Uint8Array(bytesOf(dtype, values.length)));
    if (golden.tensors.has(`${type}-${size}/raw`)) {
      const raw = await golden.readBytes(`${type}-${size}/raw`);
      expect(Buffer.from(bytes).equals(Buffer.from(raw))).toBe(true);
    }
    const back = new Float64Array(values.length);
    decodeInto(dtype, bytes, back);
    const unsigned = (list: ArrayLike<number>) => Float32Array.from(list, (value) => value + 0); // -0 is 0
    expect(unsigned(back)).toEqual(unsigned(read('dequantized')));
  },
);

test.each(['f16', 'bf16'] as const)('every %s comes back as it was', (dtype) => {
  const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const values = new Float64Array(65536);
  decodeInto(dtype, new Uint8Array(bits.buffer), values);
  const again = new Uint16Array(encodeInto(dtype, values, new Uint8Array(131072)).buffer);
  for (let i = 0; i < 65536; i++) if (!Number.isNaN(values[i])) expect(again[i]).toBe(bits[i]);
});

test('numbers are rounded once: those above the middle of two codes go up, however near', () => {
  const stored = (dtype: 'f16' | 'bf16', value: number) => {
    const back = new Float64Array(1);
    decodeInto(dtype, encodeInto(dtype, Float64Array.of(value), new Uint8Array(2)), back);
    return back[0];
  };
  expect(stored('f16', 1 + 2 ** -11 + 2 ** -40)).toBe(1 + 2 ** -10);
  expect(stored('f16', 1 + 2 ** -11)).toBe(1);
  expect(stored('bf16', -1 - 2 ** -8 - 2 ** -40)).toBe(-1 - 2 ** -7);
  expect(stored('bf16', 1 + 2 ** -8)).toBe(1);
});

test.each(['f32', 'f16', 'bf16'] as const)('sums of %s are those of numbers added one by one', (dtype) => {
  const length = 37;
  const values = (s: number) => Float64Array.from({ length }, (_, i) => (((i + 1) * (s + 3)) % 41) / 7 - 2);
  const stored = (s: number) => encodeInto(dtype, values(s), new Uint8Array(bytesOf(dtype, length)));
  const weights = [0.3, 1, -0.7, 1 / 3, 0.1];
  for (let count = 1; count <= weights.length; count++) {
    const list = weights.slice(0, count).map((_, s) => stored(s));
    const sum = new Float64Array(length).fill(-0);
    const expected = Array<number>(length).fill(-0);
    const one = new Float64Array(length);
    list.forEach((bytes, s) => {
      decodeInto(dtype, bytes, one);
      for (let i = 0; i < length; i++) expected[i] += weights[s] * one[i];
    });
    addScaled(dtype, list, weights.slice(0, count), sum);
    expect([...sum]).toEqual(expected);
  }
});

/** The mean squared error of `dtype`, and of plain rounding with exact scales: per group (max - min) / codes. */
function errors(dtype: 'q4_k' | 'q5_k' | 'q6_k', values: Float64Array): { own: number; plain: number } {
  const [group, codes, hasMin] = { q4_k: [32, 15, true], q5_k: [32, 31, true], q6_k: [16, 62, false] }[
    dtype
  ] as [number, number, boolean];
  const back = new Float64Array(values.length);
  decodeInto(dtype, encodeInto(dtype, values, new Uint8Array(bytesOf(dtype, values.length))), back);
  let [own, plain] = [0, 0];
  for (let from = 0; from < values.length; from += group) {
    const part = values.subarray(from, from + group);
    const low = hasMin ? Math.min(0, ...part) : -Math.max(...part.map(Math.abs));
    const high = hasMin ? Math.max(...part) : -low;
    const step = (high - low) / codes;
    part.forEach((x, i) => {
      own += (x - back[from + i]) ** 2;
      plain += step === 0 ? (x - low) ** 2 : (x - low - step * Math.round((x - low) / step)) ** 2;
    });
  }
  return { own: own / values.length, plain: plain / values.length };
}

describe.each(['q4_k', 'q5_k', 'q6_k'] as const)('%s', (dtype) => {
  const draw = (count: number, make: (u: number, i: number) => number) => {
    const tensor = normal(key(7), [count]);
    const values = Float64Array.from(tensor.dataSync(), make);
    tensor.dispose();
    return values;
  };

  test.each([
    ['normal', (u: number) => u],
    ['heavy tails', (u: number) => u ** 3],
    ['shifted', (u: number) => u + 2],
    ['groups of different sizes', (u: number, i: number) => u * 2 ** (Math.floor(i / 32) % 5)],
    ['small', (u: number) => u * 1e-3],
  ] as const)('%s values: no worse than plain rounding with exact scales', (_, make) => {
    const { own, plain } = errors(dtype, draw(256 * 64, make));
    expect(own).toBeLessThan(plain);
  });

  test('zeros, a constant and one outlier', () => {
    const zeros = errors(dtype, new Float64Array(256));
    expect(zeros.own).toBe(0);
    const constant = errors(dtype, new Float64Array(256).fill(-0.75));
    expect(Math.sqrt(constant.own)).toBeLessThan(0.75 * 0.01);
    const outlier = new Float64Array(256).fill(0.01);
    outlier[100] = 40;
    expect(Math.sqrt(errors(dtype, outlier).own)).toBeLessThan(0.2);
  });
});
