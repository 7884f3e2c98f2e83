import { expect, test } from 'vitest';
import {
  broadcastShapes,
  broadcastStrides,
  checkedShape,
  normalizeAxis,
  sameShape,
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

test('a shape that is kept is a frozen copy', () => {
  const given = [2, 3, 5];
  const shape = checkedShape('test', given);
  given[0] = 7;
  expect(shape).toEqual([2, 3, 5]);
  expect(() => ((shape as number[])[0] = 7)).toThrow(TypeError);
  expect(() => (shape as number[]).push(1)).toThrow(TypeError);
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
    expect(() => checkedShape('test', [dim])).toThrow(RangeError);
  // Strides must be exact, of an empty tensor too.
  for (const shape of [
    [2 ** 27, 2 ** 27],
    [0, 2 ** 27, 2 ** 27],
  ])
    expect(() => checkedShape('test', shape)).toThrow('expected a shape of fewer than 2^53 elements');
  expect(checkedShape('test', [0, 2 ** 27, 2 ** 25])).toEqual([0, 2 ** 27, 2 ** 25]);
});
