/** Ops that move or convert elements. They are exact, so the tolerance is 0. */
import * as gqa from '../../src/index.ts';
import { between, integers, type OpCase, type OpCases, opCases } from './op-case.ts';

const PLAIN: gqa.DType[] = ['f32', 'f16', 'bf16', 'i32', 'u8', 'bool'];
const draws = (dtype: gqa.DType) =>
  dtype === 'bool'
    ? integers(0, 2)
    : dtype === 'u8'
      ? integers(0, 256)
      : dtype === 'i32'
        ? between(-1e6, 1e6)
        : between(-9, 9);

interface MoveAttrs {
  readonly run: (inputs: Readonly<Record<string, gqa.Tensor>>) => gqa.Tensor;
}

function move(
  name: string,
  shapes: Record<string, number[]>,
  run: MoveAttrs['run'],
  dtypes: gqa.DType[] = ['f32'],
): OpCase<MoveAttrs>[] {
  return dtypes.map((dtype) => ({
    name: `${name} ${dtype}`,
    shapes,
    dtypes: Object.fromEntries(Object.keys(shapes).map((key) => [key, dtype])),
    draw: Object.fromEntries(Object.keys(shapes).map((key) => [key, draws(dtype)])),
    attrs: { run },
    tolerance: 0,
  }));
}

export const layoutCases: OpCases = opCases<MoveAttrs>({
  op: 'layout',
  run: (inputs, attrs) => attrs.run(inputs),
  rows: [
    ...move('reshape', { x: [2, 3, 5] }, ({ x }) => gqa.reshape(x, [5, -1]), PLAIN),
    ...move('transpose default', { x: [3, 7] }, ({ x }) => gqa.transpose(x), PLAIN),
    ...move('transpose swap heads', { x: [2, 3, 5, 7] }, ({ x }) => gqa.transpose(x, [0, 2, 1, 3]), PLAIN),
    ...move('transpose rank 6', { x: [2, 3, 5, 7, 2, 3] }, ({ x }) => gqa.transpose(x, [5, 3, 1, 0, 2, -2])),
    ...move('transpose identity', { x: [2, 3] }, ({ x }) => gqa.transpose(x, [0, 1])),
    ...move('transpose of nothing', { x: [2, 0, 3] }, ({ x }) => gqa.transpose(x)),
    ...move('slice leading', { x: [7, 3, 5] }, ({ x }) => gqa.slice(x, [2], [5]), PLAIN),
    ...move('slice inner', { x: [3, 7, 5] }, ({ x }) => gqa.slice(x, [0, 2, 1], [3, 5, 4]), PLAIN),
    ...move('slice one of the first axis', { x: [3, 7, 5] }, ({ x }) => gqa.slice(x, [1, 2], [2, 4]), PLAIN),
    ...move('slice negative', { x: [3, 7] }, ({ x }) => gqa.slice(x, [0, -2]), PLAIN),
    ...move(
      'slice with steps',
      { x: [3, 7, 5] },
      ({ x }) => gqa.slice(x, [0, 1, 1], [3, 7, 5], [2, 3, 2]),
      PLAIN,
    ),
    ...move('slice every other row', { x: [7, 3] }, ({ x }) => gqa.slice(x, [1], [7], [2]), PLAIN),
    ...move('where', { c: [3, 1], x: [3, 7], y: [7] }, ({ c, x, y }) => gqa.where(c, x, y), PLAIN),
    ...move('slice to nothing', { x: [3, 7] }, ({ x }) => gqa.slice(x, [0, 2], [3, 2])),
    ...move(
      'slice rows of blocks',
      { x: [7, 64] },
      ({ x }) => gqa.scope(() => gqa.cast(gqa.slice(x, [2], [5]), 'f32')),
      ['q8_0', 'q4_1'],
    ),
    ...move('concat first axis', { a: [2, 3], b: [5, 3] }, ({ a, b }) => gqa.concat([a, b, a]), PLAIN),
    ...move('concat middle', { a: [2, 3, 5], b: [2, 7, 5] }, ({ a, b }) => gqa.concat([a, b], 1), PLAIN),
    ...move(
      'concat last',
      { a: [3, 2], b: [3, 0], c: [3, 5] },
      ({ a, b, c }) => gqa.concat([a, b, c], -1),
      PLAIN,
    ),
    ...move(
      'concat of blocks',
      { a: [2, 32], b: [3, 32] },
      ({ a, b }) => gqa.scope(() => gqa.cast(gqa.concat([a, b]), 'f32')),
      ['q4_0'],
    ),
    ...move('broadcastTo', { x: [3, 1, 5] }, ({ x }) => gqa.broadcastTo(x, [2, 3, 7, 5]), PLAIN),
    ...move('broadcastTo scalar', { x: [] }, ({ x }) => gqa.broadcastTo(x, [3, 5]), PLAIN),
  ],
});

interface CastAttrs {
  readonly to: gqa.DType;
}

export const castCases: OpCases = opCases<CastAttrs>({
  op: 'cast',
  run: ({ x }, { to }) => gqa.cast(x, to),
  rows: [...PLAIN, 'u32' as const, 'q8_0' as const, 'q4_0' as const, 'q4_1' as const].flatMap((from) =>
    [...PLAIN, 'u32' as const].map((to) => ({
      name: `${from} to ${to}`,
      shapes: { x: [3, 64] },
      dtypes: { x: from },
      draw: {
        x: to === 'u8' || to === 'u32' || from === 'u8' || from === 'u32' ? between(0, 200) : draws(from),
      },
      attrs: { to },
      tolerance: 0,
    })),
  ),
});
