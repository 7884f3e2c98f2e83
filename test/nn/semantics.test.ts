/**
 * Each row of docs/semantics.md: ours on every backend, and the frameworks' values (test/golden/semantics).
 */
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import {
  type AttentionOptions,
  cast,
  dotProductAttention,
  setBackend,
  slice,
  type Tensor,
  tensor,
} from '../../src/index.ts';
import * as nn from '../../src/nn/index.ts';
import { key as randomKey } from '../../src/random/index.ts';
import { backends } from '../ops/backends.ts';
import { errorOf, expectClose, load, toTensor } from './golden.ts';

const golden = load('semantics/frameworks');
const onnx = load('semantics/onnx');
const defects = load('nnx/defects');
const input = (name: string) => toTensor(golden[name]);
/** The first `n` tokens of a golden array. */
const head = (name: string, n: number) => slice(input(name), [0, 0], [1, n]);
type Plain = AttentionOptions & { readonly returnLogSumExp?: false };
const attend = (options: Plain = {}, q = input('q'), k = input('key'), v = input('value')) =>
  dotProductAttention(q, k, v, options);

/** Ours equals these. */
function agrees(got: Tensor, ...names: string[]): void {
  for (const name of names) expectClose(got.dataSync(), (golden[name] ?? onnx[name]).values, 1e-5);
}

/** Ours does not equal this one: the difference that the table claims is real. */
function differs(got: Tensor, name: string): void {
  expect(errorOf(got.dataSync(), (golden[name] ?? onnx[name]).values)).toBeGreaterThan(1e-3);
}

const layer = (more: object = {}) =>
  new nn.MultiHeadAttention({
    ...{ numHeads: 4, inFeatures: 16, numKeyValueHeads: 2, decode: false, rngs: new nn.Rngs(0) },
    ...more,
  });
const sixTokens = () => toTensor(defects.x);
const causalPass = defects.causal.values;

