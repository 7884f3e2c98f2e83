/**
 * MultiHeadAttention against Flax (test/golden/nnx), on every backend: parameters bit for bit, outputs to
 * 1e-5.
 */
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { setBackend, slice, type Tensor, tensor } from '../../src/index.ts';
import {
  dotProductAttention,
  MultiHeadAttention,
  type MultiHeadAttentionOptions,
  Rngs,
  RoPE,
} from '../../src/nn/index.ts';
import { backends } from '../ops/backends.ts';
import { errorOf, expectClose, load, toTensor } from './golden.ts';
import { constructorOptions } from './options.ts';

interface AttentionCase {
  readonly name: string;
  readonly options: Record<string, unknown>;
  readonly seed: number;
  readonly call: Record<string, boolean>;
  readonly inputs: string[];
  readonly calls: number;
  readonly params: string;
  readonly dtype: string;
  readonly tolerance: number;
  readonly rope?: Record<string, number>;
  readonly callSeed?: number;
}

interface DecodeCase {
  readonly name: string;
  readonly options: Record<string, unknown>;
  readonly seed: number;
  readonly batch: number[];
  readonly length: number;
  readonly cacheIndex: number;
  readonly masked: boolean;
}

const json = (name: string) =>
  JSON.parse(readFileSync(new URL(`../golden/nnx/${name}.json`, import.meta.url), 'utf8'));
const cases = json('attention').cases as AttentionCase[];
const arrays = load('nnx/attention');
const decodeCases = json('decode').cases as DecodeCase[];
const decoded = load('nnx/decode');
const defects = json('defects');
const wrong = load('nnx/defects');

afterAll(() => setBackend('reference'));

function make(options: Record<string, unknown>, seed: number, more: object = {}): MultiHeadAttention {
  const made = { ...constructorOptions(options), ...more, rngs: new Rngs(seed) };
  return new MultiHeadAttention(made as unknown as MultiHeadAttentionOptions);
}

/** `x[..., from:to, :]` of `[...batch, T, D]`. */
function tokens(x: Tensor, from: number, to: number): Tensor {
  const lead = x.shape.slice(0, -2).map(() => 0);
  return slice(x, [...lead, from], [...x.shape.slice(0, -2), to]);
}

describe.each(backends.map(({ name }) => name))('on %s', (name) => {
  test.each(cases)('case $name: $options $call seed $seed', async (row) => {
    await setBackend(name);
    const rope = row.rope && new RoPE(row.rope);
    const layer = make(row.options, row.seed, { decode: false, rope });
    for (const [path, { value }] of layer.parameters()) {
      const want = arrays[`${row.params}/params/${path}`];
      expect(value.shape).toEqual(want.shape);
      const exact = row.options.kernelInit !== 'orthogonal';
      if (exact) expect(Array.from(value.dataSync())).toEqual(Array.from(want.values));
      else expectClose(value.dataSync(), want.values, 5e-6);
    }
    const [q, k, v] = ['q', 'k', 'v'].map((x) =>
      row.inputs.includes(x) ? toTensor(arrays[`${row.name}/${x}`]) : undefined,
    );
    const mask = arrays[`${row.name}/mask`] && toTensor(arrays[`${row.name}/mask`]);
    const rngs = row.callSeed === undefined ? undefined : new Rngs(row.callSeed);
    for (let call = 0; call < row.calls; call++) {
      const got = layer.forward(q as Tensor, k, v, { ...row.call, mask, rngs });
      const want = arrays[`${row.name}/output${call}`];
      expect(got.shape).toEqual(want.shape);
      expect(got.dtype).toBe({ float32: 'f32', bfloat16: 'bf16', float16: 'f16' }[row.dtype]);
      expectClose(got.dataSync(), want.values, row.tolerance);
    }
    const weights = layer.pop().attentionWeights;
    expect(weights !== undefined).toBe(row.call.sowWeights === true);
    if (weights) expectClose(weights[0].dataSync(), arrays[`${row.name}/weights`].values, 1e-5);
    layer.dispose();
  });

  test.each(decodeCases)('decode $name: $options, batch $batch', async (row) => {
    await setBackend(name);
    const layer = make(row.options, row.seed, { decode: true });
    const x = toTensor(decoded[`${row.name}/x`]);
    layer.initCache(x.shape);
    const want = decoded[`${row.name}/output`];
    const width = want.shape.at(-1) as number;
    const perRow = row.length * width;
    for (let t = 0; t < row.length; t++) {
      const whole = row.masked ? toTensor(decoded[`${row.name}/mask`]) : undefined;
      const mask = whole && tokens(whole, t, t + 1);
      const got = layer.forward(tokens(x, t, t + 1), undefined, undefined, { mask }).dataSync();
      const expected = Array.from(got, (_, i) => {
        const [b, d] = [Math.floor(i / width), i % width];
        return want.values[b * perRow + t * width + d];
      });
      expectClose(got, expected, 1e-5);
    }
    for (const cache of ['cachedKey', 'cachedValue'] as const) {
      expect(layer[cache]?.value.shape).toEqual(decoded[`${row.name}/${cache}`].shape);
      expectClose(layer[cache]!.value.dataSync(), decoded[`${row.name}/${cache}`].values, 1e-5);
    }
    expect(layer.cacheIndex?.value.toArray()).toBe(row.cacheIndex);
    expect(layer.cacheIndex?.value.dtype).toBe('i32');
    const before = layer.cachedKey!.value.dataSync();
    expect(() => layer.forward(tokens(x, 0, 1))).toThrow(
      `MultiHeadAttention: expected at most ${row.length} tokens in the cache, got ${row.length} and 1 more`,
    );
    expect(layer.cachedKey!.value.dataSync()).toEqual(before);
    expect(layer.cacheIndex?.count).toBe(row.length);
    layer.dispose();
  });
});

