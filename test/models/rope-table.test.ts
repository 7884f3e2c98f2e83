/** Frequencies and tables of RoPE; tiny-llama.test.ts compares whole models with transformers. */
import { expect, test } from 'vitest';
import { inverseFrequencies, RopeTable } from '../../src/models/rope-table.ts';

const plain = { theta: 10000, rotaryDim: 8, interleaved: false };

test('frequencies fall from 1 by theta^(-2i / dim)', () => {
  expect(Array.from(inverseFrequencies(plain))).toEqual([1, 0.1, 0.01, 0.001].map(Math.fround));
  const linear = inverseFrequencies({ ...plain, scaling: { type: 'linear', factor: 4 } });
  expect(Array.from(linear)).toEqual(
    [0.25, 0.1 / 4, 0.01 / 4, 0.001 / 4].map((value) => expect.closeTo(value, 8)),
  );
  const divided = inverseFrequencies({ ...plain, divisors: [1, 2, 4, 8] });
  expect(Array.from(divided)).toEqual([1, 0.05, 0.0025, 0.000125].map((value) => expect.closeTo(value, 8)));
});

test('llama3 keeps short wavelengths, divides long ones and blends between', () => {
  const scaling = {
    type: 'llama3',
    factor: 8,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalMaxPositionEmbeddings: 100,
  } as const;
  const before = inverseFrequencies(plain);
  const after = inverseFrequencies({ ...plain, scaling });
  // Wavelengths 6.3, 63, 628 and 6283 against the bounds 25 and 100.
  const ratios = Array.from(after, (value, i) => value / before[i]);
  expect(ratios[0]).toBe(1);
  const smooth = (100 / ((2 * Math.PI) / 0.1) - 1) / 3;
  expect(ratios[1]).toBeCloseTo((1 - smooth) / 8 + smooth, 6);
  expect(ratios.slice(2)).toEqual([1 / 8, 1 / 8]);
});

test('yarn keeps fast pairs, stretches slow ones, with a ramp between', () => {
  const rope = { theta: 10000, rotaryDim: 64, interleaved: true };
  const yarn = {
    type: 'yarn',
    factor: 40,
    betaFast: 32,
    betaSlow: 1,
    truncate: true,
    originalMaxPositionEmbeddings: 4096,
    attentionFactor: 1,
  } as const;
  const before = inverseFrequencies(rope);
  const ratios = (scaling: typeof yarn | (Omit<typeof yarn, 'truncate'> & { truncate: boolean })) =>
    Array.from(inverseFrequencies({ ...rope, scaling }), (value, i) => value / before[i]);
  // DeepSeek's own numbers: the ramp goes from pair 10 (32 turns in 4096 positions) to pair 23 (1 turn).
  const whole = ratios(yarn);
  expect(whole.slice(0, 11)).toEqual(new Array(11).fill(1));
  expect(whole.slice(23).map((ratio) => ratio * 40)).toEqual(new Array(9).fill(expect.closeTo(1, 6)));
  expect(whole[12]).toBeCloseTo(1 - (2 / 13) * (1 - 1 / 40), 6);
  const exact = ratios({ ...yarn, truncate: false });
  const [low, high] = [32, 1].map(
    (turns) => (64 * Math.log(4096 / (turns * 2 * Math.PI))) / (2 * Math.log(10000)),
  );
  expect(exact[12]).toBeCloseTo(1 - ((12 - low) / (high - low)) * (1 - 1 / 40), 6);
  const scaled = new RopeTable({ ...rope, scaling: { ...yarn, attentionFactor: 1.5 } });
  expect(scaled.rows([0], 1).cos[0]).toBe(1.5);
});

test('rows of several starts, across growth of the table', () => {
  const table = new RopeTable(plain);
  const early = table.rows([3], 2);
  const { cos, sin } = table.rows([3, 700], 2);
  expect(cos.length).toBe(2 * 2 * 4);
  expect(Array.from(cos.slice(0, 8))).toEqual(Array.from(early.cos));
  expect(Array.from(sin.slice(0, 8))).toEqual(Array.from(early.sin));
  const angle = Math.fround(701 * Math.fround(0.1));
  expect(cos[3 * 4 + 1]).toBe(Math.fround(Math.cos(angle)));
  expect(sin[3 * 4 + 1]).toBe(Math.fround(Math.sin(angle)));
});

test('an odd number of rotating dims is refused', () => {
  expect(() => new RopeTable({ ...plain, rotaryDim: 7 })).toThrow(
    'expected an even number of rotating dims, got 7',
  );
});
