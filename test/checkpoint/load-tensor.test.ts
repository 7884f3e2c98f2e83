import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type Backend, type BackendName, getBackend, setBackend } from '../../src/backend/index.ts';
import { loadTensor, openCheckpoint, writeSafetensors } from '../../src/checkpoint/index.ts';
import { UnsupportedError } from '../../src/tensor/errors.ts';
import { buildGguf, buildSafetensors } from '../format/build-files.ts';
import { withFolder } from './temporary-folder.ts';

const before = getBackend();
const backends: Backend[] = [];
for (const name of ['native', 'wasm', 'reference'] satisfies BackendName[]) {
  try {
    backends.push(await setBackend(name));
  } catch (error) {
    console.log(`skipped: ${name} backend: ${(error as Error).message}`);
  }
}
await setBackend(before.name);
afterAll(() => setBackend(before.name));

const outside = new URL('../format/outside/', import.meta.url);

describe.each(backends.map((backend) => [backend.name, backend] as const))(
  'loadTensor on %s',
  (_, backend) => {
    it('loads block types and floats of a GGUF file that another implementation wrote', async () => {
      const file = await readFile(new URL('small.gguf', outside));
      await withFolder({ 'm.gguf': file }, async (folder) => {
        const checkpoint = await openCheckpoint(folder);
        const want = Float32Array.from({ length: 3 * 64 }, (_, i) => (i - 90) / 16);
        const exact = loadTensor(checkpoint, 'token_embd.weight', { backend });
        const q8 = loadTensor(checkpoint, 'blk.0.q8_0', { backend });
        const q4 = loadTensor(checkpoint, 'blk.0.q4_1', { backend });
        const widened = loadTensor(checkpoint, 'blk.0.q8_0', { backend, dtype: 'f32' });
        await checkpoint.close();
        expect(exact).toMatchObject({ dtype: 'f32', shape: [3, 64] });
        expect(await exact.data()).toEqual(want);
        expect(q8).toMatchObject({ dtype: 'q8_0', shape: [3, 64] });
        // Half a step of each block: 2 / 127 of its largest value for q8_0, 2 / 15 of its range for q4_1; f16
        // scales on top.
        const worst = (got: ArrayLike<number>) =>
          want.reduce((most, x, i) => Math.max(most, Math.abs(x - got[i])), 0);
        expect(worst(await q8.data())).toBeLessThan((6.4 / 127 / 2) * 1.05);
        expect(worst(await q4.data())).toBeLessThan((2 / 15 / 2) * 1.05);
        expect(widened.dtype).toBe('f32');
        expect(await widened.data()).toEqual(await q8.data());
        for (const tensor of [exact, q8, q4, widened]) tensor.dispose();
      });
    });

    it('loads data at odd bytes of a file, and converts between plain types', async () => {
      const data = new Uint8Array(Float32Array.of(1, -2, 0.5).buffer);
      const header = JSON.stringify({ w: { dtype: 'F32', shape: [3], data_offsets: [0, 12] } });
      // 8 bytes of length and a header of odd length.
      const odd = buildSafetensors(header.length % 2 ? header : `${header} `, data);
      await withFolder({ 'w.safetensors': odd }, async (folder) => {
        await using checkpoint = await openCheckpoint(join(folder, 'w.safetensors'));
        expect(checkpoint.tensor('w').byteOffset % 2).toBe(1);
        const tensor = loadTensor(checkpoint, 'w', { backend });
        expect([...(await tensor.data())]).toEqual([1, -2, 0.5]);
        const half = loadTensor(checkpoint, 'w', { backend, dtype: 'bf16' });
        expect(half.dtype).toBe('bf16');
        expect([...(await half.data())]).toEqual([1, -2, 0.5]);
        // And back to a file, as stored.
        await writeSafetensors(join(folder, 'out.safetensors'), { tensor, half });
        await using written = await openCheckpoint(join(folder, 'out.safetensors'));
        expect(new Uint8Array(await written.readBytes('tensor'))).toEqual(data);
        expect([...(await written.readBytes('half'))]).toEqual([0x80, 0x3f, 0x00, 0xc0, 0x00, 0x3f]);
      });
    });

    it('names the tensor and its type when no kernel reads it', async () => {
      const gguf = buildGguf({
        tensors: [
          { name: 'blk.0.iq', dims: [256, 2], type: 16, offset: 0 },
          { name: 'blk.0.q8_0', dims: [32], type: 8, offset: 160 },
        ],
        dataBytes: 200,
      });
      await withFolder({ 'm.gguf': gguf }, async (folder) => {
        await using checkpoint = await openCheckpoint(folder);
        const load = () => loadTensor(checkpoint, 'blk.0.iq', { backend });
        expect(load).toThrow(UnsupportedError);
        expect(load).toThrow(
          /m\.gguf: blk\.0\.iq: iq2_xxs is not supported by the .* backend; weights may be f32/,
        );
        expect(() => loadTensor(checkpoint, 'blk.0.q8_0', { backend, dtype: 'bf16' })).toThrow(
          UnsupportedError,
        );
        expect(() => loadTensor(checkpoint, 'blk.1', { backend })).toThrow('expected one of its 2 tensors');
      });
    });
  },
);
