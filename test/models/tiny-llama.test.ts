/** Tiny Llama checkpoints against transformers' logits, on every backend. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Model } from '../../src/models/index.ts';
import { BACKENDS, collect, expectClose, Golden, loadTiny, TINY } from './golden.ts';

const TOLERANCE = 2e-5;

describe.each(BACKENDS)('%s', (backend) => {
  describe.each(TINY)('%s', (name) => {
    let model: Model;
    let golden: Golden;
    beforeAll(async () => {
      golden = await Golden.open(`tiny-llama/${name}`);
      model = await loadTiny(name, backend);
    });
    afterAll(() => model.dispose());

    test('one pass gives the logits', () => {
      const logits = model.forward(golden.rows('tokens'));
      expect(logits.shape).toEqual([2, 37, 97]);
      expectClose(logits.dataSync(), golden.floats('logits'), TOLERANCE);
      const last = model.forward(golden.rows('tokens'), { logits: 'last' });
      expect(last.shape).toEqual([2, 1, 97]);
      const want = [0, 1].flatMap((row) => [
        ...golden.floats('logits').slice((row * 37 + 36) * 97, (row + 1) * 37 * 97),
      ]);
      expectClose(last.dataSync(), want, TOLERANCE);
    });

    test.each([
      { chunks: [37] },
      { chunks: [36, 1] },
      { chunks: [1, 36] },
      { chunks: [5, 16, 3, 13] },
      { chunks: new Array(37).fill(1) },
    ])('chunks of $chunks through a cache equal one pass', ({ chunks }) => {
      const cache = model.initCache({ batchSize: 2, maxLength: 37 });
      const rows = golden.rows('tokens');
      const want = golden.floats('logits');
      let at = 0;
      for (const length of chunks) {
        const logits = model
          .forward(
            rows.map((row) => row.slice(at, at + length)),
            { cache },
          )
          .dataSync();
        for (const row of [0, 1]) {
          const from = (row * 37 + at) * 97;
          expectClose(
            logits.slice(row * length * 97, (row + 1) * length * 97),
            want.slice(from, from + length * 97),
            TOLERANCE,
          );
        }
        at += length;
      }
      expect(cache.lengths).toEqual([37, 37]);
      cache.dispose();
    });

    test('ragged rows equal rows run alone, with and without a cache', () => {
      const rows = [0, 1, 2].map((row) => golden.ids(`ragged/${row}/tokens`));
      const wants = [0, 1, 2].map((row) => golden.floats(`ragged/${row}/logits`));
      const check = (logits: ArrayLike<number>, T: number, counts: number[], starts: number[]) => {
        const flat = Array.from(logits);
        for (const row of [0, 1, 2]) {
          const got = flat.slice(row * T * 97, (row + 1) * T * 97);
          const count = counts[row] * 97;
          const from = starts[row] * 97;
          expectClose(got.slice(0, count), wants[row].slice(from, from + count), TOLERANCE, `row ${row}`);
          expect(got.slice(count).every((value) => value === 0)).toBe(true);
        }
      };
      const lengths = rows.map((row) => row.length);
      check(model.forward(rows).dataSync(), 19, lengths, [0, 0, 0]);
      const last = model.forward(rows, { logits: 'last' });
      expect(last.shape).toEqual([3, 1, 97]);
      expectClose(
        last.dataSync(),
        wants.flatMap((want) => [...want.slice(-97)]),
        TOLERANCE,
      );

      // Each row continues at its own length.
      const cache = model.initCache({ batchSize: 3, maxLength: 19 });
      const first = [2, 13, 10];
      check(
        model
          .forward(
            rows.map((row, i) => row.slice(0, first[i])),
            { cache },
          )
          .dataSync(),
        13,
        first,
        [0, 0, 0],
      );
      const rest = rows.map((row, i) => row.length - first[i]);
      check(
        model
          .forward(
            rows.map((row, i) => row.slice(first[i])),
            { cache },
          )
          .dataSync(),
        6,
        rest,
        first,
      );
      expect(cache.lengths).toEqual(lengths);
      cache.dispose();
    });

    test('greedy tokens are the same', async () => {
      const want = golden.ids('greedy/tokens');
      expect(
        await collect(model, golden.ids('greedy/prompt'), { maxNewTokens: want.length, stop: [] }),
      ).toEqual(want);
    });
  });
});
