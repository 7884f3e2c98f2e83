/** Tensors from numbers: shapes, dtypes and values, on every backend. */
import { beforeAll, describe, expect, test } from 'vitest';
import { arange, cast, full, ones, setBackend, type TensorLike, tensor, zeros } from '../../src/index.ts';
import { backends } from './backends.ts';

for (const backend of backends) {
  describe(`creation on ${backend.name}`, () => {
    beforeAll(async () => {
      await setBackend(backend.name);
    });

    test('nested arrays give their shape back', () => {
      for (const values of [
        5,
        [],
        [1, 2],
        [
          [1, 2, 3],
          [4, 5, 6],
        ],
        [
          [[1], [2]],
          [[3], [4]],
        ],
        [[], []],
      ] as TensorLike[]) {
        expect(tensor(values).toArray()).toEqual(values);
      }
      expect(tensor([[], []]).shape).toEqual([2, 0]);
      expect(tensor([1]).dtype).toBe('f32');
      expect(tensor([true, false])).toMatchObject({ dtype: 'bool', shape: [2] });
      expect(tensor([true, false]).toArray()).toEqual([1, 0]);
    });

    test('typed arrays keep their type, and are copied', () => {
      const values = Float32Array.of(1, 2, 3, 4);
      const x = tensor(values, { shape: [2, 2] });
      values[0] = 9;
      expect(x.toArray()).toEqual([
        [1, 2],
        [3, 4],
      ]);
      expect(tensor(Int32Array.of(-1)).dataSync()).toEqual(Int32Array.of(-1));
      expect(tensor(Uint32Array.of(2 ** 32 - 1)).dataSync()).toEqual(Uint32Array.of(2 ** 32 - 1));
      expect(tensor(Uint8Array.of(255)).dataSync()).toEqual(Uint8Array.of(255));
      // A view into a larger buffer, at an offset no element type is aligned to.
      expect(Array.from(tensor(new Uint8Array([1, 2, 3, 4]).subarray(1, 3)).dataSync())).toEqual([2, 3]);
    });

    test('dtypes round and truncate', () => {
      expect(tensor([1 / 3], { dtype: 'f16' }).dataSync()[0]).toBe(0.333251953125);
      expect(tensor([1 / 3], { dtype: 'bf16' }).dataSync()[0]).toBe(0.333984375);
      expect(tensor([2.9, -2.9], { dtype: 'i32' }).toArray()).toEqual([2, -2]);
      expect(tensor([0, 0.5, -2], { dtype: 'bool' }).toArray()).toEqual([0, 1, 1]);
    });

    test('zeros, ones, full and arange in every dtype', () => {
      for (const dtype of ['f32', 'f16', 'bf16', 'i32', 'u32', 'u8', 'bool'] as const) {
        expect(zeros([2, 2], { dtype }).toArray()).toEqual([
          [0, 0],
          [0, 0],
        ]);
        expect(ones([3], { dtype })).toMatchObject({ dtype, shape: [3] });
        expect(ones([3], { dtype }).toArray()).toEqual([1, 1, 1]);
        expect(full([2], 3, { dtype }).toArray()).toEqual(dtype === 'bool' ? [1, 1] : [3, 3]);
      }
      expect(full([], -2.5).toArray()).toBe(-2.5);
      expect(zeros([0, 3]).toArray()).toEqual([]);
      expect(arange(4).toArray()).toEqual([0, 1, 2, 3]);
      expect(arange(1, 2, 0.25).toArray()).toEqual([1, 1.25, 1.5, 1.75]);
      expect(arange(3, 0, -1, { dtype: 'i32' })).toMatchObject({ dtype: 'i32', shape: [3] });
      expect(arange(3, 0).shape).toEqual([0]);
    });

    test('data() is a fresh array each time', async () => {
      const x = tensor([1, 2]);
      const first = await x.data();
      first[0] = 9;
      expect(await x.data()).toEqual(Float32Array.of(1, 2));
      x.dispose();
      await expect(x.data()).rejects.toThrow('read after dispose()');
    });

    test('casts keep NaN and infinities', () => {
      const x = tensor([Number.NaN, Infinity, -Infinity, 1e9, -0]);
      expect(cast(cast(x, 'bf16'), 'f32').toArray()).toEqual([
        Number.NaN,
        Infinity,
        -Infinity,
        998244352,
        -0,
      ]);
      expect(cast(cast(x, 'f16'), 'f32').toArray()).toEqual([Number.NaN, Infinity, -Infinity, Infinity, -0]);
      expect(cast(x, 'bool').toArray()).toEqual([1, 1, 1, 1, 0]);
    });
  });
}
