/** The fields of a tensor that kernels rely on cannot be changed from outside. */
import { expect, test } from 'vitest';
import { BlockPool, PagedCache, StaticCache } from '../../src/cache/index.ts';
import * as gqa from '../../src/index.ts';
import { backends } from '../ops/backends.ts';

test.each(backends.map(({ name }) => name))(
  '%s: a shape stays what it is, and so do others of the same',
  async (name) => {
    await gqa.setBackend(name);
    const given = [2, 3];
    const a = gqa.zeros(given);
    const b = gqa.zeros([2, 3]);
    given[0] = 5e7;
    expect(() => {
      (a.shape as number[])[0] = 5e7;
    }).toThrow(TypeError);
    expect(() => (a.shape as number[]).reverse()).toThrow(TypeError);
    expect([a.shape, b.shape, gqa.add(b, b).shape]).toEqual([
      [2, 3],
      [2, 3],
      [2, 3],
    ]);
    for (const field of ['shape', 'dtype', 'storage'] as const) {
      expect(() => {
        (a as unknown as Record<string, unknown>)[field] = field === 'dtype' ? 'f64' : [5e7];
      }).toThrow(TypeError);
      expect(() => Object.defineProperty(a, field, { value: [5e7] })).toThrow(TypeError);
    }
    expect(() => {
      (a.storage as { byteLength: number }).byteLength = 1e9;
    }).toThrow(TypeError);
    expect(a.dataSync()).toEqual(new Float32Array(6));
  },
);

test('an array that answers differently the second time is read once', async () => {
  await gqa.setBackend(backends[backends.length - 1].name);
  const turns = (first: readonly number[], later: readonly number[]) => {
    const reads = new Map<PropertyKey, number>();
    return new Proxy([...first], {
      get(target, key) {
        const count = reads.get(key) ?? 0;
        reads.set(key, count + 1);
        return Reflect.get(count === 0 || typeof later[Number(key)] !== 'number' ? target : later, key);
      },
    });
  };
  expect(gqa.broadcastTo(gqa.ones([1, 3]), turns([2, 3], [5e7, 3])).shape).toEqual([2, 3]);
  expect(gqa.zeros(turns([2, 3], [5e7, 3])).dataSync()).toEqual(new Float32Array(6));
  const q = gqa.ones([1, 2, 1, 4]);
  const once = gqa.dotProductAttention(q, q, q, { keyValueSeqLengths: turns([2], [1e9]) });
  expect(once.dataSync()).toEqual(new Float32Array(8).fill(1));
});

test('memory is made by backends alone, and a tensor of it holds it', () => {
  const { storage } = gqa.ones([2]);
  const Storage = storage.constructor as new (...args: unknown[]) => unknown;
  expect(() => new Storage(undefined, {}, 1e9, 8)).toThrow('Storage: made by backends');
  expect(Object.getOwnPropertyNames(Object.getPrototypeOf(storage)).sort()).toEqual([
    'byteLength',
    'constructor',
  ]);
  expect(Reflect.ownKeys(storage)).toEqual([]);
  expect(() => new gqa.Tensor({ byteLength: 1e9, address: 8 } as never, 'f32', [2])).toThrow(TypeError);
  expect(() => new gqa.Tensor(storage, '__proto__' as 'f32', [2])).toThrow(TypeError);
  expect(() => new gqa.Tensor(storage, 'f32', [3])).toThrow('needs 12 bytes, got 8');
  class Larger extends gqa.Tensor {}
  expect(() => new Larger(storage, 'f32', [2])).toThrow('Tensor: cannot be extended');
  const first = new gqa.Tensor(storage, 'f32', [2]);
  const second = new gqa.Tensor(storage, 'f32', [2]);
  first.dispose();
  first.dispose();
  expect(second.dataSync()).toEqual(Float32Array.of(1, 1));
  const gone = gqa.ones([2]);
  gone.dispose();
  expect(() => new gqa.Tensor(gone.storage, 'f32', [2])).toThrow('used after it was freed');
});

test('sizes of caches cannot be set', () => {
  const backend = gqa.getBackend();
  const layers = [{ numKeyValueHeads: 1, headDim: 4 }];
  const pool = new BlockPool({ backend, layers, numBlocks: 2, blockSize: 2 });
  for (const cache of [
    pool,
    new StaticCache({ backend, layers, batchSize: 1, maxLength: 4 }),
    new PagedCache({ pool, batchSize: 1, maxLength: 4 }),
  ]) {
    for (const field of ['batchSize', 'maxLength', 'blockSize', 'numBlocks', 'pool'] as const) {
      expect(() => {
        (cache as unknown as Record<string, unknown>)[field] = 1e6;
      }).toThrow(TypeError);
    }
  }
});
