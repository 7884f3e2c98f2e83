/**
 * Random passes, failures and rollbacks on a window cache, against a model that keeps all tokens and marks
 * the overwritten ones.
 */
import fc from 'fast-check';
import { beforeAll, expect, test } from 'vitest';
import type { Backend } from '../../src/backend/backend.ts';
import { setBackend } from '../../src/backend/registry.ts';
import { WindowCache } from '../../src/cache/index.ts';
import { tensor } from '../../src/ops/creation.ts';
import { decode } from '../../src/tensor/encode.ts';
import { runs } from '../runs.ts';

const MAX_LENGTH = 29;
let backend: Backend;
beforeAll(async () => {
  backend = await setBackend('reference');
});

const operation = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant('append' as const), counts: fc.tuple(fc.nat(9), fc.nat(3)) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('fail' as const), counts: fc.tuple(fc.nat(9), fc.nat(3)) }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('back' as const), row: fc.nat(1), by: fc.nat(5) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const), row: fc.nat(1) }) },
);

test('random passes and rollbacks', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 12 }),
      fc.nat(4),
      fc.array(operation, { minLength: 1, maxLength: 30 }),
      (window, sinks, list) => {
        const layers = [{ numKeyValueHeads: 1, headDim: 1 }];
        const cache = new WindowCache({
          backend,
          layers,
          batchSize: 2,
          maxLength: MAX_LENGTH,
          window,
          sinks,
        });
        const rows: number[][] = [[], []];
        const capacity = Math.min(MAX_LENGTH, window + sinks);
        /** One past the highest position written into the row's ring. */
        const high = [0, 0];
        let next = 1;
        for (const op of list) {
          if (op.kind === 'append' || op.kind === 'fail') {
            if (op.counts.some((count, row) => rows[row].length + count > MAX_LENGTH)) {
              expect(() => cache.reserve(op.counts)).toThrow(RangeError);
              continue;
            }
            const T = Math.max(1, ...op.counts);
            const flat = Float32Array.from({ length: 2 * T }, () => next++);
            const part = tensor(flat, { shape: [2, T, 1, 1] });
            cache.reserve(op.counts);
            cache.write(0, part, part);
            part.dispose();
            const both = rows.map((row, b) => [...row, ...flat.subarray(b * T, b * T + op.counts[b])]);
            // In the pass every query sees its window: of the tokens before it those that are not
            // overwritten, then the new ones.
            cache.view(0).rows.forEach((_, b) => {
              const first = rows[b].length;
              const shown = contents(cache, b);
              expect(shown.slice(0, Math.min(sinks, both[b].length))).toEqual(
                both[b].slice(0, Math.min(sinks, both[b].length)),
              );
              const reach = Math.min(both[b].length, both[b].length - first + window - 1);
              expect(shown.slice(shown.length - reach)).toEqual(both[b].slice(both[b].length - reach));
            });
            if (op.kind === 'fail') {
              cache.reserve(0);
              cache.truncate(0, rows[0].length);
            } else {
              cache.commit();
              both.forEach((row, b) => {
                rows[b] = row;
                high[b] = Math.max(high[b], row.length);
              });
            }
          } else {
            const held = rows[op.row].length;
            const length = op.kind === 'restart' ? 0 : Math.max(0, held - op.by);
            const low = Math.max(
              Math.min(sinks, capacity),
              high[op.row] - (capacity - Math.min(sinks, capacity)),
            );
            const lost = low > Math.min(sinks, capacity) && low > length - window + 1 && length > sinks;
            if (lost && length < held) expect(() => cache.truncate(op.row, length)).toThrow(RangeError);
            else {
              cache.truncate(op.row, length);
              rows[op.row].length = length;
              if (length <= sinks || high[op.row] <= capacity) high[op.row] = length;
            }
          }
          expect(cache.lengths).toEqual(rows.map((row) => row.length));
          expect(cache.bytes).toBe(2 * capacity * 8);
          rows.forEach((row, b) => {
            const shown = contents(cache, b);
            expect(shown.length).toBeLessThanOrEqual(capacity);
            const ring = shown.slice(Math.min(sinks, row.length));
            expect(shown.slice(0, Math.min(sinks, row.length))).toEqual(row.slice(0, sinks));
            expect(ring).toEqual(row.slice(row.length - ring.length));
            expect(shown.length).toBeGreaterThanOrEqual(Math.min(row.length, window - 1));
          });
        }
        cache.dispose();
      },
    ),
    { numRuns: runs(600, 3000) },
  );
});

