/**
 * Hostile values for every number that reaches an address, a size or a count in the kernels (the table in
 * SECURITY.md, "Numbers that reach an address"). A call must return or throw. Accesses outside its memory
 * are found by the address sanitizer (`make sanitize-addon`), and often crash without it.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { BlockPool, PagedCache, StaticCache, WindowCache } from '../../src/cache/index.ts';
import { loadTensor, openCheckpoint, writeSafetensors } from '../../src/checkpoint/index.ts';
import * as gqa from '../../src/index.ts';
import { Cache, initializers, MultiHeadAttention, Param, Rngs, RoPE } from '../../src/nn/index.ts';
import { chooseExperts, expertLinears } from '../../src/ops/experts.ts';
import * as random from '../../src/random/index.ts';
import { adamw, Optimizer } from '../../src/train/index.ts';
import { backends } from '../ops/backends.ts';

/** No size that a machine might really have the memory for. */
const HOSTILE: readonly unknown[] = [
  ...[-1, -2, -(2 ** 31), -(2 ** 53), 0.5, -0, Number.NaN, Infinity, -Infinity],
  ...[2 ** 47, 2 ** 53, 2 ** 64, 1e300, Number.MIN_VALUE],
  ...['1', '', null, undefined, true, {}, [], [1], 1n, { valueOf: () => 1 }],
];
const hostile = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: 0, max: 9 }) },
  { weight: 2, arbitrary: fc.constantFrom(...HOSTILE) },
) as fc.Arbitrary<number>;
/** Counts that are checked against a length, and allocate nothing. */
const index = fc.oneof(hostile, fc.constantFrom(2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 32 + 1, -(2 ** 32)));
const shapeOf = (rank: number) => fc.array(hostile, { minLength: rank, maxLength: rank });

/**
 * Runs `call` with drawn numbers; what it returns or throws is its business, that the process goes on is
 * ours.
 */
