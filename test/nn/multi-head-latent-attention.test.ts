/**
 * MultiHeadLatentAttention against DeepSeek's layers in transformers (test/golden/nnx/mla), both forms, and
 * the forms against each other.
 */
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { mul, setBackend, slice, sum, type Tensor, tensor, valueAndGrad } from '../../src/index.ts';
import {
  MultiHeadLatentAttention,
  type MultiHeadLatentAttentionOptions,
  Rngs,
  RoPE,
} from '../../src/nn/index.ts';
import { backends } from '../ops/backends.ts';
import { expectClose, load, toTensor } from './golden.ts';

const golden = JSON.parse(readFileSync(new URL('../golden/nnx/mla.json', import.meta.url), 'utf8'));
const arrays = load('nnx/mla');
const { B, T } = golden as { B: number; T: number };
const D = 30;
const cases = golden.cases as { name: string; options: object; interleaved: boolean }[];

afterAll(() => setBackend('reference'));

function make(name: string): MultiHeadLatentAttention {
  const { options, interleaved } = cases.find((one) => one.name === name) as (typeof cases)[number];
  const all = { ...golden.options, ...options } as Omit<MultiHeadLatentAttentionOptions, 'rngs'>;
  const layer = new MultiHeadLatentAttention({ ...all, rope: new RoPE({ interleaved }), rngs: new Rngs(0) });
  const prefix = `${name}/param/`;
  layer.setState(
    Object.fromEntries(
      Object.entries(arrays)
        .filter(([key]) => key.startsWith(prefix))
        .map(([key, array]) => [key.slice(prefix.length), toTensor(array)]),
    ),
  );
  return layer;
}

const FORMS = [
  ['naive', false],
  ['absorbed', true],
] as const;

describe.each(backends.map(({ name }) => name))('%s', (backend) => {
  describe.each(cases)('$name', ({ name }) => {
    test.each(FORMS)('%s: output and gradients', async (_, absorbed) => {
      await setBackend(backend);
      const layer = make(name);
      const upstream = toTensor(arrays[`${name}/upstream`]);
      const x = toTensor(arrays[`${name}/x`]);
      expectClose(layer.forward(x, { absorbed }).dataSync(), arrays[`${name}/y`].values, 1e-5);
      const loss = (input: Tensor, module: MultiHeadLatentAttention) =>
        sum(mul(module.forward(input, { absorbed }), upstream));
      const [, [dX, gradients]] = valueAndGrad(loss, [0, 1])(x, layer) as unknown as [
        Tensor,
        [Tensor, Record<string, Tensor>],
      ];
      expectClose(dX.dataSync(), arrays[`${name}/grad/x`].values, 1e-5);
      expect(Object.keys(gradients).sort()).toEqual([...layer.parameters().keys()].sort());
      for (const [path, gradient] of Object.entries(gradients)) {
        expectClose(gradient.dataSync(), arrays[`${name}/grad/${path}`].values, 1e-5);
      }
      layer.dispose();
    });

    test.each(FORMS)('%s: decoding in chunks equals one pass', async (_, absorbed) => {
      await setBackend(backend);
      const layer = make(name);
      layer.setView({ decode: true, batchSize: B, maxLength: T });
      expect(layer.cachedRows?.value.shape).toEqual([B, T, 22 + 6]);
      const x = toTensor(arrays[`${name}/x`]);
      const want = toTensor(arrays[`${name}/y`]);
      let at = 0;
      for (const count of [1, 5, 1, 1, 3]) {
        const part = (of: Tensor) => slice(of, [0, at, 0], [B, at + count, D]);
        expectClose(layer.forward(part(x), { absorbed }).dataSync(), part(want).dataSync(), 1e-5);
        at += count;
      }
      expect(() => layer.forward(slice(x, [0, 0, 0], [B, 1, D]))).toThrow(
        'MultiHeadLatentAttention: expected at most 11 tokens in the cache, got 11 and 1 more',
      );
      expect(layer.cacheIndex?.count).toBe(T);
      layer.dispose();
    });
  });

  test('the forms agree to 1e-5 at uneven sizes, forward and gradients, with a mask', async () => {
    await setBackend(backend);
    const layer = new MultiHeadLatentAttention({
      hiddenSize: 37,
      numAttentionHeads: 3,
      qLoraRank: 17,
      kvLoraRank: 41,
      qkNopeHeadDim: 13,
      qkRopeHeadDim: 10,
      vHeadDim: 29,
      scaling: 0.3,
      rngs: new Rngs(3),
    });
    const [S, W] = [23, 37];
    const x = tensor(
      Float32Array.from({ length: 2 * S * W }, (_, i) => Math.sin(i * 0.7)),
      { shape: [2, S, W] },
    );
    const mask = tensor(
      Uint8Array.from({ length: S * S }, (_, i) => Number(i % 7 !== 3)),
      { shape: [1, 1, S, S], dtype: 'bool' },
    );
    const run = (absorbed: boolean) =>
      valueAndGrad((module: MultiHeadLatentAttention) => {
        const y = module.forward(x, { absorbed, mask, isCausal: false });
        return sum(mul(y, y));
      })(layer) as unknown as [Tensor, Record<string, Tensor>];
    const [naive, naiveGradients] = run(false);
    const [absorbed, absorbedGradients] = run(true);
    expectClose(absorbed.dataSync(), naive.dataSync(), 1e-5);
    for (const [path, gradient] of Object.entries(naiveGradients)) {
      expectClose(absorbedGradients[path].dataSync(), gradient.dataSync(), 1e-5);
    }
    layer.dispose();
  });
});

