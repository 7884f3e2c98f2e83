/**
 * Memory in reverse mode: reshapes, an operand given twice, operands freed early, and tensors that are never
 * freed.
 */
import { setTimeout } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { beforeAll, expect, test } from 'vitest';
import type { ReferenceBackend } from '../../src/backend/reference.ts';
import {
  add,
  grad,
  mul,
  ones,
  reshape,
  scope,
  setBackend,
  sum,
  type Tensor,
  tensor,
  valueAndGrad,
} from '../../src/index.ts';
import { adamw, Optimizer } from '../../src/train/index.ts';
import { reference } from './backends.ts';

const counted = reference as ReferenceBackend;

beforeAll(async () => {
  await setBackend('reference');
});

test('a reshape has the gradient of what it shows, in either shape', () => {
  const x = tensor([1, 2, 3, 4, 5, 6], { shape: [2, 3] });
  const weights = tensor([1, 10, 100, 1000, 10000, 100000]);
  // Seen flat, as it is, and through two reshapes; the first arrives last on the way back.
  const dX = grad((a: Tensor) => {
    const flat = sum(mul(reshape(a, [6]), weights));
    const square = sum(mul(a, a));
    return add(add(flat, square), sum(reshape(reshape(a, [3, 2]), [6, 1])));
  })(x);
  expect(dX.shape).toEqual([2, 3]);
  expect(Array.from(dX.dataSync())).toEqual([4, 15, 107, 1009, 10011, 100013]);
  // Only as another shape, and nothing else at all.
  const flatOnly = grad((a: Tensor) => sum(mul(reshape(a, [6]), weights)))(x);
  expect(flatOnly.shape).toEqual([2, 3]);
  const one = grad((a: Tensor) => reshape(a, []))(tensor([7]));
  expect([one.shape, one.dataSync()[0]]).toEqual([[1], 1]);
  // A reshape from before the call depends on nothing.
  const before = reshape(x, [6]);
  expect(Array.from(grad((a: Tensor) => add(sum(a), sum(before)))(x).dataSync())).toEqual([1, 1, 1, 1, 1, 1]);
});

test('a leaf that is there twice has two gradients, each to be freed', () => {
  const before = counted.bytesInUse;
  const x = tensor([3, 5]);
  const [a, b] = grad((p: Tensor, q: Tensor) => sum(mul(p, q)), [0, 1])(x, x);
  expect([a, b].map((g) => Array.from(g.dataSync()))).toEqual([
    [6, 10],
    [6, 10],
  ]);
  a.dispose();
  expect(Array.from(b.dataSync())).toEqual([6, 10]);
  b.dispose();
  x.dispose();
  expect(counted.bytesInUse).toBe(before);
});

test('operands freed inside, values that stay, and failures leave nothing behind', () => {
  const x = tensor([1, 2, 3]);
  const before = counted.bytesInUse;
  const [value, dX] = valueAndGrad((a: Tensor) => {
    const square = mul(a, a);
    const cube = mul(square, a);
    square.dispose();
    return sum(cube);
  })(x);
  expect(value.dataSync()[0]).toBe(36);
  expect(Array.from(dX.dataSync())).toEqual([3, 12, 27]);
  value.dispose();
  dX.dispose();
  expect(() =>
    grad((a: Tensor) => {
      mul(a, a);
      throw new Error('on purpose');
    })(x),
  ).toThrow('on purpose');
  expect(counted.bytesInUse).toBe(before);
});

test('grad frees the value it does not hand over, unless that was there before', () => {
  const [x, other] = [tensor(3), tensor(2)];
  const held = counted.bytesInUse;
  const gradients = [
    grad((a: Tensor) => a)(x),
    grad((_: Tensor) => other)(x),
    grad((a: Tensor) => mul(a, a))(x),
  ];
  expect(gradients.map((gradient) => gradient.toArray())).toEqual([1, 0, 6]);
  expect([x.toArray(), other.toArray()]).toEqual([3, 2]);
  expect(() => grad((a: Tensor) => add(a, ones([2])))(x)).toThrow('expected a value of one element, got [2]');
  for (const gradient of gradients) gradient.dispose();
  expect(counted.bytesInUse).toBe(held);
});

test('a gradient inside of one is refused, and the outer one is right', () => {
  const x = tensor([1, 2]);
  const dX = grad((a: Tensor) => {
    expect(() => grad((b: Tensor) => sum(mul(b, b)))(a)).toThrow('gradients of gradients');
    return sum(mul(a, a));
  })(x);
  expect(Array.from(dX.dataSync())).toEqual([2, 4]);
});

test('a scope around takes the gradients; without one the garbage collector does, of an optimizer too', async () => {
  const x = ones([1000]);
  const start = counted.bytesInUse;
  scope(() => {
    grad((a: Tensor) => sum(a))(x);
  });
  expect(counted.bytesInUse).toBe(start);
  const y = ones([1000]);
  const drop = () => {
    const both = grad((a: Tensor, b: Tensor) => sum(mul(a, b)), [0, 1]);
    both(x, y);
    ones([1000]);
    new Optimizer({ parameters: () => [['x', { value: x }]] as const }, adamw({ learningRate: 1 }));
    return both(x, y)[0];
  };
  const kept = drop();
  // Two gradients, a tensor, two moments; one that is kept, and its twin, which goes with it.
  expect(counted.bytesInUse - start).toBe((1 + 7) * 4000);
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  for (let i = 0; i < 100 && counted.bytesInUse - start > 3 * 4000; i++) {
    collect();
    await setTimeout(5);
  }
  // Less, where earlier tests had left something.
  expect(counted.bytesInUse - start).toBeLessThanOrEqual((1 + 2) * 4000);
  expect(kept.dataSync()[0]).toBe(1);
  kept.dispose();
  expect(counted.bytesInUse - start).toBeLessThanOrEqual((1 + 1) * 4000);
});