test('rows that are held can go back as far as that, whatever came', () => {
  const step = fc.record({
    counts: fc.tuple(fc.nat(6), fc.nat(6)),
    hold: fc.option(fc.record({ row: fc.nat(1), end: fc.boolean() })),
    back: fc.option(fc.record({ row: fc.nat(1), by: fc.nat(20) })),
  });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 9 }),
      fc.nat(3),
      fc.array(step, { minLength: 1, maxLength: 25 }),
      (window, sinks, list) => {
        const maxLength = 60;
        const layers = [
          { numKeyValueHeads: 1, headDim: 1 },
          { numKeyValueHeads: 1, headDim: 1, window: maxLength },
        ];
        const cache = new WindowCache({ backend, layers, batchSize: 2, maxLength, window, sinks });
        const { bytes } = cache;
        const rows: number[][] = [[], []];
        const held: (number | undefined)[] = [undefined, undefined];
        let next = 1;
        for (const { counts, hold, back } of list) {
          if (hold) {
            held[hold.row] = hold.end ? undefined : rows[hold.row].length;
            cache.hold(hold.row, held[hold.row]);
          }
          if (counts.every((count, row) => rows[row].length + count <= maxLength)) {
            const T = Math.max(1, ...counts);
            const flat = Float32Array.from({ length: 2 * T }, () => next++);
            const part = tensor(flat, { shape: [2, T, 1, 1] });
            cache.reserve(counts);
            cache.write(0, part, part);
            cache.write(1, part, part);
            cache.commit();
            part.dispose();
            rows.forEach((row, b) => {
              row.push(...flat.subarray(b * T, b * T + counts[b]));
            });
          }
          const from = back && held[back.row];
          if (from !== null && from !== undefined && from <= rows[back!.row].length) {
            const row = back!.row;
            const length = Math.max(from, rows[row].length - back!.by);
            cache.truncate(row, length);
            rows[row].length = length;
          }
          rows.forEach((row, b) => {
            const shown = contents(cache, b);
            const first = row.slice(0, sinks);
            expect(shown.slice(0, first.length)).toEqual(first);
            const ring = shown.slice(first.length);
            expect(ring).toEqual(row.slice(row.length - ring.length));
            expect(shown.length).toBeGreaterThanOrEqual(Math.min(row.length, window - 1));
          });
        }
        if (list.every(({ hold }) => hold === null)) expect(cache.bytes).toBe(bytes);
        cache.dispose();
      },
    ),
    { numRuns: runs(400, 2000) },
  );
});

test('what cannot be held is refused', () => {
  const layers = [{ numKeyValueHeads: 1, headDim: 1 }];
  const cache = new WindowCache({ backend, layers, batchSize: 1, maxLength: 8, window: 2 });
  expect(() => cache.hold(1, 0)).toThrow(new RangeError('WindowCache.hold: expected a row below 1, got 1'));
  for (const length of [1, -1, 0.5, Number.NaN]) {
    expect(() => cache.hold(0, length)).toThrow(
      new RangeError(`WindowCache.hold: expected a length from 0 to 0 for row 0, got ${length}`),
    );
  }
  const part = tensor(new Float32Array(5), { shape: [1, 5, 1, 1] });
  cache.reserve(5);
  cache.write(0, part, part);
  cache.commit();
  cache.hold(0, 4);
  expect(() => cache.hold(0, 3)).toThrow(
    new RangeError(
      'WindowCache.hold: a query at 3 needs the tokens from 2 on, but row 0 of layer 0 holds those from 3 on',
    ),
  );
  part.dispose();
  cache.dispose();
  expect(() => cache.hold(0)).toThrow('called after dispose()');
});

function contents(cache: WindowCache, row: number): number[] {
  return cache
    .view(0)
    .rows[row].segments.flatMap(({ key, keyByteOffset, length }) => [
      ...decode('f32', backend.read(key, keyByteOffset, length * 4), length),
    ]);
}
