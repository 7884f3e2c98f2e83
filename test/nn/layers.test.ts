/** Initializers, key streams and layers of gqa/nn against Flax (test/golden/nnx), on every backend. */
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { cast, maximum, ones, scope, setBackend, sub, type Tensor, tensor } from '../../src/index.ts';
import * as nn from '../../src/nn/index.ts';
import { key } from '../../src/random/index.ts';
import { backends } from '../ops/backends.ts';
import { expectClose, load, toTensor } from './golden.ts';
import { constructorOptions, TOLERANCES } from './options.ts';

const json = (name: string) =>
  JSON.parse(readFileSync(new URL(`../golden/nnx/${name}.json`, import.meta.url), 'utf8'));
const words = (x: Tensor) => Array.from(x.dataSync());

interface InitializerCase {
  readonly name: string;
  readonly init: string;
  readonly args: unknown[] | null;
  readonly shape: number[];
  readonly seed: number;
}

interface LayerCase {
  readonly name: string;
  readonly kind: string;
  readonly options: Record<string, unknown>;
  readonly seed: number;
  readonly dtype: string;
}

const initializerCases = json('initializers').cases as InitializerCase[];
const initialized = load('nnx/initializers');
const layerCases = json('layers').cases as LayerCase[];
const layers = load('nnx/layers');
type Maker = (...args: unknown[]) => nn.initializers.Initializer;

const LAYERS: Record<string, unknown> = {
  Linear: nn.Linear,
  LinearGeneral: nn.LinearGeneral,
  Embed: nn.Embed,
  LayerNorm: nn.LayerNorm,
  RMSNorm: nn.RMSNorm,
  Dropout: nn.Dropout,
};

afterAll(() => setBackend('reference'));

function initializerOf({ init, args }: InitializerCase): nn.initializers.Initializer {
  const make = nn.initializers[init as keyof typeof nn.initializers] as unknown;
  if (args === null) return make as nn.initializers.Initializer;
  if (init !== 'varianceScaling' || args.length <= 3) return (make as Maker)(...args);
  const [scale, mode, distribution, inAxis, outAxis, batchAxis] = args;
  return (make as Maker)(scale, mode, distribution, { inAxis, outAxis, batchAxis });
}

describe.each(backends.map(({ name }) => name))('on %s', (name) => {
  test('every initializer, bit for bit (orthogonal 5e-6)', async () => {
    await setBackend(name);
    for (const row of initializerCases) {
      const got = initializerOf(row)(key(row.seed), row.shape);
      const want = initialized[row.name];
      expect(got.shape).toEqual(want.shape);
      if (/orthogonal/i.test(row.init)) expectClose(got.dataSync(), want.values, 5e-6);
      else expect([row.name, ...got.dataSync()]).toEqual([row.name, ...want.values]);
      got.dispose();
    }
  });

  test.each(layerCases.filter(({ kind }) => kind !== 'RoPE'))('$name', async (row) => {
    await setBackend(name);
    const x = toTensor(layers[`${row.name}/x`]);
    const rngs = new nn.Rngs(row.seed);
    const Layer = LAYERS[row.kind] as unknown as new (options: object) => nn.Linear & Partial<nn.Embed>;
    const layer = new Layer({ ...constructorOptions(row.options), rngs });
    const paths = Object.keys(layers).filter((path) => path.startsWith(`${row.name}/params/`));
    expect([...layer.parameters().keys()].sort()).toEqual(paths.map((path) => path.split('/')[2]).sort());
    for (const [path, { value }] of layer.parameters()) {
      expect(Array.from(value.dataSync())).toEqual(Array.from(layers[`${row.name}/params/${path}`].values));
    }
    const got = layer.forward(x);
    const want = layers[`${row.name}/output`];
    const tolerance = TOLERANCES[got.dtype];
    expect(got.shape).toEqual(want.shape);
    expect(got.dtype).toBe({ float32: 'f32', bfloat16: 'bf16', float16: 'f16' }[row.dtype]);
    expectClose(got.dataSync(), want.values, tolerance);
    const again = layers[`${row.name}/again`];
    if (again) expectClose(layer.forward(x).dataSync(), again.values, tolerance);
    const attend = layers[`${row.name}/attend`];
    if (attend) {
      const query = toTensor(layers[`${row.name}/query`]);
      expectClose((layer as unknown as nn.Embed).attend(query).dataSync(), attend.values, tolerance);
    }
    layer.dispose();
  });

  test.each(layerCases.filter(({ kind }) => kind === 'RoPE'))('$name', async (row) => {
    await setBackend(name);
    const rope = new nn.RoPE(row.options);
    const x = toTensor(layers[`${row.name}/x`]);
    const positions = layers[`${row.name}/positions`].values;
    expectClose(rope.forward(x).dataSync(), layers[`${row.name}/output`].values, 1e-5);
    if (row.options.maxSeqLen === undefined) {
      expectClose(rope.forward(x, positions).dataSync(), layers[`${row.name}/positioned`].values, 1e-5);
    } else {
      expect(() => rope.forward(x, positions)).toThrow('RoPE: expected positions below maxSeqLen=13, got 16');
    }
  });

  test('bf16 parameters: drawn in f32 and rounded, the computation as wide as the input', async () => {
    await setBackend(name);
    const [narrow, wide] = (['bf16', 'f32'] as const).map(
      (paramDtype) => new nn.Linear({ inFeatures: 7, outFeatures: 5, paramDtype, rngs: new nn.Rngs(3) }),
    );
    expect(narrow.kernel.value.dtype).toBe('bf16');
    expect(words(narrow.kernel.value)).toEqual(words(cast(wide.kernel.value, 'bf16')));
    const x = ones([2, 7]);
    expect([narrow.forward(x).dtype, narrow.forward(cast(x, 'bf16')).dtype]).toEqual(['f32', 'bf16']);
  });

  test('masks', async () => {
    await setBackend(name);
    const [a, b] = [toTensor(layers['masks/a']), toTensor(layers['masks/b'])];
    const causal = nn.makeCausalMask(a);
    const atLeast = (q: Tensor, k: Tensor) => maximum(sub(q, sub(k, 1)), 0);
    const made: Record<string, Tensor | undefined> = {
      attention: nn.makeAttentionMask(a, b),
      extra: nn.makeAttentionMask(a, b, { extraBatchDims: 2 }),
      greaterEqual: nn.makeAttentionMask(a, b, { pairwiseFn: (q, k) => atLeast(q, k), dtype: 'bool' }),
      causal,
      combined: nn.combineMasks(undefined, causal, toTensor(layers['masks/other'])),
    };
    for (const [kind, got] of Object.entries(made)) {
      expect(got?.shape).toEqual(layers[`masks/${kind}`].shape);
      expect([kind, ...(got?.dataSync() ?? [])]).toEqual([kind, ...layers[`masks/${kind}`].values]);
    }
    expect(nn.combineMasks(undefined, undefined)).toBeUndefined();
  });
});

