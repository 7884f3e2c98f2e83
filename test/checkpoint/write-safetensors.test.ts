import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/checkpoint/open-checkpoint.ts';
import { writeSafetensors } from '../../src/checkpoint/write-safetensors.ts';
import { withFolder } from './temporary-folder.ts';

describe('writeSafetensors', () => {
  it('writes what openCheckpoint reads: arrays, chunks and odd sizes', async () => {
    await withFolder({}, async (folder) => {
      const path = join(folder, 'model.safetensors');
      const big = Float32Array.from({ length: 3 * 7 }, (_, i) => i / 3);
      async function* chunks() {
        yield Uint8Array.of(1, 2);
        yield new Uint8Array(0);
        yield Uint8Array.of(3, 4, 5);
      }
      await writeSafetensors(path, {
        bytes: { dtype: 'u8', shape: [5], data: chunks },
        'big.weight': { dtype: 'f32', shape: [3, 7], data: big },
        half: { dtype: 'bf16', shape: [2], data: Uint16Array.of(0x3f80, 0x4000) },
        view: { dtype: 'i32', shape: [2], data: new Int32Array([9, 8, 7, 6]).subarray(1, 3) },
        none: { dtype: 'f64', shape: [0, 4], data: new Float64Array(0) },
      });
      await using checkpoint = await openCheckpoint(path);
      expect(checkpoint.metadata).toEqual({ format: 'pt' });
      expect([...checkpoint.tensors.keys()]).toEqual(['none', 'big.weight', 'view', 'half', 'bytes']);
      const floats = (await checkpoint.readBytes('big.weight')).slice().buffer;
      expect(new Float32Array(floats as ArrayBuffer)).toEqual(big);
      expect([...(await checkpoint.readBytes('view'))]).toEqual([8, 0, 0, 0, 7, 0, 0, 0]);
      expect([...(await checkpoint.readBytes('half'))]).toEqual([0x80, 0x3f, 0x00, 0x40]);
      expect([...(await checkpoint.readBytes('bytes'))]).toEqual([1, 2, 3, 4, 5]);
      expect(await checkpoint.readBytes('none')).toHaveLength(0);
    });
  });

  it('leaves the old file and no other one when it fails', async () => {
    await withFolder({}, async (folder) => {
      const path = join(folder, 'model.safetensors');
      await writeFile(path, 'old');
      const failing = [
        { data: new Float32Array(3), text: 'w: expected 8 bytes for its shape, got 12' },
        { data: () => [new Uint8Array(7)], text: 'expected 8 bytes for its shape, got 7' },
        { data: () => [new Uint8Array(7), new Uint8Array(2)], text: 'expected 8 bytes for its shape, got 9' },
        {
          data: (): Iterable<Uint8Array> => {
            throw new Error('no more disk');
          },
          text: 'no more disk',
        },
      ];
      for (const { data, text } of failing) {
        await expect(writeSafetensors(path, { w: { dtype: 'f32', shape: [2], data } })).rejects.toThrow(text);
        expect(await readFile(path, 'utf8')).toBe('old');
        expect(await readdir(folder)).toEqual(['model.safetensors']);
      }
    });
  });

  it('replaces the old file and takes other metadata', async () => {
    await withFolder({ 'm.safetensors': 'old' }, async (folder) => {
      const path = join(folder, 'm.safetensors');
      const w = { dtype: 'f32', shape: [], data: Float32Array.of(2) } as const;
      await writeSafetensors(path, { w }, { metadata: { step: '7' } });
      await using checkpoint = await openCheckpoint(path);
      expect(checkpoint.metadata).toEqual({ step: '7' });
      expect(await readdir(folder)).toEqual(['m.safetensors']);
    });
  });

  it('refuses types that safetensors does not have, and folders that are not there', async () => {
    await withFolder({}, async (folder) => {
      const q = { dtype: 'q8_0', shape: [32], data: new Uint8Array(34) } as const;
      await expect(writeSafetensors(join(folder, 'x'), { q })).rejects.toThrow(TypeError);
      const w = { dtype: 'u8', shape: [1], data: new Uint8Array(1) } as const;
      await expect(writeSafetensors(join(folder, 'no', 'x'), { w })).rejects.toThrow('ENOENT');
    });
  });
});
