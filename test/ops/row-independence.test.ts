/**
 * A row has the same bits alone and beside others: so a generation has the same tokens alone and in a batch,
 * and a pass over several tokens of a row those of one token after the other.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/backend.ts';
import { open, setBackend } from '../../src/backend/registry.ts';
import {
  BlockPool,
  type CacheStorage,
  type KeyValueCache,
  PagedCache,
  StaticCache,
  WindowCache,
} from '../../src/cache/index.ts';
import { type DType, layerNorm, linear, rmsNorm, rope, Tensor } from '../../src/index.ts';
import { type AttendOptions, attend } from '../../src/ops/attend.ts';
import { chooseExperts, expertLinears } from '../../src/ops/experts.ts';
import { gatedActivation } from '../../src/ops/gated.ts';
import { FEW_ROWS } from '../../src/ops/linear.ts';
import { withMatmulPrecision } from '../../src/ops/matmul-precision.ts';
import { DTYPES, isBlockDType } from '../../src/tensor/dtype.ts';
import { encode } from '../../src/tensor/encode.ts';
import { sizeOf } from '../../src/tensor/shape.ts';
import { randomFrom } from '../cases/inputs.ts';
import { backends } from './backends.ts';
import { randomWeights } from './random-weights.ts';

const STORED: readonly DType[] = [
  'f32',
  'f16',
  'bf16',
  ...(Object.keys(DTYPES) as DType[]).filter(isBlockDType),
];
/**
 * Row lengths by the length of a block: one chunk of the sum and a bit, several; odd numbers of groups and
 * tails where the type has them.
 */
const INPUTS: Readonly<Record<number, readonly number[]>> = {
  1: [45, 1063],
  32: [96, 1120],
  256: [256, 1280],
};

