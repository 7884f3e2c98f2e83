/** What objects print in Node's console and as strings. */
import { join } from 'node:path';
import { inspect } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { BlockPool, PagedCache, StaticCache, WindowCache } from '../../src/cache/index.ts';
import * as gqa from '../../src/index.ts';
import { loadModel } from '../../src/models/index.ts';
import { Dropout, Linear, Module, Rngs } from '../../src/nn/index.ts';
import { ownerOf } from '../../src/tensor/storage.ts';
import { GOLDEN } from '../models/golden.ts';
import { backends } from '../ops/backends.ts';

beforeAll(async () => {
  await gqa.setBackend('reference');
});

test.each(backends.map(({ name }) => name))('%s: tensors', async (name) => {
  await gqa.setBackend(name);
  const cases: [gqa.Tensor, string][] = [
    [
      gqa.tensor([
        [0.1, 2],
        [-0, Infinity],
      ]),
      'Tensor f32 [2, 2] [[0.1, 2], [-0, Infinity]]',
    ],
    [gqa.tensor(3), 'Tensor f32 [] 3'],
    [gqa.tensor([1 / 3, 123456.7], { dtype: 'bf16' }), 'Tensor bf16 [2] [0.3339844, 123392]'],
    [gqa.tensor([-7, 2 ** 31 - 1], { dtype: 'i32' }), 'Tensor i32 [2] [-7, 2147483647]'],
    [gqa.tensor([1, 0], { dtype: 'bool' }), 'Tensor bool [2] [true, false]'],
    [gqa.zeros([2, 0, 3]), 'Tensor f32 [2, 0, 3] [[], []]'],
    [gqa.arange(9), 'Tensor f32 [9] [0, 1, 2, …, 6, 7, 8]'],
    [gqa.arange(8), 'Tensor f32 [8] [0, 1, 2, 3, 4, 5, 6, 7]'],
    [
      gqa.reshape(gqa.arange(8), [1, 2, 1, 2, 1, 2, 1]),
      'Tensor f32 [1, 2, 1, 2, 1, 2, 1] [0, 1, 2, 3, 4, 5, 6, 7]',
    ],
    [
      gqa.reshape(gqa.arange(900), [9, 10, 10]),
      `Tensor f32 [9, 10, 10] [${[0, 100, 200, '…', 600, 700, 800]
        .map((page) =>
          typeof page === 'string'
            ? page
            : `[${[0, 10, 20, '…', 70, 80, 90]
                .map((row) =>
                  typeof row === 'string'
                    ? row
                    : `[${[0, 1, 2, '…', 7, 8, 9].map((i) => (typeof i === 'string' ? i : page + row + i)).join(', ')}]`,
                )
                .join(',\n  ')}]`,
        )
        .join(',\n ')}]`,
    ],
  ];
  for (const [tensor, text] of cases) {
    expect(inspect(tensor)).toBe(text);
    expect(String(tensor)).toBe(text);
  }
  const [[first]] = cases;
  expect(inspect({ first })).toContain('first: Tensor f32 [2, 2] [[0.1, 2]');
  first.dispose();
  expect(inspect(first)).toBe('Tensor f32 [2, 2] (disposed)');
});

test('a large tensor is not read as a whole', () => {
  const large = gqa.zeros([1000, 1000]);
  const owner = ownerOf(large.storage);
  let read = 0;
  const counted = owner.read;
  owner.read = (storage, offset, length) => {
    read += length;
    return counted.call(owner, storage, offset, length);
  };
  try {
    expect(String(large)).toContain('0, …, 0');
  } finally {
    owner.read = counted;
  }
  expect(read).toBe(2 * 6 * 6 * 4);
});

test('modules and their variables', () => {
  class Mlp extends Module {
    readonly layers = [new Linear({ inFeatures: 2, outFeatures: 3, rngs: new Rngs(0) })];
    readonly dropout = new Dropout({ rate: 0.5, rngs: new Rngs(0) });
  }
  const mlp = new Mlp();
  const lines = inspect(mlp).split('\n');
  expect(lines.slice(0, 5)).toEqual([
    'Mlp (9 parameters)',
    '  layers: 1 items',
    '    0: Linear',
    '      kernel: Param f32 [2, 3]',
    '      bias: Param f32 [3]',
  ]);
  expect(lines).toContain('  dropout: Dropout');
  expect(inspect(mlp.layers[0].bias)).toBe('Param f32 [3] [0, 0, 0]');
  mlp.dispose();
  expect(inspect(mlp)).toContain('      bias: Param f32 [3] (disposed)');
});

test('caches', () => {
  const layers = [{ numKeyValueHeads: 1, headDim: 4 }];
  const sizes = { backend: gqa.getBackend(), layers, batchSize: 2, maxLength: 5 };
  const fixed = new StaticCache({ ...sizes, dtype: { key: 'f16', value: 'f32' } });
  expect(inspect(fixed)).toBe(
    'StaticCache lengths [0, 0] of 5, 1 layers, f16 keys and f32 values, 240 bytes',
  );
  fixed.dispose();
  expect(inspect(fixed)).toBe('StaticCache (disposed)');
  expect(inspect(new WindowCache({ ...sizes, window: 2 }))).toBe(
    'WindowCache lengths [0, 0] of 5, 1 layers, f32, 128 bytes',
  );
  const pool = new BlockPool({ backend: gqa.getBackend(), layers, numBlocks: 100 });
  expect(inspect(pool)).toBe('BlockPool 100 blocks of 32 tokens, 100 free, 102,400 bytes');
  expect(inspect(new PagedCache({ pool, batchSize: 1, maxLength: 5 }))).toBe(
    'PagedCache lengths [0] of 5, 1 layers, f32, 0 bytes',
  );
});

test('models', async () => {
  const model = await loadModel(join(GOLDEN, 'tiny-llama/mqa'), { backend: 'reference' });
  expect(inspect(model)).toMatch(
    /^Model llama \(\d+ layers, hiddenSize \d+, \d+ heads, 1 key\/value heads, vocabSize \d+\): [\d,]+ parameters, [\d,]+ bytes, on reference$/,
  );
  model.dispose();
  expect(inspect(model)).toMatch(/\(disposed\)$/);
});
