/**
 * Properties of modules for any shapes and numbers (fast-check), on the fastest available backend and on
 * WASM.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  add,
  cast,
  concat,
  dotProductAttention,
  log,
  reshape,
  setBackend,
  slice,
  type Tensor,
  tensor,
} from '../../src/index.ts';
import { MultiHeadAttention, Rngs, RoPE } from '../../src/nn/index.ts';
import { bernoulli, key, normal, split } from '../../src/random/index.ts';
import { backends } from '../ops/backends.ts';
import { expectClose } from './golden.ts';

const RUNS = { numRuns: 40 };
const names = backends.map(({ name }) => name).filter((name) => name !== 'reference');

interface Shapes {
  readonly B: number;
  readonly T: number;
  readonly S: number;
  readonly K: number;
  readonly G: number;
  readonly H: number;
  readonly seed: number;
}

const size = (max: number) => fc.integer({ min: 1, max });
const shapes: fc.Arbitrary<Shapes> = fc.record({
  ...{ B: size(3), T: size(19), S: size(37), K: size(3), G: size(4), H: size(19) },
  seed: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
});

function inputs({ B, T, S, K, G, H, seed }: Shapes): [q: Tensor, k: Tensor, v: Tensor, rest: Tensor] {
  const [a, b, c, rest] = split(key(seed), 4);
  return [normal(a, [B, T, K * G, H]), normal(b, [B, S, K, H]), normal(c, [B, S, K, H]), rest];
}

/** Every head `n` times, side by side: `[B, S, K, H] -> [B, S, K * n, H]`. */
function repeatHeads(x: Tensor, n: number): Tensor {
  const [B, S, K, H] = x.shape;
  const one = reshape(x, [B * S * K, 1, H]);
  return reshape(concat(new Array<Tensor>(n).fill(one), 1), [B, S, K * n, H]);
}

function head(x: Tensor, n: number): Tensor {
  const [B, T, , H] = x.shape;
  return slice(x, [0, 0, n, 0], [B, T, n + 1, H]);
}

const same = (a: Tensor, b: Tensor, tolerance = 1e-5) => expectClose(a.dataSync(), b.dataSync(), tolerance);

afterAll(() => setBackend('reference'));

describe.each(names)('on %s', (name) => {
  beforeAll(async () => {
    await setBackend(name);
  });
  const holds = (title: string, property: (dims: Shapes) => void) =>
    test(title, () => fc.assert(fc.property(shapes, property), RUNS));

  holds('repeating K and V equals grouping, and K = N is one attention per head', (dims) => {
    const [q, k, v] = inputs(dims);
    const [wideK, wideV] = [k, v].map((x) => repeatHeads(x, dims.G));
    const grouped = dotProductAttention(q, k, v);
    same(grouped, dotProductAttention(q, wideK, wideV));
    const heads = Array.from({ length: dims.K * dims.G }, (_, n) =>
      dotProductAttention(head(q, n), head(wideK, n), head(wideV, n)),
    );
    same(grouped, concat(heads, 2));
  });

  holds('permuting the query heads inside a group permutes the output', (dims) => {
    const [q, k, v] = inputs(dims);
    const N = dims.K * dims.G;
    // The heads of every group in reverse.
    const order = Array.from({ length: N }, (_, n) => n - (n % dims.G) + (dims.G - 1 - (n % dims.G)));
    const permute = (x: Tensor) =>
      concat(
        order.map((n) => head(x, n)),
        2,
      );
    same(dotProductAttention(permute(q), k, v), permute(dotProductAttention(q, k, v)), 1e-6);
  });

  holds('a mask equals the same mask as a bias', (dims) => {
    const [q, k, v, rest] = inputs(dims);
    const mask = bernoulli(rest, 0.6, [dims.B, 1, dims.T, dims.S]);
    same(
      dotProductAttention(q, k, v, { mask }),
      dotProductAttention(q, k, v, { bias: log(cast(mask, 'f32')) }),
    );
  });

  holds('a masked key or value changes nothing, NaN included', (dims) => {
    const [q, k, v, rest] = inputs(dims);
    const mask = bernoulli(rest, 0.5, [dims.B, 1, 1, dims.S]);
    const seen = mask.dataSync();
    const spoil = (x: Tensor, by: number) => {
      const perToken = dims.K * dims.H;
      const values = x.dataSync().map((value, i) => (seen[Math.floor(i / perToken)] ? value : by));
      return tensor(values as Float32Array, { shape: x.shape });
    };
    const want = dotProductAttention(q, k, v, { mask });
    same(dotProductAttention(q, spoil(k, 9e3), spoil(v, -9e3), { mask }), want, 1e-6);
    same(dotProductAttention(q, spoil(k, Number.NaN), spoil(v, Number.NaN), { mask }), want, 1e-6);
  });

  holds('adding a constant to all scores changes nothing', (dims) => {
    const [q, k, v] = inputs(dims);
    const bias = add(normal(key(dims.seed), [1, 1, dims.T, dims.S]), 0);
    same(dotProductAttention(q, k, v, { bias: add(bias, 7.5) }), dotProductAttention(q, k, v, { bias }));
  });

  test('prefill plus decode equals one pass, for random chunks, groups, norms and rotations', () => {
    const chunks = fc.array(size(5), { minLength: 1, maxLength: 6 });
    const options = fc.record({
      normalizeQk: fc.boolean(),
      rotated: fc.boolean(),
      G: size(3),
      batch: size(3),
    });
    fc.assert(
      fc.property(
        chunks,
        options,
        fc.integer({ min: 0, max: 1000 }),
        (lengths, { rotated, G, batch, normalizeQk }, seed) => {
          const total = lengths.reduce((sum, n) => sum + n, 0);
          const layer = new MultiHeadAttention({
            ...{ numHeads: 2 * G, numKeyValueHeads: 2, inFeatures: 7, qkvFeatures: 2 * G * 4, normalizeQk },
            ...{ rope: rotated ? new RoPE() : undefined, decode: false, rngs: new Rngs(seed) },
          });
          const x = normal(key(seed), [batch, total, 7]);
          const whole = layer.forward(x, undefined, undefined, { isCausal: true });
          layer.setView({ decode: true, batchSize: batch, maxLength: total });
          let at = 0;
          const parts = lengths.map((n) => {
            at += n;
            return layer.forward(slice(x, [0, at - n], [batch, at]));
          });
          same(concat(parts, 1), whole);
          layer.dispose();
        },
      ),
      RUNS,
    );
  });

  test('splits, folds and samples do not repeat', () => {
    const seen = new Set(split(key(1), 1000).map((one) => Array.from(one.dataSync()).join()));
    expect(seen.size).toBe(1000);
  });
});
