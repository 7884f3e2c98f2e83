/** gqa/flax and the PyTorch block against test/golden/flax, on every backend. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { LinenGqa } from '../../src/flax/gqa-module.ts';
import { fromLinenParams, type LinenParams, mhaGqa, mhaMqa } from '../../src/flax/index.ts';
import { foldInPath, sha1Word } from '../../src/flax/linen-rng.ts';
import { groupedQueryAttention, setBackend, tensor, transpose } from '../../src/index.ts';
import { GroupedQueryAttention, Rngs } from '../../src/nn/index.ts';
import { key } from '../../src/random/index.ts';
import { expectClose, load, toTensor } from '../nn/golden.ts';
import { backends } from '../ops/backends.ts';

interface LinenCase {
  readonly name: string;
  readonly seed: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly qkvFeatures: number;
  readonly dModel: number;
}

const folder = new URL('../golden/flax/', import.meta.url);
const linen = JSON.parse(readFileSync(new URL('linen.json', folder), 'utf8')) as {
  mhaGqa: LinenCase[];
  mhaMqa: LinenCase[];
  foldInStatic: { path: (string | number)[]; key: number[] }[];
  foldSeed: number;
};
const numpy = JSON.parse(readFileSync(new URL('numpy.json', folder), 'utf8')) as {
  groupedQueryAttention: { name: string; numGroups: number }[];
  blocks: { name: string; dim: number; numHeads: number; numKeyValueHeads: number }[];
};
const arrays = load('flax/linen');
const formula = load('flax/numpy');

afterAll(() => setBackend('reference'));

describe.each(backends.map(({ name }) => name))('on %s', (name) => {
  test.each(linen.mhaGqa)('mhaGqa $name', async (row) => {
    await setBackend(name);
    const x = arrays[`${row.name}/x`];
    const options = { seed: row.seed, numHeads: row.numHeads, numKvHeads: row.numKvHeads };
    const module = new LinenGqa({ ...options, inFeatures: x.shape[1], qkvFeatures: row.qkvFeatures });
    const layers: Record<string, LinenParams> = {};
    for (const [path, { value }] of module.parameters()) {
      const want = arrays[`${row.name}/params/${path.replace('.', '/')}`];
      if (want) expect(Array.from(value.dataSync())).toEqual(Array.from(want.values));
      const [layer, leaf] = path.split('.');
      layers[layer] = { ...layers[layer], [leaf]: value };
    }
    const got = mhaGqa(row.seed, toTensor(x), row.numHeads, row.numKvHeads, row.qkvFeatures);
    expect(got).toBeInstanceOf(Float32Array);
    expectClose(got, arrays[`${row.name}/output`].values, 1e-5);
    // A tree as a Linen checkpoint has it goes back in by name.
    module.setState(fromLinenParams({ params: layers }));
    expect(Object.keys(fromLinenParams(layers))).toEqual([...module.parameters().keys()]);
    module.dispose();
  });

  test.each(linen.mhaMqa)('mhaMqa $name', async ({ name: row, seed, numHeads, dModel }) => {
    await setBackend(name);
    const x = arrays[`${row}/x`];
    const nested = toTensor(x).toArray() as number[][];
    expectClose(mhaMqa(seed, nested, numHeads, dModel), arrays[`${row}/output`].values, 1e-5);
  });

  test.each(numpy.groupedQueryAttention)('groupedQueryAttention $name', async ({ name: row, numGroups }) => {
    await setBackend(name);
    const [Q, K, V] = ['Q', 'K', 'V'].map((letter) => toTensor(formula[`${row}/${letter}`]));
    expectClose(groupedQueryAttention(Q, K, V, numGroups).dataSync(), formula[`${row}/output`].values, 1e-5);
  });

  test.each(numpy.blocks)(
    'GroupedQueryAttention $name',
    async ({ name: row, dim, numHeads, numKeyValueHeads }) => {
      await setBackend(name);
      const module = new GroupedQueryAttention({ dim, numHeads, numKeyValueHeads, rngs: new Rngs(0) });
      // PyTorch stores [Out, In].
      const weight = (layer: string) => transpose(toTensor(formula[`${row}/params/${layer}.weight`]));
      const paths = [...module.parameters().keys()];
      expect(paths).toEqual(['q_proj.kernel', 'k_proj.kernel', 'v_proj.kernel', 'o_proj.kernel']);
      module.setState(Object.fromEntries(paths.map((path) => [path, weight(path.split('.')[0])])));
      const x = toTensor(formula[`${row}/x`]);
      expectClose(module.forward(x).dataSync(), formula[`${row}/output`].values, 1e-5);
      module.dispose();
    },
  );
});

test.each(linen.foldInStatic)('Linen folds $path', ({ path, key: want }) => {
  expect(Array.from(foldInPath(key(linen.foldSeed), path).dataSync())).toEqual(want);
});

test('SHA-1 agrees with node:crypto for every length around a block', () => {
  for (let n = 0; n < 200; n += 1) {
    const message = Uint8Array.from({ length: n }, (_, i) => (i * 37 + n) & 255);
    expect(sha1Word(message)).toBe(createHash('sha1').update(message).digest().readUInt32BE(0));
  }
});

describe('wrong arguments', () => {
  const x = () => tensor([[1, 2, 3, 4]]);
  test.each([
    [
      () => mhaGqa(0, x(), 4, 3, 8),
      'mhaGqa: expected numHeads to be a multiple of numKvHeads, got numHeads=4 and numKvHeads=3',
    ],
    [
      () => mhaGqa(0, x(), 4, 2, 9),
      'mhaGqa: expected qkvFeatures to be a multiple of numHeads, got qkvFeatures=9 and numHeads=4',
    ],
    [() => mhaGqa(0, x(), 4, 0, 8), 'mhaGqa: expected numKvHeads to be a positive integer, got 0'],
    [() => mhaGqa(0, x(), 4, 1.5, 8), 'mhaGqa: expected numKvHeads to be a positive integer, got 1.5'],
    [() => mhaGqa(0.5, x(), 4, 2, 8), 'mhaGqa: expected an integer seed, got 0.5'],
    [() => mhaGqa(0, [1, 2], 4, 2, 8), 'mhaGqa: expected x [T, Din], got [2]'],
    [
      () => mhaMqa(0, x(), 3, 4),
      'mhaMqa: expected dModel to be a multiple of numHeads, got dModel=4 and numHeads=3',
    ],
    [() => mhaMqa(0, x(), 2, 6), 'mhaMqa: expected x [T, 6], got a last axis of 4'],
    [
      () => new GroupedQueryAttention({ dim: 10, numHeads: 4, rngs: new Rngs(0) }),
      'GroupedQueryAttention: expected dim to be a multiple of numHeads, got 10 and 4',
    ],
    [
      () => new GroupedQueryAttention({ dim: 12, numHeads: 4, numKeyValueHeads: 3, rngs: new Rngs(0) }),
      'GroupedQueryAttention: expected numHeads to be a multiple of numKeyValueHeads, got 4 and 3',
    ],
  ])('%s', (call, message) => {
    expect(call).toThrow(RangeError);
    expect(call).toThrow(message);
  });
});
