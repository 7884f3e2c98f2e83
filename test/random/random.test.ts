/** gqa/random against JAX (test/golden/random), on every backend. "Equal" means every bit. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { backendOf } from '../../src/backend/registry.ts';
import { reshape, setBackend, type Tensor, tensor } from '../../src/index.ts';
import * as random from '../../src/random/index.ts';
import { backends } from '../ops/backends.ts';
import { type GoldenArray, readGolden } from './golden.ts';

interface KeyRow {
  readonly seed: number;
  readonly key: number[];
  readonly split2: number[][];
  readonly split5: number[][];
  readonly foldIn: Record<string, number[]>;
}

const folder = new URL('../golden/random/', import.meta.url);
const golden = JSON.parse(readFileSync(new URL('random.json', folder), 'utf8')) as {
  seeds: number[];
  keys: KeyRow[];
  truncated: (number | null)[][];
  ranges: [number, number][];
  digestSize: number;
  digests: Record<string, Record<string, string>>;
};
const arrays = readGolden(new URL('random.safetensors', folder));
const ends = readGolden(new URL('../ops/ends.safetensors', folder));
const words = (key: Tensor) => Array.from(key.dataSync());

function expectEqual(got: Tensor, want: GoldenArray): void {
  expect(got.shape).toEqual(want.shape);
  expect(Array.from(got.dataSync())).toEqual(Array.from(want.values));
}

/** Each sampler for a seed, under the name of its golden array. */
function samples(seed: number): Record<string, () => Tensor> {
  const key = random.key(seed);
  const shape = [3, 31];
  const logits = arrays[`${seed}/logits`];
  const weights = tensor(Float32Array.from(logits.values), { shape: logits.shape });
  return {
    bits: () => random.bits(key, [3, 5, 7]),
    uniform: () => random.uniform(key, shape),
    uniformRange: () => random.uniform(key, shape, { minval: -2.5, maxval: 3.7 }),
    normal: () => random.normal(key, [3, 5, 17]),
    gumbel: () => random.gumbel(key, shape),
    bernoulli: () => random.bernoulli(key, 0.3, shape),
    bernoulliHalf: () => random.bernoulli(key, undefined, shape),
    categorical: () => random.categorical(key, weights),
    categoricalShape: () => random.categorical(key, weights, { shape: [11, 5] }),
    categoricalAxis0: () => random.categorical(key, weights, { axis: 0 }),
    permutation13: () => random.permutation(key, 13),
    scalar: () => reshape(random.normal(key), [1]), // NumPy writes scalars as [1]
    ...(seed === 42 ? { permutation2003: () => random.permutation(key, 2003) } : {}),
    ...Object.fromEntries(
      golden.truncated.map(([low, high], i) => [
        `truncatedNormal${i}`,
        () => random.truncatedNormal(key, low ?? -Infinity, high ?? Infinity, shape),
      ]),
    ),
    ...Object.fromEntries(
      golden.ranges.map(([low, high], i) => [`randint${i}`, () => random.randint(key, shape, low, high)]),
    ),
  };
}

function longSamples(seed: number): Record<string, () => Tensor> {
  const key = random.key(seed);
  const shape = [golden.digestSize];
  return {
    bits: () => random.bits(key, shape),
    uniform: () => random.uniform(key, shape),
    uniformRange: () => random.uniform(key, shape, { minval: -2.5, maxval: 3.7 }),
    normal: () => random.normal(key, shape),
    truncatedNormal: () => random.truncatedNormal(key, -2, 2, shape),
    gumbel: () => random.gumbel(key, shape),
    bernoulli: () => random.bernoulli(key, 0.9, shape),
  };
}

afterAll(() => setBackend('reference'));