describe('where Flax 0.12.12 is wrong', () => {
  const options = { numHeads: 4, inFeatures: 16, numKeyValueHeads: 2 };
  const layer = (more: object = {}) => make(options, 0, { decode: false, ...more });
  const input = () => toTensor(wrong.x);
  const causal = { isCausal: true };

  test('the modules agree where it is right', async () => {
    await setBackend('native').catch(() => setBackend('wasm'));
    expectClose(layer().forward(input(), undefined, undefined, causal).dataSync(), wrong.causal.values, 1e-5);
  });

  test('a full cache: Flax overwrites the last slot, we throw', () => {
    expect(defects.overflow.cacheIndex).toBeGreaterThan(defects.overflow.maxLength);
    expect(defects.overflow.errorAfter).toBeGreaterThan(0.5);
    const full = layer({ decode: true });
    full.initCache([2, 4, 16]);
    full.forward(tokens(input(), 0, 4));
    expect(() => full.forward(tokens(input(), 4, 5))).toThrow(RangeError);
  });

  test('rope while decoding: Flax rotates by the wrong positions, ours equal one pass', () => {
    expect(defects.ropeDecode.error).toBeGreaterThan(1);
    const x = input();
    const pass = layer({ rope: new RoPE() }).forward(x, undefined, undefined, causal);
    expectClose(pass.dataSync(), wrong.ropePass.values, 1e-5);
    expect(errorOf(wrong.ropeDecode.values, wrong.ropePass.values)).toBeGreaterThan(0.5);
    const module = layer({ rope: new RoPE(), decode: true });
    module.initCache(x.shape);
    const want = pass.dataSync();
    for (let t = 0; t < 6; t++) {
      const got = module.forward(tokens(x, t, t + 1)).dataSync();
      for (let b = 0; b < 2; b++) {
        expectClose(got.slice(b * 16, b * 16 + 16), want.slice((b * 6 + t) * 16, (b * 6 + t + 1) * 16), 1e-5);
      }
    }
  });

  test('setView with sizes: Flax allocates nothing, we do', () => {
    expect(defects.setView.message).toMatch('cache not initialized');
    const module = layer().setView({ decode: true, batchSize: 2, maxLength: 4 });
    expect(module.cachedKey?.value.shape).toEqual([2, 4, 2, 4]);
    expect(module.forward(tokens(input(), 0, 1)).shape).toEqual([2, 1, 16]);
    expect(module.cacheIndex?.count).toBe(1);
  });

  test('several tokens at once: Flax throws, ours equal one pass', () => {
    expect(defects.severalTokens.type).toBe('ValueError');
    const module = layer({ decode: true });
    module.initCache([2, 6, 16]);
    const first = module.forward(tokens(input(), 0, 4)).dataSync();
    const second = module.forward(tokens(input(), 4, 6)).dataSync();
    for (let b = 0; b < 2; b++) {
      const got = [...first.slice(b * 64, b * 64 + 64), ...second.slice(b * 32, b * 32 + 32)];
      expectClose(got, wrong.causal.values.slice(b * 96, b * 96 + 96), 1e-5);
    }
  });

  test('a bf16 cache under an f32 module: Flax throws, ours is close', () => {
    expect(defects.bf16Cache.type).toBe('TypeError');
    const module = layer({ decode: true });
    module.initCache([2, 6, 16], 'bf16');
    const got = module.forward(input());
    expect(got.dtype).toBe('f32');
    expect(module.cachedKey?.value.dtype).toBe('bf16');
    expectClose(got.dataSync(), wrong.causal.values, 1e-2);
  });

  test('a query that sees nothing: Flax gives the mean of V, we give zeros (then the bias)', () => {
    const mask = toTensor(wrong.emptyRowMask);
    const got = layer().forward(input(), undefined, undefined, { mask }).dataSync();
    const want = Array.from(wrong.emptyRow.values);
    expect(Array.from(got.slice(32, 48))).toEqual(new Array(16).fill(0));
    expect(errorOf(got.slice(32, 48), want.slice(32, 48))).toBeGreaterThan(0.01);
    want.fill(0, 32, 48);
    expectClose(got, want, 1e-5);
  });

  test('an injected attention function sees the cache as Flax shows it', () => {
    const seen: number[][] = [];
    const module = layer({
      decode: true,
      attentionFn: (...args: Parameters<typeof dotProductAttention>) => {
        seen.push([...(args[3].mask?.shape ?? []), ...args[1].shape]);
        return dotProductAttention(...args);
      },
    });
    module.initCache([2, 6, 16]);
    const first = module.forward(tokens(input(), 0, 5)).dataSync();
    module.forward(tokens(input(), 5, 6));
    expect(seen).toEqual([
      [1, 1, 5, 6, 2, 6, 2, 4],
      [1, 1, 1, 6, 2, 6, 2, 4],
    ]);
    expectClose(first.slice(0, 80), wrong.causal.values.slice(0, 80), 1e-5);
  });

  test('resetting the index empties the cache', () => {
    const module = layer({ decode: true });
    module.initCache([2, 6, 16]);
    const first = module.forward(tokens(input(), 0, 2)).dataSync();
    module.cacheIndex!.value = tensor(Int32Array.of(0), { shape: [] });
    expect(module.forward(tokens(input(), 0, 2)).dataSync()).toEqual(first);
  });
});
