import { expect, test } from 'vitest';
import {
  broadcastShapes,
  broadcastStrides,
  checkShape,
  normalizeAxis,
  sameShape,
  sharedShape,
  sizeOf,
  stridesOf,
} from '../../src/tensor/shape.ts';

test('sizes and strides', () => {
  expect(sizeOf([])).toBe(1);
  expect(sizeOf([2, 0, 3])).toBe(0);
  expect(stridesOf([2, 3, 5])).toEqual([15, 5, 1]);
  expect(stridesOf([])).toEqual([]);
  expect(sameShape([2, 3], [2, 3])).toBe(true);
  expect(sameShape([2, 3], [2, 3, 1])).toBe(false);
});

test('equal shapes are one array, which is not the one that was given', () => {
  const given = [2, 3, 5];
  const shape = sharedShape(given);
  expect(sharedShape([2, 3, 5])).toBe(shape);
  given[0] = 7;
  expect([shape, sharedShape([2, 3, 5]), sharedShape(given)]).toEqual([
    [2, 3, 5],
    [2, 3, 5],
    [7, 3, 5],
  ]);
});

test('more shapes than are kept stay what they are', () => {
  const shapes = Array.from({ length: 5000 }, (_, i) => sharedShape([i, i % 7]));
  expect(shapes.every(([a, b], i) => a === i && b === i % 7)).toBe(true);
  // Dimensions beyond 32 bits, which hash alike.
  expect([sharedShape([2 ** 32, 1]), sharedShape([0, 1])]).toEqual([
    [2 ** 32, 1],
    [0, 1],
  ]);
});

test('broadcasting is symmetric and follows NumPy', () => {
  const cases: [number[], number[], number[]][] = [
    [
      [3, 1],
      [1, 5],
      [3, 5],
    ],
    [[], [2, 3], [2, 3]],
    [
      [7, 1, 5],
      [3, 1],
      [7, 3, 5],
    ],
    [[0], [1], [0]],
    [[2, 1], [0], [2, 0]],
  ];
  for (const [a, b, want] of cases) {
    expect(broadcastShapes('test', a, b)).toEqual(want);
    expect(broadcastShapes('test', b, a)).toEqual(want);
  }
  expect(() => broadcastShapes('test', [2], [3])).toThrow(
    'test: shapes [2] and [3] do not broadcast: 2 against 3',
  );
  expect(() => broadcastShapes('test', [0], [3])).toThrow(RangeError);
  expect(broadcastStrides([3, 1], [2, 3, 5])).toEqual([0, 1, 0]);
});

test('axes and dimensions are checked', () => {
  expect(normalizeAxis('test', -1, 3)).toBe(2);
  for (const axis of [3, -4, 0.5, Number.NaN])
    expect(() => normalizeAxis('test', axis, 3)).toThrow(RangeError);
  for (const dim of [-1, 0.5, Number.NaN, Infinity, 2 ** 53])
    expect(() => checkShape('test', [dim])).toThrow(RangeError);
});
