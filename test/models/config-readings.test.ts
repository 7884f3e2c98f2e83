/** Rotations and windows as read from config.json, against transformers' reading of the same keys. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FormatError } from '../../src/checkpoint/index.ts';
import { modelShapeFromConfig } from '../../src/format/model-shape.ts';
import { describeConfig } from '../../src/models/describe-model.ts';
import { RopeTable } from '../../src/models/rope-table.ts';
import { GOLDEN } from './golden.ts';

type Json = Readonly<Record<string, unknown>>;

/** Cosines and sines of positions 1 and T - 1. */
type Rotation = Readonly<Record<'cos1' | 'sin1' | 'cos19' | 'sin19', readonly number[]>>;

interface Case {
  readonly family: string;
  readonly keys: Json;
  /** Per layer: its window, and which rotation it has. */
  readonly layers?: readonly (readonly [window: number | null, rotation: number])[];
  readonly rotations?: readonly Rotation[];
  /** transformers refuses it. */
  readonly error?: string;
}

const golden = JSON.parse(readFileSync(join(GOLDEN, 'config-readings/readings.json'), 'utf8')) as {
  readonly T: number;
  readonly configs: Readonly<Record<string, Json>>;
  readonly cases: readonly Case[];
};
const { T } = golden;

function read({ family, keys }: Case) {
  const config = { ...golden.configs[family], ...keys, model_type: family };
  return { config, described: () => describeConfig(config).config };
}

/** `family {"key":value}`, each with its case. */
const named = (cases: readonly Case[]) =>
  cases.map((one) => [`${one.family} ${JSON.stringify(one.keys)}`, one] as const);

describe('read as transformers reads it', () => {
  test.each(named(golden.cases.filter(({ error }) => error === undefined)))('%s', (_, one) => {
    const { config, described } = read(one);
    const { attention, rope, windowRope } = described();
    expect(attention.map(({ window }) => window ?? null)).toEqual(one.layers?.map(([window]) => window));
    // The planner's reading of the same keys.
    const { layers } = modelShapeFromConfig(config, 'config.json');
    expect(layers.map(({ window }) => window ?? null)).toEqual(one.layers?.map(([window]) => window));
    one.layers?.forEach(([window, rotation], layer) => {
      const own = (window === null ? undefined : windowRope) ?? rope;
      const { cos, sin } = new RopeTable(own!).rows([0], T);
      const half = own!.rotaryDim / 2;
      const want = one.rotations![rotation];
      for (const at of [1, T - 1] as const) {
        const near = (got: Float32Array, wanted: readonly number[], name: string) => {
          expect(wanted).toHaveLength(half);
          for (const [i, value] of got.slice(at * half, (at + 1) * half).entries()) {
            expect(value, `layer ${layer} ${name}${at}[${i}]`).toBeCloseTo(wanted[i], 5);
          }
        };
        near(cos, want[`cos${at as 1}`], 'cos');
        near(sin, want[`sin${at as 1}`], 'sin');
      }
    });
  });
});

describe('values of another kind are refused in a short line', () => {
  test.each([{ a: 1 }, 5, ['silu'], 'y'.repeat(100_000)])('hidden_act %#', (hidden_act) => {
    const { described } = read({ family: 'llama', keys: { hidden_act } });
    expect(described).toThrow(/^\.\/config\.json: hidden_act: expected one of silu, .*, got [^[]{1,60}$/);
  });
});

describe('refused by transformers and here', () => {
  test.each(named(golden.cases.filter(({ error }) => error !== undefined)))('%s', (_, one) => {
    expect(read(one).described).toThrow(FormatError);
  });
});
