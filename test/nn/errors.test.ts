/**
 * The error of every constraint that gqa/nn checks: its type and text, with Flax's text where Flax has one
 * (test/golden/nnx/defects.json).
 */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { getBackend, ones, setBackend } from '../../src/index.ts';
import * as nn from '../../src/nn/index.ts';
import { key } from '../../src/random/index.ts';

const flax = JSON.parse(readFileSync(new URL('../golden/nnx/defects.json', import.meta.url), 'utf8')) as {
  severalTokens: { message: string };
  errors: Record<string, { message: string }>;
};

const rngs = () => new nn.Rngs(0);
const mha = (more: object = {}) =>
  new nn.MultiHeadAttention({
    ...{ numHeads: 4, inFeatures: 16, numKeyValueHeads: 2, decode: false, rngs: rngs() },
    ...more,
  });
const x = () => ones([2, 6, 16]);
const narrow = () => ones([2, 6, 15]);

function decoding(): nn.MultiHeadAttention {
  const layer = mha({ decode: true });
  layer.initCache([2, 4, 16]);
  return layer;
}

type Row = readonly [
  what: string,
  call: () => unknown,
  type: new (...args: never[]) => Error,
  flaxName: string,
];

describe("Flax's texts", () => {
  const rows: Row[] = [
    ['N not divisible by K', () => mha({ numKeyValueHeads: 3 }), RangeError, 'heads'],
    ['features not divisible by N', () => mha({ qkvFeatures: 18 }), RangeError, 'features'],
    ['values without keys', () => mha().forward(x(), undefined, x()), TypeError, 'valuesWithoutKeys'],
    ['wrong input width', () => mha().forward(narrow()), RangeError, 'inputWidth'],
    ['decode not said', () => mha({ decode: undefined }).forward(x()), TypeError, 'decodeMissing'],
    [
      'deterministic not said',
      () => mha({ dropoutRate: 0.5 }).forward(x()),
      TypeError,
      'deterministicMissing',
    ],
    [
      'no dropout keys',
      () => mha({ dropoutRate: 0.5, keepRngs: false, deterministic: false }).forward(x()),
      TypeError,
      'rngsMissing',
    ],
    ['decode without a cache', () => mha({ decode: true }).forward(x()), Error, 'noCache'],
    [
      'axes and features',
      () => new nn.LinearGeneral({ inFeatures: [3, 5], outFeatures: 7, rngs: rngs() }),
      RangeError,
      'linearGeneralAxes',
    ],
    ['odd rope size', () => new nn.RoPE({ embeddingSize: 5, maxSeqLen: 3 }), RangeError, 'ropeOdd'],
    ['half of the rope table', () => new nn.RoPE({ embeddingSize: 6 }), RangeError, 'ropeHalf'],
    ['rope positions', () => new nn.RoPE().forward(x(), [0, 1, 2]), RangeError, 'ropePositions'],
    ['dropout without keys', () => new nn.Dropout({ rate: 0.5 }).forward(x()), TypeError, 'dropoutRngs'],
    ['masks of two ranks', () => nn.combineMasks(ones([1, 2]), ones([2])), RangeError, 'masksRank'],
    [
      'embedding of floats',
      () => new nn.Embed({ numEmbeddings: 3, features: 5, rngs: rngs() }).forward(x()),
      TypeError,
      'embedFloat',
    ],
    ['fans of a vector', () => nn.initializers.lecunNormal()(key(0), [3]), RangeError, 'fans'],
    [
      'fan mode',
      () => nn.initializers.varianceScaling(1, 'fan' as never, 'normal')(key(0), [3, 5]),
      RangeError,
      'mode',
    ],
    [
      'fan distribution',
      () => nn.initializers.varianceScaling(1, 'fan_in', 'cauchy' as never)(key(0), [3, 5]),
      RangeError,
      'distribution',
    ],
    ['orthogonal vector', () => nn.initializers.orthogonal()(key(0), [3]), RangeError, 'orthogonalRank'],
    [
      'delta of a matrix',
      () => nn.initializers.deltaOrthogonal()(key(0), [3, 5]),
      RangeError,
      'deltaOrthogonalRank',
    ],
    [
      'delta that shrinks',
      () => nn.initializers.deltaOrthogonal()(key(0), [3, 5, 3]),
      RangeError,
      'deltaOrthogonalFan',
    ],
  ];
  test.each(rows)('%s', (_what, call, type, name) => {
    expect(call).toThrow(type);
    expect(call).toThrow(flax.errors[name].message.replace(/\s*\n\s*/g, ' '));
  });

  test('wrong cache shape', () => {
    // Flax's text for several tokens at once, which here are welcome: another batch gets it.
    expect(() => decoding().forward(ones([3, 2, 16]))).toThrow(
      'Autoregressive cache shape error, expected key shape (2, 2, 2, 4) instead got (3, 2, 2, 4).',
    );
    expect(flax.severalTokens.message).toMatch(
      'Autoregressive cache shape error, expected key shape (2, 1, 2, 4)',
    );
  });
});

