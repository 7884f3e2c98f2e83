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

  it('writes the same file with several tensors at a time, or none when one of them fails', async () => {
    await withFolder({}, async (folder) => {
      const chunked = (length: number, fails = false) => ({
        dtype: 'u8' as const,
        shape: [length],
        async *data() {
          for (let at = 0; at < length; at += 3) {
            await new Promise((resolve) => setTimeout(resolve, (length * 7 + at) % 5));
            if (fails && at > 6) throw new Error('no more bytes');
            yield Uint8Array.from({ length: Math.min(3, length - at) }, (_, i) => length + at + i);
          }
        },
      });
      const lengths = [13, 0, 2, 31, 5, 17, 11];
      const tensors = Object.fromEntries(lengths.map((length) => [`t${length}`, chunked(length)]));
      const written = (name: string) => readFile(join(folder, name));
      await writeSafetensors(join(folder, 'one'), tensors);
      for (const concurrency of [2, 3, 19]) {
        await writeSafetensors(join(folder, `${concurrency}`), tensors, { concurrency });
        expect(await written(`${concurrency}`)).toEqual(await written('one'));
      }
      const failing = { ...tensors, t31: chunked(31, true) };
      await expect(writeSafetensors(join(folder, 'x'), failing, { concurrency: 3 })).rejects.toThrow(
        'no more bytes',
      );
      await expect(writeSafetensors(join(folder, 'x'), tensors, { concurrency: 0 })).rejects.toThrow(
        'writeSafetensors: expected concurrency to be a positive integer, got 0',
      );
      expect((await readdir(folder)).sort()).toEqual(['19', '2', '3', 'one']);
    });
  });

  it('refuses what is no object of tensors, and leaves no file', async () => {
    await withFolder({}, async (folder) => {
      const path = join(folder, 'x.safetensors');
      const u8 = { dtype: 'u8', shape: [1], data: new Uint8Array(1) } as const;
      for (const [tensors, message] of [
        [new Map([['w', u8]]), 'expected an object of tensors by name, got Map'],
        [[u8], 'expected an object of tensors by name, got an array of 1'],
        [{ w: undefined }, 'expected w as a tensor, or as { dtype, shape, data }, got undefined'],
        [{ w: { ...u8, shape: '1' } }, 'w: expected a shape, got string'],
        [{ w: { ...u8, shape: [-1] } }, 'w: expected dims >= 0, got [-1]'],
        [{ w: { ...u8, shape: [Number.NaN] } }, 'w: expected dims >= 0, got [NaN]'],
        [{ w: { ...u8, dtype: 'f99' } }, 'w: expected a dtype such as f32, got "f99"'],
        [{ w: { ...u8, data: [1] } }, 'w: expected data as a typed array'],
        [{ w: { ...u8, data: () => 5 } }, 'w: expected chunks of bytes, got 5'],
        [{ w: { ...u8, data: () => 'a' } }, 'w: expected chunks of bytes, got string'],
        [{ w: { ...u8, data: () => ['a'] } }, 'w: expected chunks as Uint8Array, got string'],
      ] as [never, string][]) {
        await expect(writeSafetensors(path, tensors)).rejects.toThrow(`writeSafetensors: ${message}`);
      }
      expect(await readdir(folder)).toEqual([]);
    });
  });

  it('refuses types that safetensors does not have, and folders that are not there', async () => {
    await withFolder({}, async (folder) => {
      const q = { dtype: 'q8_0', shape: [32], data: new Uint8Array(34) } as const;
      await expect(writeSafetensors(join(folder, 'x'), { q })).rejects.toThrow(TypeError);
      const w = { dtype: 'u8', shape: [1], data: new Uint8Array(1) } as const;
      await expect(writeSafetensors(join(folder, 'no', 'x'), { w })).rejects.toThrow(
        'expected a folder, got nothing',
      );
    });
  });
});
