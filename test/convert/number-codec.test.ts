/**
 * Stored bytes and numbers: the bytes of the gguf package and PyTorch for the same values, and every f16 and
 * bf16 value in both directions.
 */
import { expect, test } from 'vitest';
import { open } from '../../src/backend/registry.ts';
import { loadTensor, openCheckpoint } from '../../src/checkpoint/index.ts';
import { addScaled, bytesOf, decodeInto, encodeInto } from '../../src/convert/number-codec.ts';
import { GOLDEN } from '../models/golden.ts';

const sizes = ['3x32', '7x96', '13x160'];

test.each(['q8_0', 'f16', 'bf16', 'f32'].flatMap((type) => sizes.map((size) => [type, size] as const)))(
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
    expect(Float32Array.from(back)).toEqual(Float32Array.from(read('dequantized')));
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
