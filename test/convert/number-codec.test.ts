/** Stored bytes and numbers: the bytes the gguf package and PyTorch make of the same values, and every f16 and bf16 there and back. */
import { expect, test } from 'vitest';
import { open } from '../../src/backend/registry.ts';
import { loadTensor, openCheckpoint } from '../../src/checkpoint/index.ts';
import { bytesOf, decodeInto, encodeInto } from '../../src/convert/number-codec.ts';
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