describe('a cache that the tokens do not fit', () => {
  // Written unchecked, they would land outside of its memory.
  test('values of another length than the keys', () => {
    const [query, keys, values] = [1, 2, 5].map((T) => ones([2, T, 16]));
    expect(() => decoding().forward(query, keys, values)).toThrow(
      new RangeError(
        'Autoregressive cache shape error, expected value shape (2, 2, 2, 4) instead got (2, 5, 2, 4).',
      ),
    );
  });

  test('a cache on another backend than the module', async () => {
    const before = getBackend().name;
    try {
      await setBackend('reference');
      const layer = mha({ decode: true });
      const tokens = ones([2, 1, 16]);
      await setBackend('wasm');
      layer.initCache([2, 4, 16]);
      expect(() => layer.forward(tokens)).toThrow(
        new Error(
          'MultiHeadAttention: expected the cache and its key on one backend, got wasm and reference',
        ),
      );
    } finally {
      await setBackend(before);
    }
  });
});

test('masks of no shape that there is', () => {
  for (const extraBatchDims of [-1, 0.5, Number.NaN, 2 ** 31, Infinity]) {
    const text = `expected extraBatchDims from 0 to 16, got ${extraBatchDims}`;
    expect(() => nn.makeCausalMask(ones([3]), { extraBatchDims })).toThrow(`makeCausalMask: ${text}`);
    const call = () => nn.makeAttentionMask(ones([3]), ones([3]), { extraBatchDims });
    expect(call).toThrow(`makeAttentionMask: ${text}`);
  }
  expect(() => nn.makeCausalMask(ones([]))).toThrow('makeCausalMask: expected x of rank 1 or more, got []');
  expect(() => nn.makeAttentionMask(ones([2]), ones([]))).toThrow('expected keyInput of rank 1 or more');
  const pairwiseFn = () => 1 as never;
  expect(() => nn.makeAttentionMask(ones([2]), ones([2]), { pairwiseFn })).toThrow(
    'makeAttentionMask: expected the result of pairwiseFn to be a tensor, got 1',
  );
});

test('inputs that are no tensors', () => {
  const wrong = (value: unknown) => value as never;
  expect(() => mha().forward(wrong([[1]]))).toThrow(
    new TypeError('MultiHeadAttention: expected a tensor, got an array of 1'),
  );
  expect(() => mha().forward(x(), wrong({ isCausal: true }))).toThrow(
    new TypeError('MultiHeadAttention: expected a tensor, got Object'),
  );
});