describe('Rngs', () => {
  const { cases, errors } = json('rngs') as {
    cases: (Record<'one' | 'two' | 'fork' | 'afterFork' | 'streamFork', number[][]> & { seed: number })[];
    errors: Record<string, string>;
  };

  test.each(cases)('streams, counters and forks of seed $seed', (row) => {
    const one = new nn.Rngs(row.seed);
    const names = ['default', 'params', 'dropout', 'noise', 'default'];
    expect(names.map((name) => words(one.stream(name)()))).toEqual(row.one);
    expect(one.default.count).toBe(5);
    const two = new nn.Rngs(row.seed, { params: Math.floor(row.seed / 2) + 1, dropout: 3 });
    expect([
      ...[words(two.default()), words(two.params()), words(two.params())],
      ...[words(two.dropout()), words(two.stream('noise')())],
    ]).toEqual(row.two);
    const fork = two.fork();
    const forked = ['default', 'params', 'dropout', 'noise'];
    expect(forked.map((name) => words(fork.stream(name)()))).toEqual(row.fork);
    expect(['default', 'params', 'dropout'].map((name) => words(two.stream(name)()))).toEqual(row.afterFork);
    const stream = two.dropout.fork();
    expect([words(stream()), words(stream()), words(two.dropout())]).toEqual(row.streamFork);
  });

  test('named streams only', () => {
    const rngs = new nn.Rngs({ params: 0 });
    expect(rngs.names()).toEqual(['params']);
    expect(words(rngs.params.key)).toEqual([0, 0]);
    expect(() => rngs.dropout()).toThrow(errors.noStream);
  });
});

describe('Module', () => {
  class Block extends nn.Module {
    readonly norm: nn.LayerNorm;
    readonly layers: nn.Linear[];
    readonly embedding = 3;

    constructor(rngs: nn.Rngs) {
      super();
      this.norm = new nn.LayerNorm({ numFeatures: 3, rngs });
      this.layers = [0, 1].map(() => new nn.Linear({ inFeatures: 3, outFeatures: 3, rngs }));
    }
  }

  test('paths, state and its errors', () => {
    const [a, b] = [new Block(new nn.Rngs(0)), new Block(new nn.Rngs(1))];
    expect([...a.parameters().keys()]).toEqual([
      ...['norm.scale', 'norm.bias'],
      ...['layers.0.kernel', 'layers.0.bias', 'layers.1.kernel', 'layers.1.bias'],
    ]);
    const before = b.layers[0].kernel.value;
    b.setState(a.getState());
    expect(b.layers[0].kernel.value).toBe(before);
    expect(words(before)).toEqual(words(a.layers[0].kernel.value));
    const { 'norm.bias': gone, ...rest } = a.getState();
    expect(() => b.setState({ ...rest, extra: gone })).toThrow(
      'setState: expected one tensor per parameter, got nothing for norm.bias and no parameter extra',
    );
    expect(() => b.setState({ ...rest, 'norm.bias': tensor([1]) })).toThrow(
      'setState: expected norm.bias [3], got [1]',
    );
    a.dispose();
    expect(a.norm.scale?.value.isDisposed).toBe(true);
  });

  test('parameters outlive the scope they were made in', () => {
    const block = scope(() => new Block(new nn.Rngs(0)));
    expect(block.norm.scale?.value.dataSync()).toEqual(Float32Array.of(1, 1, 1));
    const held = tensor([4, 5, 6]);
    block.norm.scale!.value = held;
    held.dispose();
    expect(words(block.norm.scale!.value)).toEqual([4, 5, 6]);
    expect(() => {
      block.norm.scale!.value = tensor([1]);
    }).toThrow('Variable: expected a value [3], got [1]');
  });

  test('train and eval reach dropout inside', () => {
    class Net extends nn.Module {
      readonly parts = [new nn.Dropout({ rate: 0.5, rngs: new nn.Rngs(0) })];
    }
    const net = new Net();
    expect(net.eval().parts[0].deterministic).toBe(true);
    expect(net.train().parts[0].deterministic).toBe(false);
  });
});