function drive<T>(numbers: fc.Arbitrary<T>, call: (drawn: T) => unknown, runs = 60): void {
  fc.assert(
    fc.property(numbers, (drawn) => {
      try {
        gqa.scope(() => {
          call(drawn);
        });
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
    }),
    { numRuns: runs },
  );
  // What lies around it is as it was.
  expect(gqa.add(gqa.ones([64]), 1).dataSync()).toEqual(new Float32Array(64).fill(2));
}

const layers = [{ numKeyValueHeads: 1, headDim: 4 }];
const i32 = (values: readonly number[], shape: readonly number[] = [values.length]) =>
  gqa.tensor(Int32Array.from(values), { shape });

afterAll(() => gqa.setBackend('reference'));

describe.each(backends.map(({ name }) => name))('%s', (name) => {
  beforeEach(async () => {
    await gqa.setBackend(name);
  });

  const x = () => gqa.ones([2, 3, 4]);
  const shaped: [string, () => void][] = [
    ['tensor', () => drive(shapeOf(2), (shape) => gqa.tensor([1, 2, 3, 4], { shape }))],
    ['zeros', () => drive(shapeOf(3), (shape) => gqa.zeros(shape))],
    ['reshape', () => drive(shapeOf(2), (shape) => gqa.reshape(x(), shape))],
    ['broadcastTo', () => drive(shapeOf(3), (shape) => gqa.broadcastTo(gqa.ones([3, 1]), shape))],
    [
      'slice',
      () =>
        drive(fc.tuple(fc.array(index, { maxLength: 4 }), fc.array(index, { maxLength: 4 })), ([a, b]) =>
          gqa.slice(x(), a, b),
        ),
    ],
    ['transpose', () => drive(fc.array(index, { maxLength: 4 }), (axes) => gqa.transpose(x(), axes))],
    ['concat', () => drive(index, (axis) => gqa.concat([x(), x()], axis))],
    ['sum', () => drive(fc.array(index, { maxLength: 3 }), (axis) => gqa.sum(x(), { axis }))],
    ['softmax', () => drive(index, (axis) => gqa.softmax(x(), { axis }))],
    ['uniform', () => drive(shapeOf(2), (shape) => random.uniform(random.key(0), shape))],
    [
      'categorical',
      () =>
        drive(fc.tuple(index, shapeOf(2)), ([axis, shape]) =>
          random.categorical(random.key(0), x(), { axis, shape }),
        ),
    ],
    [
      'randint',
      () => drive(fc.tuple(index, index), ([low, high]) => random.randint(random.key(0), [3], low, high)),
    ],
    ['an initializer', () => drive(shapeOf(2), (shape) => initializers.lecunNormal()(random.key(0), shape))],
    [
      'Tensor',
      () =>
        drive(
          fc.tuple(shapeOf(2), fc.constantFrom('f32', 'q8_0', 'q4_k', 'u8', '__proto__', 'constructor', 1)),
          ([shape, dtype]) => new gqa.Tensor(x().storage, dtype as 'f32', shape).dataSync(),
        ),
    ],
  ];
  test.each(shaped)('shapes and axes of %s', (_, run) => run());

  test('empty tensors with large dimensions', () => {
    const sizes = fc.constantFrom(0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 + 1, 2 ** 45);
    drive(
      fc.tuple(sizes, sizes, fc.constantFrom(0, 1, 2)),
      ([a, b, zero]) => {
        const shape = [a, b];
        shape.splice(zero, 0, 0);
        const empty = gqa.zeros(shape);
        const flat = gqa.zeros([0, a]);
        for (const run of [
          () => gqa.add(empty, 1),
          () => gqa.softmax(empty),
          () => gqa.sum(gqa.zeros([0, 3]), { axis: 0 }),
          () => gqa.transpose(gqa.zeros([0, 2, 3])),
          () => gqa.linear(flat, gqa.zeros([0, a])),
          () => gqa.matmul(flat, gqa.zeros([a, 0])),
          () => gqa.rmsNorm(flat, undefined as never),
          () => gqa.layerNorm(flat),
          () => gqa.swiglu(flat, flat),
          () => gqa.concat([flat, flat], 1),
          () => gqa.cast(flat, 'f16'),
          () => gqa.embedding(gqa.zeros([0, a]), i32([])),
          () =>
            gqa.dotProductAttention(
              gqa.zeros([0, 1, 1, a]),
              gqa.zeros([0, 1, 1, a]),
              gqa.zeros([0, 1, 1, a]),
            ),
          () =>
            gqa.dotProductAttention(
              gqa.zeros([1, 1, a, 0]),
              gqa.zeros([1, 0, 1, 0]),
              gqa.zeros([1, 0, 1, 0]),
            ),
          () => gqa.grad((q: gqa.Tensor) => gqa.sum(gqa.linear(q, gqa.zeros([0, a]))))(flat),
        ]) {
          try {
            run();
          } catch (error) {
            expect(error).toBeInstanceOf(Error);
          }
        }
      },
      25,
    );
  });

  test('ids, labels and experts', () => {
    const id = fc.oneof(fc.integer({ min: -2, max: 9 }), fc.constantFrom(2 ** 31 - 1, -(2 ** 31), 1 << 20));
    const ids = fc.array(id, { minLength: 1, maxLength: 5 });
    drive(ids, (list) => gqa.embedding(gqa.ones([8, 3]), i32(list)));
    drive(ids, (list) => gqa.softmaxCrossEntropy(gqa.ones([list.length, 8]), i32(list)));
    drive(
      fc.array(fc.constantFrom(0, 1, Number.NaN, Infinity, -Infinity), { minLength: 8, maxLength: 8 }),
      (scores) => {
        const { ids: chosen } = chooseExperts(gqa.tensor([scores]), { count: 3 });
        expertLinears(gqa.ones([1, 2]), chosen, [
          { weights: Array.from({ length: 8 }, () => gqa.ones([3, 2])) },
        ]);
      },
    );
    drive(fc.tuple(index, index, index, index), ([count, runs, kept, best]) =>
      chooseExperts(gqa.ones([3, 8]), { count, groups: { count: runs, kept, best } }),
    );
  });

  test('ids that change between a call and its gradient', () => {
    drive(fc.constantFrom(-5, 8, 1 << 20, 2 ** 31 - 1), (id) => {
      const rows = new Cache(i32([0, 1]));
      gqa.grad((table: gqa.Tensor) => {
        const found = gqa.sum(gqa.embedding(table, rows.value));
        rows.value = i32([id, 1]);
        return found;
      })(gqa.ones([8, 3]));
    });
    drive(fc.constantFrom(-5, 8, 1 << 20, 2 ** 31 - 1), (label) => {
      const labels = new Cache(i32([0, 1]));
      gqa.grad((logits: gqa.Tensor) => {
        const loss = gqa.sum(gqa.softmaxCrossEntropy(logits, labels.value));
        labels.value = i32([label, 1]);
        return loss;
      })(gqa.ones([2, 8]));
    });
  });

  test('lengths, windows and keys of attention', () => {
    const q = () => gqa.ones([1, 3, 2, 4]);
    const list = fc.array(index, { maxLength: 2 });
    drive(fc.record({ querySeqLengths: list, keyValueSeqLengths: list }), (options) =>
      gqa.dotProductAttention(q(), q(), q(), options),
    );
    drive(fc.tuple(index, index), (localWindowSize) =>
      gqa.dotProductAttention(q(), q(), q(), { localWindowSize }),
    );
    drive(fc.record({ scale: index, logitsSoftCap: index, chunkSize: index }), (options) =>
      gqa.dotProductAttention(q(), q(), q(), options),
    );
    drive(fc.tuple(index, fc.tuple(index, index)), ([dropoutRate, dropoutKey]) =>
      gqa.dotProductAttention(q(), q(), q(), { dropoutRate, dropoutKey }),
    );
    drive(fc.tuple(shapeOf(4), shapeOf(1)), ([mask, sinks]) =>
      gqa.dotProductAttention(q(), q(), q(), { bias: gqa.zeros(mask), sinks: gqa.zeros(sinks) }),
    );
  });

  test('views', () => {
    const cache = new StaticCache({ backend: gqa.getBackend(), layers, batchSize: 1, maxLength: 6 });
    cache.reserve(3);
    cache.write(0, gqa.ones([1, 3, 1, 4]), gqa.ones([1, 3, 1, 4]));
    const view = cache.view(0);
    const [row] = view.rows;
    const [segment] = row.segments;
    const q = gqa.ones([1, 2, 1, 4]);
    const numbers = [
      'numKeyValueHeads',
      'headDim',
      'valueHeadDim',
      'keyTokenStride',
      'keyHeadStride',
      'valueTokenStride',
      'valueHeadStride',
      'window',
      'pinned',
      'keyRowBytes',
      'valueRowBytes',
    ] as const;
    drive(
      fc.tuple(fc.constantFrom(...numbers), index),
      ([field, value]) => gqa.attend(q, { ...view, [field]: value }),
      300,
    );
    drive(
      fc.tuple(
        fc.constantFrom('keyByteOffset', 'valueByteOffset', 'length'),
        fc.oneof(index, fc.constantFrom(16, 64, 96, 100)),
      ),
      ([field, value]) =>
        gqa.attend(q, { ...view, rows: [{ length: 3, segments: [{ ...segment, [field]: value }] }] }),
      200,
    );
    drive(index, (length) => gqa.attend(q, { ...view, rows: [{ length, segments: [segment] }] }));
    drive(
      fc.record({
        queryLengths: fc.array(index, { maxLength: 2 }),
        queryOffsets: fc.array(index, { maxLength: 2 }),
        queryPositions: fc.array(index, { maxLength: 2 }),
        chunkSize: index,
      }),
      (options) => gqa.attend(q, view, options),
    );
    drive(fc.tuple(index, index), (localWindowSize) => gqa.attend(q, view, { localWindowSize }));
    cache.dispose();
    expect(() => gqa.attend(q, view)).toThrow('expected the view of a live cache');
  });

  test('sizes of caches', () => {
    const backend = gqa.getBackend();
    const layer = fc.record({ numKeyValueHeads: hostile, headDim: hostile }, {});
    const parts = fc.record(
      { valueHeadDim: hostile, latentDim: hostile, window: index, sinks: hostile },
      { requiredKeys: [] },
    );
    drive(
      fc.tuple(layer, parts, hostile, hostile),
      ([base, { sinks, ...more }, batchSize, maxLength]) => {
        const common = { backend, layers: [{ ...base, ...more }], batchSize, maxLength };
        for (const make of [
          () => new StaticCache(common),
          () => new WindowCache({ ...common, ...(sinks !== undefined && { sinks }) }),
          () => new BlockPool({ backend, layers: common.layers, numBlocks: batchSize, blockSize: maxLength }),
        ]) {
          try {
            make().dispose();
          } catch (error) {
            expect(error).toBeInstanceOf(Error);
          }
        }
      },
      150,
    );
  });

  test('places in caches', () => {
    const backend = gqa.getBackend();
    const kv = gqa.ones([2, 9, 1, 4]);
    const pool = new BlockPool({ backend, layers, numBlocks: 6, blockSize: 2 });
    const paged = new PagedCache({ pool, batchSize: 2, maxLength: 8 });
    const caches = [
      paged,
      new StaticCache({ backend, layers, batchSize: 2, maxLength: 8 }),
      new WindowCache({ backend, layers, batchSize: 2, maxLength: 8, window: 3, sinks: 1 }),
    ];
    const step = fc.record({
      which: fc.constantFrom(0, 1, 2),
      method: fc.constantFrom(
        'reserve',
        'write',
        'view',
        'commit',
        'truncate',
        'hold',
        'share',
        'copy',
        'retain',
        'references',
        'field',
      ),
      a: index,
      b: index,
      c: index,
    });
    fc.assert(
      fc.property(fc.array(step, { minLength: 5, maxLength: 30 }), (steps) => {
        for (const cache of caches) cache.reset();
        for (const { which, method, a, b, c } of steps) {
          const cache = caches[which];
          try {
            if (method === 'reserve') cache.reserve(typeof c === 'number' && c > 4 ? [a, b] : a);
            if (method === 'write') cache.write(typeof a === 'number' && a < 6 ? 0 : a, kv, kv);
            if (method === 'view')
              gqa.attend(gqa.ones([2, 1, 1, 4]), cache.view(typeof a === 'number' ? 0 : a)).dispose();
            if (method === 'commit') cache.commit();
            if (method === 'truncate') cache.truncate(a, b);
            if (method === 'hold') (cache as WindowCache).hold?.(a, b);
            if (method === 'share') paged.share(a, paged, b, c);
            if (method === 'copy') pool.copy(a, b, c);
            if (method === 'retain') pool.references(a);
            if (method === 'references') pool.references(b);
          } catch (error) {
            expect(error).toBeInstanceOf(Error);
          }
        }
      }),
      { numRuns: 60 },
    );
    for (const cache of caches) cache.dispose();
    pool.dispose();
  });

  test('fields of caches that a program overwrites', () => {
    const kv = gqa.ones([2, 4, 1, 4]);
    const fields = [
      'batchSize',
      'maxLength',
      'numLayers',
      'blockSize',
      'numBlocks',
      'pool',
      'layers',
      'bytes',
    ];
    drive(
      fc.tuple(
        fc.constantFrom(0, 1, 2),
        fc.constantFrom(...fields),
        fc.constantFrom(0, 1, 3, 1000, -1, 2 ** 31, Number.NaN),
      ),
      ([which, field, value]) => {
        const backend = gqa.getBackend();
        const pool = new BlockPool({ backend, layers, numBlocks: 8, blockSize: 2 });
        const common = { backend, layers, batchSize: 2, maxLength: 6 };
        const cache = [
          () => new StaticCache(common),
          () => new WindowCache({ ...common, window: 3 }),
          () => new PagedCache({ pool, batchSize: 2, maxLength: 6 }),
        ][which]();
        if (field === 'batchSize' && value === 2 ** 31) return; // a loop that long
        for (const target of [cache, pool]) {
          try {
            if (field in target) (target as unknown as Record<string, unknown>)[field] = value;
          } catch {
            // has a getter only
          }
        }
        try {
          cache.reserve(4);
          cache.write(0, kv, kv);
          gqa.attend(gqa.ones([2, 1, 1, 4]), cache.view(0)).dispose();
          cache.commit();
          cache.truncate(1, 1);
        } finally {
          try {
            cache.dispose();
          } catch {
            // blocks of a pool that is none
          }
          pool.dispose();
        }
      },
      80,
    );
  });

  test('positions, cache indices and sizes of modules', () => {
    drive(fc.array(index, { minLength: 3, maxLength: 3 }), (at) => new RoPE().forward(gqa.ones([3, 4]), at));
    drive(fc.tuple(hostile, hostile, index), ([B, S, at]) => {
      const layer = new MultiHeadAttention({ numHeads: 2, inFeatures: 8, decode: true, rngs: new Rngs(0) });
      layer.initCache([B, S, 8]);
      if (layer.cacheIndex && typeof at === 'number') layer.cacheIndex.value = gqa.tensor(at);
      layer.forward(gqa.ones([B, 1, 8]));
    });
  });

  test('what was disposed', () => {
    const model = () => {
      const weight = new Param(gqa.ones([3]));
      return { weight, parameters: () => new Map([['weight', weight]]) };
    };
    const owner = model();
    owner.weight.dispose();
    expect(() => {
      owner.weight.value = gqa.ones([3]);
    }).toThrow('after dispose()');
    const other = model();
    const freed = gqa.ones([3]);
    freed.dispose();
    expect(() => {
      other.weight.value = freed;
    }).toThrow('after dispose()');
    const optimizer = new Optimizer(other, adamw({ learningRate: 1 }));
    expect(() => optimizer.update(other, { weight: freed })).toThrow('after dispose()');
    for (const moment of Object.values(optimizer.tensors)) moment.dispose();
    expect(() => optimizer.update(other, { weight: gqa.ones([3]) })).toThrow('after dispose()');
    other.weight.dispose();
    expect(() => optimizer.update(other, { weight: gqa.ones([3]) })).toThrow('after dispose()');
  });

  describe('files', () => {
    let folder: string;
    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'gqa-hostile-'));
    });
    afterAll(() => rmSync(folder, { recursive: true }));

    test('ranges of rows and of bytes', async () => {
      const path = join(folder, 'x.safetensors');
      await writeSafetensors(path, { x: gqa.ones([4, 3]) });
      await using checkpoint = await openCheckpoint(path);
      drive(fc.tuple(index, index, index), ([first, end, item]) =>
        loadTensor(checkpoint, 'x', {
          rows: [first, end],
          ...(item !== undefined && { item }),
        } as never).dataSync(),
      );
      const own = backends.find((backend) => backend.name === name);
      if (!own) return;
      const file = own.openFile(path);
      drive(fc.tuple(index, index), ([offset, length]) => file.storage(offset, length));
      expect(() => file.storage(10, -5)).toThrow(RangeError);
      expect(() => file.storage(Number.NaN, 4)).toThrow(RangeError);
      file.close();
      file.close();
      expect(() => file.storage(0, 4)).toThrow('read after close()');
    });
  });

  test('memory of a backend, which programs cannot reach', async () => {
    const own = backends.find((backend) => backend.name === name);
    if (!own) return;
    const storage = gqa.ones([4]).storage;
    drive(fc.tuple(index, index), ([offset, length]) => own.read(storage, offset, length));
    drive(fc.tuple(index, fc.integer({ min: 0, max: 40 })), ([offset, length]) =>
      own.write(storage, new Uint8Array(length), offset),
    );
    drive(fc.constantFrom(-1, -8, 0.5, Number.NaN, 2 ** 53, 2 ** 64, Infinity, -(2 ** 31)), (bytes) =>
      own.allocate(bytes),
    );
    expect(() => own.read(storage, 8, 9)).toThrow(
      'read: expected a range inside 16 bytes, got 9 bytes from 8 on',
    );
    expect(() => own.write(storage, new Uint8Array(4), 13)).toThrow(
      'write: expected a range inside 16 bytes',
    );
    for (const threads of [-1, 0, 65, 1.5, Number.NaN, 2 ** 32 + 1, Infinity]) {
      await expect(gqa.setThreads(threads)).rejects.toThrow(
        'setThreads: expected an integer from 1 to 64, got ',
      );
    }
    await gqa.setThreads(1);
  });
});