describe.each(backends.map(({ name }) => name))('jax.random on %s', (name) => {
  test.each(golden.keys)('keys of seed $seed', async ({ seed, key, split2, split5, foldIn }) => {
    await setBackend(name);
    expect(words(random.key(seed))).toEqual(key);
    expect(words(random.PRNGKey(BigInt(seed)))).toEqual(key);
    expect(random.split(random.key(seed)).map(words)).toEqual(split2);
    expect(random.split(random.key(seed), 5).map(words)).toEqual(split5);
    for (const [data, want] of Object.entries(foldIn)) {
      expect(words(random.foldIn(random.key(seed), Number(data)))).toEqual(want);
    }
  });

  test.each(golden.seeds)('samples of seed %i equal every bit', async (seed) => {
    await setBackend(name);
    const made = samples(seed);
    for (const [sampler, draw] of Object.entries(made)) expectEqual(draw(), arrays[`${seed}/${sampler}`]);
    expect(Object.keys(made).length + 1).toBe(
      Object.keys(arrays).filter((key) => key.startsWith(`${seed}/`)).length,
    );
  });

  // The reference backend is slow: one seed there.
  test.each(name === 'reference' ? golden.seeds.slice(1, 2) : golden.seeds)(
    'long arrays of seed %i have JAX’s digests',
    async (seed) => {
      await setBackend(name);
      for (const [sampler, draw] of Object.entries(longSamples(seed))) {
        const x = draw();
        const bytes = backendOf(x).read(x.storage, 0, x.byteLength);
        expect([sampler, createHash('sha256').update(bytes).digest('hex')]).toEqual([
          sampler,
          golden.digests[seed][sampler],
        ]);
        x.dispose();
      }
    },
  );

  test('an array is a prefix of a longer one', async () => {
    await setBackend(name);
    const long = random.normal(random.key(5), [67]).dataSync();
    for (const n of [0, 1, 3, 4, 5, 15, 16, 17, 33]) {
      expect(Array.from(random.normal(random.key(5), [n]).dataSync())).toEqual(Array.from(long.slice(0, n)));
    }
  });
});

test('a key can come from elsewhere', () => {
  const own = tensor(Uint32Array.of(7, 9));
  expect(words(random.split(own)[1])).toEqual(words(random.split(tensor(Uint32Array.of(7, 9)))[1]));
});

describe('wrong arguments', () => {
  const key = () => random.key(0);
  test.each([
    [() => random.key(1.5), TypeError, 'key: expected an integer seed, got 1.5'],
    [() => random.split(key(), -1), RangeError, 'split: expected a non-negative number of keys, got -1'],
    [() => random.foldIn(key(), -1), RangeError, 'foldIn: expected data from 0 to 2^32 - 1, got -1'],
    [() => random.normal(tensor([1, 2])), TypeError, 'normal: expected a key (u32 [2]), got f32 [2]'],
    [
      () => random.categorical(key(), tensor([], { shape: [3, 0] })),
      RangeError,
      'categorical: expected at least one choice along axis 1, got shape [3, 0]',
    ],
    [() => random.normal(3 as never), TypeError, 'normal: expected a key, got number'],
    [
      () => random.normal(key(), [2.5]),
      RangeError,
      'normal: expected non-negative integer dimensions, got [2.5]',
    ],
    [
      () => random.randint(key(), [2], 0, 2 ** 31),
      RangeError,
      'randint: expected bounds from -2^31 to 2^31 - 1, got 0 and 2147483648',
    ],
    [
      () => random.permutation(key(), -1),
      RangeError,
      'permutation: expected a length from 0 to 2^31 - 1, got -1',
    ],
    [() => random.bernoulli(key(), Number.NaN), TypeError, 'bernoulli: expected a number, got NaN'],
  ])('%s', (call, type, message) => {
    expect(call).toThrow(type);
    expect(call).toThrow(message);
  });

  test.each([0, 1, 2, 3])('categorical takes the first NaN, seed %i', (seed) => {
    const logits = tensor(Float32Array.from(ends.logits.values), { shape: ends.logits.shape });
    expectEqual(random.categorical(random.key(seed), logits), ends[`categorical${seed}`]);
  });

  test('categorical: a shape that logits do not fit', () => {
    const logits = tensor([
      [1, 2],
      [3, 4],
    ]);
    expect(() => random.categorical(key(), logits, { shape: [3] })).toThrow(
      'categorical: expected a shape that ends in [2], got [3]',
    );
  });
});