describe.each(backends.map(({ name }) => name))('%s', (name) => {
  let backend: Backend;
  beforeAll(async () => {
    await setBackend(name);
    backend = open(name);
  });

  const uniform = randomFrom(17);
  const numbers = (n: number) => Float32Array.from({ length: n }, () => 2 * uniform() - 1);
  const stored = (dtype: DType, shape: number[], bytes: Uint8Array<ArrayBuffer>) => {
    const storage = backend.allocate(bytes.byteLength);
    backend.write(storage, bytes);
    return new Tensor(storage, dtype, shape);
  };
  const floats = (shape: number[], values: Float32Array = numbers(sizeOf(shape))) =>
    stored('f32', shape, encode('f32', values));
  const weights = (dtype: DType, shape: number[]) =>
    stored(dtype, shape, randomWeights(dtype, sizeOf(shape), uniform));

  /** Expects `op` on all rows of `values` to give the bits of `op` on each alone. */
  function expectRows(
    rows: number,
    values: Float32Array,
    op: (values: Float32Array, rows: number) => Tensor,
  ) {
    const together = op(values, rows).dataSync();
    expect(together.every(Number.isFinite)).toBe(true);
    const [n, out] = [values.length / rows, together.length / rows];
    for (let r = 0; r < rows; r++) {
      const alone = op(values.slice(r * n, (r + 1) * n), 1).dataSync();
      expect(together.slice(r * out, (r + 1) * out), `row ${r} of ${rows}`).toEqual(alone);
    }
  }

  test.each(STORED)('linear with %s weights', (dtype) => {
    for (const In of INPUTS[DTYPES[dtype].blockLength]) {
      const weight = weights(dtype, [13, In]);
      const bias = floats([13]);
      for (const rows of [2, 3, 5, 8, 11, FEW_ROWS]) {
        expectRows(rows, numbers(rows * In), (x, R) => linear(floats([R, In], x), weight, bias));
      }
    }
  });

  test.each(STORED.filter(isBlockDType))('linear with %s weights and 8-bit activations', (dtype) => {
    for (const In of INPUTS[DTYPES[dtype].blockLength]) {
      const weight = weights(dtype, [13, In]);
      const bias = floats([13]);
      for (const rows of [2, 3, 5, 8, 11, FEW_ROWS]) {
        expectRows(rows, numbers(rows * In), (x, R) =>
          withMatmulPrecision('int8', () => linear(floats([R, In], x), weight, bias)),
        );
      }
    }
  });

  test('norms and gated activations', () => {
    const n = 77;
    const [weight, bias] = [floats([n]), floats([n])];
    for (const rows of [2, 16, 64]) {
      expectRows(rows, numbers(rows * n), (x, R) => rmsNorm(floats([R, n], x), weight));
      expectRows(rows, numbers(rows * n), (x, R) => layerNorm(floats([R, n], x), weight, bias));
      for (const activation of ['silu', 'gelu', 'geluTanh'] as const) {
        expectRows(rows, numbers(rows * n), (x, R) =>
          gatedActivation(floats([R, n], x), floats([R, n], x), activation),
        );
      }
    }
  });

  test('rope', () => {
    const [N, H] = [3, 22];
    for (const interleaved of [false, true]) {
      const [cos, sin] = [numbers(16 * 11), numbers(16 * 11)];
      const rotate = (x: Float32Array, from: number, R: number) => {
        const part = (table: Float32Array) => floats([R, 1, 11], table.slice(from * 11, (from + R) * 11));
        return rope(floats([R, 1, N, H], x), part(cos), part(sin), { interleaved }).dataSync();
      };
      const x = numbers(16 * N * H);
      const together = rotate(x, 0, 16);
      for (let r = 0; r < 16; r++) {
        const row = (values: ArrayLike<number>) => Array.from(values).slice(r * N * H, (r + 1) * N * H);
        expect(row(together)).toEqual(Array.from(rotate(Float32Array.from(row(x)), r, 1)));
      }
    }
  });

  test.each([false, true])('experts, transposed %s', (transposed) => {
    const [E, In, Out, count] = [5, 70, 19, 2];
    const router = floats([E, In]);
    const experts = Array.from({ length: E }, () => floats(transposed ? [In, Out] : [Out, In]));
    const biases = experts.map(() => floats([Out]));
    for (const rows of [2, 7, FEW_ROWS]) {
      expectRows(rows, numbers(rows * In), (values, R) => {
        const x = floats([R, In], values);
        const { ids } = chooseExperts(linear(x, router), { count });
        return expertLinears(x, ids, [{ weights: experts, biases }], transposed)[0];
      });
    }
  });

  describe('attend', () => {
    const H = 20;
    const long = name === 'reference' ? 300 : 1100;
    /** Rows of every kind: one key, a part of a block, several chunks of keys. */
    const LENGTHS: readonly number[] = [9, 31, 257, long, long - 87];
    type Kind = (
      layer: { numKeyValueHeads: number; headDim: number },
      B: number,
      dtype: CacheStorage,
    ) => KeyValueCache;
    const fixed: Kind = (layer, batchSize, dtype) =>
      new StaticCache({ backend, layers: [layer], batchSize, maxLength: long, dtype });
    const paged =
      (blockSize: number): Kind =>
      (layer, batchSize, dtype) => {
        const pool = new BlockPool({
          backend,
          layers: [layer],
          numBlocks: batchSize * Math.ceil(long / blockSize),
          blockSize,
          dtype,
        });
        return new PagedCache({ pool, batchSize, maxLength: long, ownsPool: true });
      };

    /** Keys and values of each row, `[S, K, H]`, and a cache that holds those of some rows. */
    function filled(kind: Kind, K: number, dtype: CacheStorage, data: readonly (readonly Float32Array[])[]) {
      const cache = kind({ numKeyValueHeads: K, headDim: H }, data.length, dtype);
      // In two passes, so that a ring turns.
      const sizes = data.map(([key]) => key.length / (K * H));
      for (const [from, to] of [
        [0, 0.5],
        [0.5, 1],
      ]) {
        const [begin, end] = [from, to].map((part) => sizes.map((size) => Math.floor(size * part)));
        const counts = end.map((e, b) => e - begin[b]);
        const T = Math.max(...counts);
        const tensors = [0, 1].map((which) => {
          const all = new Float32Array(data.length * T * K * H);
          for (const [b, row] of data.entries()) {
            all.set(row[which].subarray(begin[b] * K * H, end[b] * K * H), b * T * K * H);
          }
          return floats([data.length, T, K, H], all);
        });
        cache.reserve(counts);
        cache.write(0, tensors[0], tensors[1]);
        cache.commit();
      }
      return cache;
    }

    // The reference has one loop for all groups and types: each of them once.
    const all = [1, 3, 16].flatMap((G) =>
      (['f32', 'bf16', 'q8_0'] as const).map((dtype) => [G, dtype] as const),
    );
    const cases =
      name === 'reference'
        ? ([
            [1, 'bf16'],
            [3, 'q8_0'],
            [16, 'f32'],
          ] as const)
        : all;
    test.each(cases)('groups of %i, %s', (G, dtype) => {
      const K = 2;
      const N = K * G;
      const data = LENGTHS.map((S) => [numbers(S * K * H), numbers(S * K * H)]);
      const others: AttendOptions[] = [{ localWindowSize: [200, 0] }, { logitsSoftCap: 3 }];
      for (const options of [{}, ...(dtype === 'f32' ? others : [])]) {
        const T = 9;
        const query = numbers(LENGTHS.length * T * N * H);
        const of = (b: number, t: number, n: number) =>
          query.slice((b * T + t) * N * H, (b * T + t + n) * N * H);
        const alone = LENGTHS.map((S, b) => {
          const cache = filled(fixed, K, dtype, [data[b]]);
          const outs = Array.from({ length: T }, (_, t) =>
            attend(floats([1, 1, N, H], of(b, t, 1)), cache.view(0), {
              ...options,
              queryOffsets: [S - T + t],
            }).dataSync(),
          );
          // 2 to 9 queries of one row.
          for (const n of [2, 3, 5, 9]) {
            const few = attend(floats([1, n, N, H], of(b, 0, n)), cache.view(0), {
              ...options,
              queryOffsets: [S - T],
            });
            const joined = outs.slice(0, n).flatMap((out) => Array.from(out));
            expect(Array.from(few.dataSync()), `${n} queries of row ${b}`).toEqual(joined);
          }
          cache.dispose();
          return outs;
        });
        for (const [kindName, kind] of Object.entries({
          static: fixed,
          'paged by 16': paged(16),
          'paged by 5': paged(5),
        })) {
          const cache = filled(kind, K, dtype, data);
          for (const t of [0, 8]) {
            const all = floats(
              [LENGTHS.length, 1, N, H],
              Float32Array.from(LENGTHS.flatMap((_, b) => Array.from(of(b, t, 1)))),
            );
            const offsets = LENGTHS.map((S) => S - T + t);
            const out = attend(all, cache.view(0), { ...options, queryOffsets: offsets }).dataSync();
            LENGTHS.forEach((_, b) => {
              expect(out.slice(b * N * H, (b + 1) * N * H), `${kindName}, row ${b}`).toEqual(alone[b][t]);
            });
          }
          cache.dispose();
        }
      }
    });

    test('a window in a ring as in a cache that keeps every key', () => {
      const [K, N, window] = [1, 3, 200];
      const data = LENGTHS.map((S) => [numbers(S * K * H), numbers(S * K * H)]);
      const query = floats([LENGTHS.length, 1, N, H]);
      const ring: Kind = (layer, batchSize, dtype) =>
        new WindowCache({ backend, layers: [layer], batchSize, maxLength: long, dtype, window });
      const got = attend(query, filled(ring, K, 'f32', data).view(0)).dataSync();
      const want = attend(query, filled(fixed, K, 'f32', data).view(0), { localWindowSize: [window - 1, 0] });
      expect(got).toEqual(want.dataSync());
    });
  });
});