describe('our texts', () => {
  test.each([
    [
      'K = 0',
      () => mha({ numKeyValueHeads: 0 }),
      'MultiHeadAttention: expected numKeyValueHeads to be a positive integer, got 0',
    ],
    [
      'fractional count',
      () => mha({ numHeads: 2.5 }),
      'MultiHeadAttention: expected numHeads to be a positive integer, got 2.5',
    ],
    [
      'negative width',
      () => mha({ inFeatures: -4 }),
      'MultiHeadAttention: expected inFeatures to be a positive integer, got -4',
    ],
    [
      'both spellings',
      () => mha({ numKvHeads: 4 }),
      'MultiHeadAttention: expected numKeyValueHeads and numKvHeads to agree, got 2 and 4',
    ],
    [
      'wrong key width',
      () => mha().forward(x(), narrow()),
      'MultiHeadAttention: expected inputsK of inKvFeatures=16 features, got 15 in [2, 6, 15]',
    ],
    [
      'wrong value width',
      () => mha().forward(x(), x(), narrow()),
      'MultiHeadAttention: expected inputsV of inKvFeatures=16 features, got 15 in [2, 6, 15]',
    ],
    [
      'full cache',
      () => decoding().forward(ones([2, 5, 16])),
      'MultiHeadAttention: expected at most 4 tokens in the cache, got 0 and 5 more',
    ],
    [
      'mask heads',
      () => mha().forward(x(), undefined, undefined, { mask: ones([2, 2, 6, 6]) }),
      'dotProductAttention: expected mask to broadcast to [...batch, N, T, S] [2, 4, 6, 6], got [2, 2, 6, 6]',
    ],
    [
      'mask while decoding',
      () => decoding().forward(ones([2, 1, 16]), undefined, undefined, { mask: ones([2, 1, 1, 3]) }),
      'dotProductAttention: expected mask to broadcast to [...batch, N, T, S] [2, 4, 1, 4], got [2, 1, 1, 3]',
    ],
    ['dropout rate', () => mha({ dropoutRate: 1 }), 'dropout_rate must be in the range [0, 1), got 1.'],
    [
      'other batch of keys',
      () => mha().forward(x(), ones([3, 6, 16])),
      'q, k, v batch dims must match, but got shapes (2, 6, 4, 4), (3, 6, 2, 4), (3, 6, 2, 4).',
    ],
    [
      'other length of values',
      () => mha().forward(x(), x(), ones([2, 5, 16])),
      'k, v lengths must match, but got 6 and 5.',
    ],
    [
      'other rank of keys',
      () => mha().forward(x(), ones([6, 16])),
      'q, k, v must have same rank, but got 4, 3, 3.',
    ],
    [
      'cache of a vector',
      () => mha().initCache([4]),
      'initCache: expected [...batch, maxLength, features], got [4]',
    ],
    [
      'linear input',
      () => new nn.Linear({ inFeatures: 3, outFeatures: 2, rngs: rngs() }).forward(x()),
      'Linear: expected an input […, 3], got [2, 6, 16]',
    ],
    [
      'general input',
      () => new nn.LinearGeneral({ inFeatures: 3, outFeatures: 2, axis: 1, rngs: rngs() }).forward(x()),
      'LinearGeneral: expected an input with (3,) at axes (1,), got [2, 6, 16]',
    ],
    [
      'norm input',
      () => new nn.LayerNorm({ numFeatures: 3, rngs: rngs() }).forward(x()),
      'LayerNorm: expected an input […, 3], got [2, 6, 16]',
    ],
    ['dropout range', () => new nn.Dropout({ rate: 1.5 }), 'Dropout: expected 0 <= rate <= 1, got 1.5'],
    [
      'bad compute dtype',
      () => mha({ dtype: 'i32' }).forward(x()),
      'LinearGeneral: expected a dtype to compute in (f32, f16, bf16, f64), got i32',
    ],
  ])('%s', (_what, call, message) => {
    expect(call).toThrow(message);
    expect(call).toThrow(message.endsWith('i32') ? TypeError : RangeError);
  });

  test('setView wants both sizes', () => {
    expect(() => mha().setView({ decode: true, maxLength: 4 })).toThrow(
      new TypeError(
        "MultiHeadAttention: expected batchSize beside maxLength, got none (Flax: 'batch_size' must be provided when initializing cache.)",
      ),
    );
    expect(() => mha().setView({ decode: true, batchSize: 2 })).toThrow(
      new TypeError(
        "MultiHeadAttention: expected maxLength beside batchSize, got none (Flax: 'max_length' must be provided when initializing cache.)",
      ),
    );
  });

  test('an error while decoding leaves the cache as it was', () => {
    const layer = decoding();
    layer.forward(ones([2, 1, 16]));
    const bad = { mask: ones([2, 1, 1, 3]) };
    expect(() => layer.forward(ones([2, 1, 16]), undefined, undefined, bad)).toThrow(RangeError);
    expect(layer.cacheIndex?.count).toBe(1);
    const again = layer.forward(ones([2, 1, 16])).dataSync();
    const other = decoding();
    other.forward(ones([2, 1, 16]));
    expect(other.forward(ones([2, 1, 16])).dataSync()).toEqual(again);
  });

  test('both spellings with one value, and Flax’s alone', () => {
    expect(mha({ numKvHeads: 2 }).numKeyValueHeads).toBe(2);
    expect(mha({ numKeyValueHeads: undefined, numKvHeads: 1 }).numKeyValueHeads).toBe(1);
  });
});
