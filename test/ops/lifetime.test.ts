/** Ops free their intermediates, counted on a backend that counts its bytes. */
import { beforeAll, describe, expect, test } from 'vitest';
import type { ReferenceBackend } from '../../src/backend/reference.ts';
import {
  add,
  dotProductAttention,
  mul,
  ones,
  reshape,
  scope,
  setBackend,
  Tensor,
  zeros,
} from '../../src/index.ts';
import { attendCases } from '../cases/attend.ts';
import { attentionCases } from '../cases/attention.ts';
import { binaryCases, gatedCases, unaryCases } from '../cases/elementwise.ts';
import { drawInputs, storedTensor } from '../cases/inputs.ts';
import { castCases, layoutCases } from '../cases/layout.ts';
import { embeddingCases, linearCases, matmulCases, ropeCases } from '../cases/matrix.ts';
import { normCases, reduceCases, softmaxCases } from '../cases/reduction.ts';
import { reference } from './backends.ts';

const counted = reference as ReferenceBackend;
const groups = [
  ...[unaryCases, binaryCases, gatedCases, reduceCases, softmaxCases, normCases, matmulCases, linearCases],
  ...[embeddingCases, ropeCases, layoutCases, castCases, attentionCases, attendCases],
];

beforeAll(async () => {
  await setBackend('reference');
});

describe('outside every scope an op leaves only its results', () => {
  for (const group of groups) {
    test(group.op, () => {
      for (const row of group.rows) {
        // Size changes nothing about what an op makes.
        if ((row.flops ?? 0) > 1e6) continue;
        const before = counted.bytesInUse;
        const inputs = Object.fromEntries(
          drawInputs(row).map((input) => [input.name, storedTensor(counted, input)]),
        );
        const result = group.run(inputs, row.attrs);
        for (const x of result instanceof Tensor ? [result] : result) x.dispose();
        for (const x of Object.values(inputs)) x.dispose();
        expect([row.name, counted.bytesInUse]).toEqual([row.name, before]);
      }
    });
  }
});

test('scope frees everything but its result', () => {
  const before = counted.bytesInUse;
  const kept = scope(() => {
    const x = ones([3, 5]);
    return add(mul(x, 2), mul(x, 3));
  });
  expect(counted.bytesInUse).toBe(before + 3 * 5 * 4);
  expect(kept.dataSync()[0]).toBe(5);
  kept.dispose();
  expect(counted.bytesInUse).toBe(before);
});

test('nested scopes hand results outwards; objects, arrays and maps of tensors are kept', () => {
  const before = counted.bytesInUse;
  const outer = scope(() => {
    const inner = scope(() => ({ a: [ones([2])], b: new Map([['x', zeros([2])]]), lost: ones([7]).shape }));
    zeros([100]);
    return inner;
  });
  expect(counted.bytesInUse).toBe(before + 2 * 2 * 4);
  expect(outer.a[0].isDisposed).toBe(false);
  outer.a[0].dispose();
  outer.b.get('x')?.dispose();
  expect(counted.bytesInUse).toBe(before);
});

test('a scope that throws frees all; a promise as result is an error', () => {
  const before = counted.bytesInUse;
  expect(() =>
    scope(() => {
      ones([5]);
      throw new Error('on purpose');
    }),
  ).toThrow('on purpose');
  expect(() => scope(async () => ones([5]))).toThrow(TypeError);
  expect(counted.bytesInUse).toBe(before);
});

test('a scope of thousands: early disposal of any of them, from inside a deeper scope too', () => {
  const before = counted.bytesInUse;
  const kept = scope(() => {
    const made: Tensor[] = [];
    for (let i = 0; i < 3000; i++) {
      made.push(ones([1]));
      if (i % 3 === 0) made[i].dispose();
      if (i % 5 === 0) scope(() => made[i].dispose());
      if (i % 700 === 699) made[i - 600].dispose();
    }
    const live = made.filter((x) => !x.isDisposed);
    expect(counted.bytesInUse).toBe(before + 4 * live.length);
    return [live[0], live[1000], live[live.length - 1]];
  });
  expect(counted.bytesInUse).toBe(before + 12);
  expect(kept.map((x) => x.dataSync()[0])).toEqual([1, 1, 1]);
  // The list is used again: what it held before is nobody's.
  scope(() => ones([10])).dispose();
  for (const x of kept) x.dispose();
  expect(counted.bytesInUse).toBe(before);
});

test('a reshape shares memory and outlives its source', () => {
  const before = counted.bytesInUse;
  const x = ones([2, 3]);
  const y = reshape(x, [6]);
  expect(counted.bytesInUse).toBe(before + 24);
  x.dispose();
  expect(Array.from(y.dataSync())).toEqual([1, 1, 1, 1, 1, 1]);
  y.dispose();
  y.dispose();
  expect(counted.bytesInUse).toBe(before);
});

test('a failed op leaves nothing behind', () => {
  const [q, k, a, b] = [ones([2, 3, 4, 5]), ones([2, 3, 3, 5]), ones([2]), ones([3])];
  const before = counted.bytesInUse;
  expect(() => dotProductAttention(q, k, k)).toThrow(RangeError);
  expect(() => add(a, b)).toThrow(RangeError);
  expect(() => add(q, b)).toThrow(RangeError);
  expect(counted.bytesInUse).toBe(before);
  for (const x of [q, k, a, b]) x.dispose();
});
