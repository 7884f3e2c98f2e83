/** Unary, binary and gated ops, and dropout. */
import * as gqa from '../../src/index.ts';
import { dropout } from '../../src/ops/dropout.ts';
import { gatedActivation } from '../../src/ops/gated.ts';
import { between, LENGTHS, normal, type OpCase, type OpCases, opCases } from './op-case.ts';

const UNARY = {
  neg: gqa.neg,
  exp: gqa.exp,
  log: gqa.log,
  sqrt: gqa.sqrt,
  tanh: gqa.tanh,
  sigmoid: gqa.sigmoid,
  silu: gqa.silu,
  gelu: gqa.gelu,
  geluTanh: (x: gqa.Tensor) => gqa.gelu(x, { approximate: 'tanh' }),
  relu: gqa.relu,
  abs: gqa.abs,
  sin: gqa.sin,
  cos: gqa.cos,
} as const;
const BINARY = {
  add: gqa.add,
  sub: gqa.sub,
  mul: gqa.mul,
  div: gqa.div,
  minimum: gqa.minimum,
  maximum: gqa.maximum,
  pow: gqa.pow,
} as const;
type UnaryName = keyof typeof UNARY;
type BinaryName = keyof typeof BINARY;

/** Values where functions bend, saturate or overflow; the tail is drawn. */
const EDGES = [0, -0, 1, -1, 1e-8, -1e-8, 0.5, -0.5, 3, -3, 8, -8, 20, -20, 60, -60, Infinity, NaN];
const positive = (name: UnaryName) => name === 'log' || name === 'sqrt';

export const unaryCases: OpCases = opCases<{ op: UnaryName }>({
  op: 'unary',
  run: ({ x }, { op }) => UNARY[op](x),
  rows: (Object.keys(UNARY) as UnaryName[]).flatMap((op): OpCase<{ op: UnaryName }>[] => [
    ...LENGTHS.map((n) => ({
      name: `${op} [${n}]`,
      shapes: { x: [n] },
      draw: { x: positive(op) ? between(0, 9) : between(-9, 9) },
      attrs: { op },
      tolerance: 1e-6,
      flops: n,
    })),
    {
      name: `${op} [3, 5, 7]`,
      shapes: { x: [3, 5, 7] },
      draw: { x: positive(op) ? between(1e-6, 1) : normal },
      attrs: { op },
      tolerance: 1e-6,
    },
    {
      // exp of 60 would hide every other error behind its size: compared relative to values up to e^20
      // instead.
      name: `${op} edges`,
      shapes: { x: [37] },
      draw: {
        x: (uniform, i, shape) => {
          const value = i < EDGES.length ? EDGES[i] : normal(uniform, i, shape);
          if (op === 'exp' && Math.abs(value) === 60) return value / 10;
          return positive(op) ? Math.abs(value) : value;
        },
      },
      attrs: { op },
      tolerance: 1e-6,
    },
    { name: `${op} of nothing`, shapes: { x: [3, 0] }, attrs: { op }, tolerance: 0 },
  ]),
});

const PAIRS: [string, number[], number[]][] = [
  ['same shape', [3, 5, 7], [3, 5, 7]],
  ['row', [3, 5, 7], [7]],
  ['column', [3, 5, 1], [3, 5, 7]],
  ['middle', [3, 1, 7], [3, 5, 7]],
  ['scalar tensor', [], [3, 5]],
  ['outer', [5, 1], [1, 7]],
  ['rank 6', [2, 1, 3, 1, 5, 1], [2, 2, 1, 3, 1, 7]],
  ['leading', [2, 3, 5, 7], [1, 5, 1]],
  ['long rows', [3, 65], [65]],
  ['empty', [0, 3], [3]],
];

interface BinaryAttrs {
  readonly op: BinaryName;
  readonly left?: number;
  readonly right?: number;
}

export const binaryCases: OpCases = opCases<BinaryAttrs>({
  op: 'binary',
  run: ({ a, b }, { op, left, right }) => BINARY[op](left ?? a, right ?? b),
  rows: (Object.keys(BINARY) as BinaryName[]).flatMap((op): OpCase<BinaryAttrs>[] => {
    const a = op === 'pow' ? between(0.1, 3) : normal;
    const b = op === 'div' ? between(0.5, 2) : normal;
    return [
      ...PAIRS.map(([name, left, right]) => ({
        name: `${op} ${name}`,
        shapes: { a: left, b: right },
        draw: { a, b },
        attrs: { op },
        tolerance: 1e-6,
      })),
      ...LENGTHS.map((n) => ({
        name: `${op} [${n}]`,
        shapes: { a: [n], b: [n] },
        draw: { a, b },
        attrs: { op },
        tolerance: 1e-6,
        flops: n,
      })),
      {
        name: `${op} number right`,
        shapes: { a: [5, 7] },
        draw: { a },
        attrs: { op, right: 1.5 },
        tolerance: 1e-6,
      },
      {
        name: `${op} number left`,
        shapes: { b: [5, 7] },
        draw: { b },
        attrs: { op, left: 1.5 },
        tolerance: 1e-6,
      },
    ];
  }),
});

type Gate = 'silu' | 'gelu' | 'geluTanh';
export const gatedCases: OpCases = opCases<{ activation?: Gate }>({
  op: 'gated',
  run: ({ gate, up }, { activation }) =>
    activation ? gatedActivation(gate, up, activation) : gqa.swiglu(gate, up),
  rows: [undefined, 'silu' as const, 'gelu' as const, 'geluTanh' as const].flatMap((activation) =>
    [[3, 5, 7], ...LENGTHS.map((n) => [n])].map((shape) => ({
      name: `${activation ?? 'swiglu'} [${shape}]`,
      shapes: { gate: shape, up: shape },
      draw: { gate: between(-8, 8) },
      attrs: { activation },
      tolerance: 1e-6,
    })),
  ),
});

interface DropoutAttrs {
  readonly rate: number;
  readonly maskShape?: gqa.Shape;
}

export const dropoutCases: OpCases = opCases<DropoutAttrs>({
  op: 'dropout',
  run: ({ x }, { rate, maskShape }) => dropout(x, rate, [7, 11], maskShape),
  rows: [
    ...LENGTHS.map((n) => ({ name: `[${n}]`, shapes: { x: [n] }, attrs: { rate: 0.5 }, tolerance: 1e-6 })),
    ...[0.1, 0.9].map((rate) => ({
      name: `[3, 5, 7] ${rate}`,
      shapes: { x: [3, 5, 7] },
      attrs: { rate },
      tolerance: 1e-6,
    })),
    {
      name: '[3, 5, 7] one mask for all rows',
      shapes: { x: [3, 5, 7] },
      attrs: { rate: 0.3, maskShape: [1, 5, 1] },
      tolerance: 1e-6,
    },
  ],
});
