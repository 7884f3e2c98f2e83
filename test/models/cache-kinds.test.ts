/**
 * Models on every cache kind: windows, pages and 8 bits give the logits of one pass, in chunks, forked and
 * rolled back.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { KeyValueCache } from '../../src/cache/cache.ts';
import { BlockPool, PagedCache } from '../../src/cache/index.ts';
import { type InitCacheOptions, loadModel, type Model } from '../../src/models/index.ts';
import { BACKENDS, expectClose, GOLDEN, Golden } from './golden.ts';

const MODELS = [
  'tiny-mistral/window',
  'tiny-qwen2/window',
  'tiny-qwen3/plain',
  'tiny-phi3/window',
  'tiny-llama/mqa',
];
const CHOICES: readonly Omit<InitCacheOptions, 'batchSize' | 'maxLength'>[] = [
  {},
  { kind: 'paged', blockSize: 3 },
  { dtype: 'bf16' },
  { dtype: 'f16', kind: 'paged' },
  { dtype: 'q8_0' },
  { dtype: { key: 'f16', value: 'q8_0' }, kind: 'paged', blockSize: 5 },
];

/**
 * Chunks of other lengths sum in another order, so a value may round to the neighbour of what one pass
 * stored: one step of the type (2^-10 of a value in f16, 2^-7 in bf16, 1/127 of the largest in q8_0), which a
 * few layers pass on.
 */
function tolerance(dtype: InitCacheOptions['dtype'] = 'f32'): number {
  const steps = { f32: 2e-5, f16: 2 ** -10, bf16: 2 ** -7, q8_0: 1 / 127 };
  return typeof dtype === 'string' ? steps[dtype] : Math.max(steps[dtype.key], steps[dtype.value]);
}

describe.each(BACKENDS)('%s', (backend) => {
  describe.each(MODELS)('%s', (name) => {
    let model: Model;
    let rows: number[][];
    let T: number;
    let logits: Float32Array;
    beforeAll(async () => {
      const golden = await Golden.open(name);
      rows = golden.rows('tokens');
      logits = golden.floats('logits');
      T = rows[0].length;
      model = await loadModel(join(GOLDEN, name), { backend });
    });
    afterAll(() => model.dispose());

    /** The logits of each row's tokens from `at` on. */
    const feed = (cache: KeyValueCache, at: readonly number[], counts: readonly number[]): Float32Array[] => {
      const out = model.forward(
        at.map((from, row) => rows[row].slice(from, from + counts[row])),
        { cache },
      );
      const [, longest, V] = out.shape;
      const flat = out.dataSync() as Float32Array;
      out.dispose();
      return counts.map((count, row) => flat.slice(row * longest * V, (row * longest + count) * V));
    };

    test.each(CHOICES.map((choice) => [JSON.stringify(choice), choice] as const))('%s', (_, choice) => {
      const cache = model.initCache({ batchSize: 2, maxLength: T, ...choice });
      const whole = feed(cache, [0, 0], [T, T]);
      const V = whole[0].length / T;
      if (choice.dtype === undefined) {
        whole.forEach((out, row) => {
          expectClose(out, logits.subarray(row * T * V, (row + 1) * T * V), 2e-5, 'against transformers');
        });
      }
      cache.reset();
      const at = [0, 0];
      for (const counts of [
        [7, 2],
        [1, 1],
        [4, 9],
        [1, 3],
        [T - 13, T - 15],
      ]) {
        feed(cache, at, counts).forEach((out, row) => {
          expectClose(
            out,
            whole[row].subarray(at[row] * V, at[row] * V + out.length),
            tolerance(choice.dtype),
            `at ${at[row]}`,
          );
          at[row] += counts[row];
        });
      }
      expect(cache.lengths).toEqual([T, T]);
      cache.truncate(0, T - 1);
      cache.truncate(1, T - 1);
      feed(cache, [T - 1, T - 1], [1, 1]).forEach((out, row) => {
        expectClose(out, whole[row].subarray((T - 1) * V), tolerance(choice.dtype), 'after a rollback');
      });
      cache.dispose();
    });

    test('rows that share a prompt in one pool part ways unharmed', () => {
      const { numKeyValueHeads, headDim, attention } = model.config;
      const layers = attention.map(({ window }) => ({ numKeyValueHeads, headDim, window }));
      const pool = new BlockPool({ backend: model.backend, layers, numBlocks: 40, blockSize: 4 });
      const options = { pool, batchSize: 2, maxLength: T };
      const first = new PagedCache(options);
      const prompt = rows[0].slice(0, 10);
      model.forward([prompt, [1]], { cache: first }).dispose();
      first.truncate(1, 0);
      first.share(1, first, 0);
      expect(pool.freeBlocks).toBe(40 - 3);
      const other = first.fork();
      expect(pool.freeBlocks).toBe(40 - 3);
      const tails = [rows[0].slice(10, 20), rows[1].slice(10, 20)];
      const got = model.forward(tails, { cache: first, logits: 'last' }).dataSync();
      const again = model.forward([tails[1], tails[0]], { cache: other, logits: 'last' }).dataSync();
      const want = model
        .forward(
          [
            [...prompt, ...tails[0]],
            [...prompt, ...tails[1]],
          ],
          { logits: 'last' },
        )
        .dataSync();
      const V = want.length / 2;
      expectClose(got, want, 2e-5, 'first');
      expectClose(again, [...want.slice(V), ...want.slice(0, V)], 2e-5, 'fork');
      first.dispose();
      other.dispose();
      expect(pool.freeBlocks).toBe(40);
      pool.dispose();
    });
  });

  test('StreamingLLM: a window with sinks on a model without one goes on past it', async () => {
    const model = await loadModel(join(GOLDEN, 'tiny-llama/gqa-tied'), { backend });
    const golden = await Golden.open('tiny-llama/gqa-tied');
    const [tokens] = golden.rows('tokens');
    const make = () => model.initCache({ kind: 'window', window: 8, sinks: 2, batchSize: 1, maxLength: 37 });
    const [all, steps] = [make(), make()];
    expect(all.bytes).toBe((model.initCache({ batchSize: 1, maxLength: 10 }) as KeyValueCache).bytes);
    const want = model.forward([tokens], { cache: all }).dataSync();
    const V = want.length / tokens.length;
    tokens.forEach((token, i) => {
      const got = model.forward([[token]], { cache: steps }).dataSync();
      expectClose(got, want.slice(i * V, (i + 1) * V), 2e-5, `token ${i}`);
    });
    expect(() => model.initCache({ kind: 'window', batchSize: 1, maxLength: 4 })).toThrow(
      'expected a window for kind window, got none',
    );
    expect(() => model.initCache({ kind: 'ring' as 'window', batchSize: 1, maxLength: 4 })).toThrow(
      TypeError,
    );
    model.dispose();
  });
});