const rows: Record<string, () => void> = {
  'head mapping': () => {
    agrees(attend(), 'heads/jax', 'heads/flax', 'heads/flaxSlow', 'heads/torch', '23/heads', '25/heads');
  },
  'causal, fewer queries than keys': () => {
    const got = attend({ isCausal: true });
    agrees(
      got,
      'causalShort/jax',
      'causalShort/flax',
      'causalShort/flaxSlow',
      'causalShort/torch',
      '25/causalShort',
    );
    const bottomRight = attend({ isCausal: true, causalAlignment: 'bottomRight' });
    // The last query sees everything.
    expectClose(bottomRight.dataSync().slice(40), golden['heads/jax'].values.slice(40), 1e-5);
    differs(bottomRight, 'causalShort/jax');
  },
  'causal, more queries than keys': () => {
    const call = (causalAlignment?: 'bottomRight') =>
      attend({ isCausal: true, causalAlignment }, input('long'), head('key', 3), head('value', 3));
    agrees(call(), 'causalLong/jax', 'causalLong/flax', 'causalLong/torch', '25/causalLong');
    expect(call('bottomRight').dataSync().slice(0, 40)).toEqual(new Float32Array(40));
  },
  'a query that sees nothing': () => {
    const got = attend({ mask: input('emptyMask') });
    agrees(got, 'emptyRow/torch', '23/emptyRow', '25/emptyRow');
    differs(got, 'emptyRow/jax');
    differs(got, 'emptyRow/flax');
    expect(got.dataSync().slice(20, 40)).toEqual(new Float32Array(20));
  },
  'order of scale, bias and mask': () => {
    const [bias, mask] = [input('bias'), input('mask')];
    agrees(attend({ bias, mask, scale: 0.3 }), 'biasMask/jax', 'biasMask/torch');
    agrees(attend({ bias, mask }), 'biasMask/flax');
  },
  'soft cap before bias and mask': () => {
    agrees(attend({ logitsSoftCap: 0.7, mask: input('mask') }), 'softCap/gemma2');
    const bias = input('bias');
    agrees(attend({ logitsSoftCap: 0.7, scale: 0.3, bias }), '23/softCapBias', '25/softCapBias');
  },
  sinks: () => agrees(attend({ sinks: input('sinks'), mask: input('mask') }), 'sinks/gptOss'),
  'window as one number': () => agrees(attend({ localWindowSize: 1 }, input('long')), 'window/jaxOne'),
  'window as a pair': () => agrees(attend({ localWindowSize: [2, 0] }, input('long')), 'window/jaxPair'),
  chunks: () => {
    const long = input('long');
    const [T, S] = [long.shape[1], input('key').shape[1]];
    const sees = Array.from({ length: T * S }, (_, i) => (i / S / 2) >> 0 === ((i % S) / 2) >> 0);
    const mask = tensor(sees, { shape: [1, 1, T, S], dtype: 'bool' });
    const got = attend({ chunkSize: 2, isCausal: true }, long);
    expectClose(got.dataSync(), attend({ mask, isCausal: true }, long).dataSync(), 1e-6);
  },
  'key lengths': () => agrees(attend({ keyValueSeqLengths: [2] }), 'lengths/jaxKeys'),
  'query lengths': () => agrees(attend({ querySeqLengths: [2] }), 'lengths/jaxQueries'),
  'dropout, broadcast': () => {
    const dropoutKey = randomKey(7);
    agrees(attend({ dropoutRate: 0.5, dropoutKey }), 'dropout/flaxBroadcast');
  },
  'dropout, per weight': () => {
    const options = { dropoutRate: 0.5, dropoutKey: randomKey(7), broadcastDropout: false };
    agrees(attend(options), 'dropout/flaxEach');
  },
  'default scale': () => {
    expectClose(attend({ scale: 1 / Math.sqrt(5) }).dataSync(), attend().dataSync(), 0);
    agrees(attend(), 'heads/jax');
  },
  'NaN behind a mask': () => {
    const spoil = (name: string) =>
      toTensor({ ...golden[name], values: golden[name].values.map((x, i) => (i >= 40 ? Number.NaN : x)) });
    const mask = input('nanMask');
    const got = attend({ mask }, input('q'), spoil('key'), spoil('value'));
    expectClose(got.dataSync(), attend({ mask }).dataSync(), 0);
    for (const name of ['nan/jax', 'nan/torch']) expect(golden[name].values.every(Number.isNaN)).toBe(true);
  },
  'softmax dtype': () => {
    const narrow = (name: string) => cast(input(name), 'bf16');
    const got = attend({}, narrow('q'), narrow('key'), narrow('value')).dataSync();
    const exact = cast(attend({}, ...inputsInBf16()), 'bf16').dataSync();
    expectClose(got, exact, 0);
    // A bf16 number carries 8 bits: the frameworks agree to a few units of the last.
    for (const name of ['bf16/jax', 'bf16/flaxSlow', 'bf16/torch'])
      expectClose(got, golden[name].values, 2e-2);
  },
  'value width': () => {
    const narrow = slice(input('value'), [0, 0, 0, 0], [1, 5, 2, 3]);
    const got = attend({}, input('q'), input('key'), narrow);
    expect(got.shape).toEqual([1, 3, 4, 3]);
    expectClose(got.dataSync(), slice(attend(), [0, 0, 0, 0], [1, 3, 4, 3]).dataSync(), 1e-6);
  },
  'LayerNorm epsilon': () => {
    const got = new nn.LayerNorm({ numFeatures: 7, rngs: new nn.Rngs(0) }).forward(input('x'));
    agrees(got, 'layerNorm/flax');
    differs(got, 'layerNorm/torch');
    const torch = new nn.LayerNorm({ numFeatures: 7, epsilon: 1e-5, rngs: new nn.Rngs(0) });
    agrees(torch.forward(input('x')), 'layerNorm/torch');
  },
  'RMSNorm epsilon': () => {
    const got = new nn.RMSNorm({ numFeatures: 7, rngs: new nn.Rngs(0) }).forward(input('x'));
    agrees(got, 'rmsNorm/flax');
    differs(got, 'rmsNorm/torch');
    const torch = new nn.RMSNorm({ numFeatures: 7, epsilon: 2 ** -23, rngs: new nn.Rngs(0) });
    agrees(torch.forward(input('x')), 'rmsNorm/torch');
  },
  'full cache': () => {
    const module = layer({ decode: true });
    module.initCache([2, 4, 16]);
    module.forward(slice(sixTokens(), [0, 0], [2, 4]));
    const before = module.cachedKey!.value.dataSync();
    expect(() => module.forward(slice(sixTokens(), [0, 4], [2, 5]))).toThrow(RangeError);
    expect(module.cachedKey!.value.dataSync()).toEqual(before);
    expect(errorOf(defects.overflow.values, causalPass)).toBeGreaterThan(0.1);
  },
  'cache by setView': () => {
    const module = layer().setView({ decode: true, batchSize: 2, maxLength: 6 });
    expectClose(module.forward(sixTokens()).dataSync(), causalPass, 1e-5);
  },
  'several tokens while decoding': () => {
    const module = layer({ decode: true });
    module.initCache([2, 6, 16]);
    expectClose(module.forward(sixTokens()).dataSync(), causalPass, 1e-5);
  },
  'RoPE while decoding': () => {
    const module = layer({ decode: true, rope: new nn.RoPE() });
    module.initCache([2, 6, 16]);
    module.forward(slice(sixTokens(), [0, 0], [2, 5]));
    const last = module.forward(slice(sixTokens(), [0, 5], [2, 6])).dataSync();
    const pass = defects.ropePass.values;
    expectClose(last, [...pass.slice(80, 96), ...pass.slice(176)], 1e-5);
    expect(errorOf(defects.ropeDecode.values, pass)).toBeGreaterThan(0.1);
  },
  'bf16 cache in an f32 module': () => {
    const module = layer({ decode: true });
    module.initCache([2, 6, 16], 'bf16');
    expectClose(module.forward(sixTokens()).dataSync(), causalPass, 1e-2);
  },
  'zero key/value heads': () => {
    expect(() => layer({ numKeyValueHeads: 0 })).toThrow(
      new RangeError('MultiHeadAttention: expected numKeyValueHeads to be a positive integer, got 0'),
    );
  },
  'id outside an embedding': () => {
    const embed = new nn.Embed({ numEmbeddings: 3, features: 2, rngs: new nn.Rngs(0) });
    expect(() => embed.forward(tensor(Int32Array.of(3)))).toThrow(RangeError);
  },
};

function inputsInBf16(): [Tensor, Tensor, Tensor] {
  const [q, k, v] = ['q', 'key', 'value'].map((name) => cast(cast(input(name), 'bf16'), 'f32'));
  return [q, k, v];
}

afterAll(() => setBackend('reference'));

describe.each(backends.map(({ name }) => name))('on %s', (name) => {
  test.each(Object.keys(rows))('%s', async (row) => {
    await setBackend(name);
    rows[row]();
  });
});

test("every row of docs/semantics.md's tables of points is a test, and every test a row", () => {
  const page = readFileSync(new URL('../../docs/semantics.md', import.meta.url), 'utf8');
  const tables = page.match(/^\| point \|.*\n(\|.*\n)+/gm) ?? [];
  const titles = tables
    .flatMap((table) => table.split('\n').slice(2, -1))
    .map((row) => row.split('|')[1].trim());
  expect(titles).toEqual(Object.keys(rows));
});