test('parameters have Hugging Face names, kv_b_proj as its halves', async () => {
  await setBackend('reference');
  const layer = make('v3');
  expect([...layer.parameters()].map(([path, { value }]) => [path, value.shape])).toEqual([
    ['q_a_proj.kernel', [30, 13]],
    ['q_a_proj.bias', [13]],
    ['q_a_layernorm.scale', [13]],
    ['q_b_proj.kernel', [13, 100]],
    ['kv_a_proj_with_mqa.kernel', [30, 28]],
    ['kv_a_proj_with_mqa.bias', [28]],
    ['kv_a_layernorm.scale', [22]],
    ['k_b_proj', [5, 14, 22]],
    ['v_b_proj', [5, 11, 22]],
    ['o_proj.kernel', [55, 30]],
    ['o_proj.bias', [30]],
  ]);
});

test('what cannot be asked is refused with the numbers', async () => {
  await setBackend('reference');
  const sizes = { ...golden.options, rngs: new Rngs(0) };
  expect(() => new MultiHeadLatentAttention({ ...sizes, qkRopeHeadDim: 5 })).toThrow(
    'MultiHeadLatentAttention: expected an even qkRopeHeadDim, got 5',
  );
  expect(() => new MultiHeadLatentAttention({ ...sizes, kvLoraRank: 0 })).toThrow(
    'MultiHeadLatentAttention: expected kvLoraRank to be a positive integer, got 0',
  );
  const layer = make('v2');
  const x = toTensor(arrays['v2/x']);
  expect(() => layer.forward(slice(x, [0, 0, 1]))).toThrow(
    'MultiHeadLatentAttention: expected an input [...batch, T, 30], got [2, 11, 29]',
  );
  expect(() => layer.forward(x, { decode: true })).toThrow('expected a cache, call initCache first');
  layer.initCache([3, 20, D], 'bf16');
  expect(() => layer.forward(x, { decode: true })).toThrow(
    "expected inputs of the cache's batch [3], got [2]",
  );
  const mask = tensor(new Uint8Array([1]), { shape: [1, 1, 1, 1], dtype: 'bool' });
  expect(() => layer.forward(x, { decode: true, mask })).toThrow('expected no mask while decoding');
});

test('bf16 rows are read as stored', async () => {
  await setBackend('reference');
  const layer = make('v2-lite');
  const x = toTensor(arrays['v2-lite/x']);
  layer.initCache([B, T, D], 'bf16');
  const absorbed = layer.forward(x, { decode: true }).dataSync();
  layer.initCache([B, T, D], 'bf16');
  const naive = layer.forward(x, { decode: true, absorbed: false }).dataSync();
  expectClose(absorbed, naive, 1e-5);
  expectClose(absorbed, arrays['v2-lite/y'].values, 3e-2);
});
