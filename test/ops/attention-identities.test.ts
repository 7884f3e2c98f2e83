/** Identities of attention, which need no reference values, on every backend. */
import { beforeAll, describe, expect, test } from 'vitest';
import * as gqa from '../../src/index.ts';
import { randomFrom } from '../cases/inputs.ts';
import { normal } from '../cases/op-case.ts';
import { backends } from './backends.ts';
import { difference } from './run-cases.ts';

const [B, T, S, N, K, H, Hv] = [2, 7, 11, 6, 3, 5, 13];
const uniform = randomFrom(7);
const random = (...shape: number[]): gqa.Tensor => {
  const size = shape.reduce((product, dim) => product * dim, 1);
  return gqa.tensor(
    Float32Array.from({ length: size }, (_, i) => normal(uniform, i, shape)),
    { shape },
  );
};

function same(got: gqa.Tensor, want: gqa.Tensor, tolerance = 3e-6): void {
  expect(got.shape).toEqual(want.shape);
  expect(difference(got.dataSync(), want.dataSync(), tolerance)).toBeUndefined();
}

/** Every K/V head repeated for the query heads of its group: [B, S, K, H] -> [B, S, N, H]. */
function repeatHeads(x: gqa.Tensor): gqa.Tensor {
  const [b, s, k, h] = x.shape;
  return gqa.reshape(gqa.broadcastTo(gqa.reshape(x, [b, s, k, 1, h]), [b, s, k, N / k, h]), [b, s, N, h]);
}

for (const backend of backends) {
  describe(`attention identities on ${backend.name}`, () => {
    beforeAll(async () => {
      await gqa.setBackend(backend.name);
    });

    test('K = N is softmax(q k^T / sqrt(H)) v head by head', () => {
      const [q, k, v] = [random(B, T, N, H), random(B, S, N, H), random(B, S, N, Hv)];
      const heads = (x: gqa.Tensor) => gqa.transpose(x, [0, 2, 1, 3]);
      const scores = gqa.mul(gqa.matmul(heads(q), heads(k), { transposeB: true }), 1 / Math.sqrt(H));
      same(gqa.dotProductAttention(q, k, v), heads(gqa.matmul(gqa.softmax(scores), heads(v))));
    });

    test('grouped heads equal repeated heads, and not tiled ones', () => {
      const [q, k, v] = [random(B, T, N, H), random(B, S, K, H), random(B, S, K, Hv)];
      const grouped = gqa.dotProductAttention(q, k, v, { isCausal: true });
      same(grouped, gqa.dotProductAttention(q, repeatHeads(k), repeatHeads(v), { isCausal: true }));
      const tile = (x: gqa.Tensor) => gqa.concat([x, x], 2);
      const tiled = gqa.dotProductAttention(q, tile(k), tile(v), { isCausal: true });
      expect(difference(grouped.dataSync(), tiled.dataSync(), 1e-2)).toBeDefined();
    });

    test('a window of S or more is none; a soft cap far above the scores is none', () => {
      const [q, k, v] = [random(B, T, N, H), random(B, S, K, H), random(B, S, K, Hv)];
      const full = gqa.dotProductAttention(q, k, v);
      for (const localWindowSize of [S, [S, S] as const, Infinity]) {
        same(gqa.dotProductAttention(q, k, v, { localWindowSize }), full);
      }
      same(gqa.dotProductAttention(q, k, v, { logitsSoftCap: 1e5 }), full);
    });

    test('BNTH equals BTNH', () => {
      const [q, k, v] = [random(B, T, N, H), random(B, S, K, H), random(B, S, K, Hv)];
      const swap = (x: gqa.Tensor) => gqa.transpose(x, [0, 2, 1, 3]);
      const [out, lse] = gqa.dotProductAttention(q, k, v, { returnLogSumExp: true });
      const options = { layout: 'BNTH', returnLogSumExp: true } as const;
      const [outSwapped, lseSwapped] = gqa.dotProductAttention(swap(q), swap(k), swap(v), options);
      same(swap(outSwapped), out);
      same(gqa.transpose(lseSwapped, [0, 2, 1]), lse);
    });

    test('three axes are a batch of one', () => {
      const [q, k, v] = [random(T, N, H), random(S, K, H), random(S, K, Hv)];
      const [out, lse] = gqa.dotProductAttention(q, k, v, { returnLogSumExp: true });
      const batch = (x: gqa.Tensor) => gqa.reshape(x, [1, ...x.shape]);
      const [out4, lse4] = gqa.dotProductAttention(batch(q), batch(k), batch(v), { returnLogSumExp: true });
      same(batch(out), out4);
      same(batch(lse), lse4);
    });

    test('the causal mask is a lower triangle, shifted by S - T for bottom right; a bias of -Infinity is a mask', () => {
      const [q, k, v] = [random(B, T, N, H), random(B, S, K, H), random(B, S, K, Hv)];
      for (const [causalAlignment, shift] of [['topLeft', 0] as const, ['bottomRight', S - T] as const]) {
        const rows = Array.from({ length: T }, (_, t) => Array.from({ length: S }, (_, s) => s <= t + shift));
        const causal = gqa.dotProductAttention(q, k, v, { isCausal: true, causalAlignment });
        same(causal, gqa.dotProductAttention(q, k, v, { mask: gqa.tensor(rows) }));
        const bias = gqa.tensor(rows.map((row) => row.map((seen) => (seen ? 0 : -Infinity))));
        same(causal, gqa.dotProductAttention(q, k, v, { bias }));
      }
    });

    test('one token at a time equals the whole prompt', () => {
      const [q, k, v] = [random(B, S, N, H), random(B, S, K, H), random(B, S, K, Hv)];
      const whole = gqa.dotProductAttention(q, k, v, { isCausal: true });
      for (let t = 0; t < S; t++) {
        const upTo = (x: gqa.Tensor) => gqa.slice(x, [0, 0], [B, t + 1]);
        const one = gqa.slice(q, [0, t], [B, t + 1]);
        const step = gqa.dotProductAttention(one, upTo(k), upTo(v), {
          isCausal: true,
          causalAlignment: 'bottomRight',
        });
        same(step, gqa.slice(whole, [0, t], [B, t + 1]));
      }
    });

    test('rows with lengths equal the same rows alone', () => {
      const [q, k, v] = [random(B, T, N, H), random(B, S, K, H), random(B, S, K, Hv)];
      const [queryLengths, keyLengths] = [
        [5, 7],
        [9, 8],
      ];
      const together = gqa.dotProductAttention(q, k, v, {
        isCausal: true,
        causalAlignment: 'bottomRight',
        querySeqLengths: queryLengths,
        keyValueSeqLengths: Int32Array.from(keyLengths),
      });
      for (let b = 0; b < B; b++) {
        const cut = (x: gqa.Tensor, length: number) => gqa.slice(x, [b], [b + 1, length]);
        const alone = gqa.dotProductAttention(
          cut(q, queryLengths[b]),
          cut(k, keyLengths[b]),
          cut(v, keyLengths[b]),
          {
            isCausal: true,
            causalAlignment: 'bottomRight',
          },
        );
        same(cut(together, queryLengths[b]), alone);
      }
    });

    test('a sink is one more key whose value is zero', () => {
      const [q, k, v, sinks] = [random(B, T, N, H), random(B, S, N, H), random(B, S, N, Hv), random(N)];
      const more = (x: gqa.Tensor, dim: number) => gqa.concat([x, gqa.zeros([B, 1, N, dim])], 1);
      const column = gqa.broadcastTo(gqa.reshape(sinks, [N, 1, 1]), [N, T, 1]);
      const bias = gqa.concat([gqa.zeros([N, T, S]), column], 2);
      const [out, lse] = gqa.dotProductAttention(q, k, v, { sinks, returnLogSumExp: true });
      const [want, wantLse] = gqa.dotProductAttention(q, more(k, H), more(v, Hv), {
        bias,
        returnLogSumExp: true,
      });
      same(out, want);
      same(lse, wantLse);
    });

    test('two halves of the keys merge by their log-sum-exp', () => {
      const [q, k, v] = [random(B, T, N, H), random(B, S, K, H), random(B, S, K, Hv)];
      const [want, wantLse] = gqa.dotProductAttention(q, k, v, { returnLogSumExp: true });
      const part = (from: number, to: number) => {
        const cut = (x: gqa.Tensor) => gqa.slice(x, [0, from], [B, to]);
        return gqa.dotProductAttention(q, cut(k), cut(v), { returnLogSumExp: true });
      };
      const [[a, lseA], [b, lseB]] = [part(0, 4), part(4, S)];
      const lse = gqa.log(gqa.add(gqa.exp(lseA), gqa.exp(lseB)));
      const weigh = (x: gqa.Tensor, own: gqa.Tensor) =>
        gqa.mul(x, gqa.reshape(gqa.exp(gqa.sub(own, lse)), [B, T, N, 1]));
      same(lse, wantLse);
      same(gqa.add(weigh(a, lseA), weigh(b, lseB)), want);
    });

    test('lengths and the dropout key may be tensors', () => {
      const [q, k, v] = [random(B, T, N, H), random(B, S, K, H), random(B, S, K, Hv)];
      const lengths = gqa.tensor(Int32Array.of(4, 9));
      const dropoutKey = gqa.tensor(Uint32Array.of(3, 5));
      const options = { keyValueSeqLengths: [4, 9], dropoutRate: 0.5, dropoutKey: [3, 5] } as const;
      const want = gqa.dotProductAttention(q, k, v, options);
      same(
        gqa.dotProductAttention(q, k, v, { ...options, keyValueSeqLengths: lengths, dropoutKey }),
        want,
        0,
      );
    });

    test('groupedQueryAttention: nested arrays give nested arrays, tensors a tensor', () => {
      const [q, k, v] = [random(B, N, T, H), random(B, K, S, H), random(B, K, S, Hv)];
      const out = gqa.groupedQueryAttention(q, k, v, K);
      same(out, gqa.dotProductAttention(q, k, v, { layout: 'BNTH' }), 0);
      const nested = [q, k, v].map((x) => x.toArray() as unknown as number[][][][]);
      const result: number[][][][] = gqa.groupedQueryAttention(nested[0], nested[1], nested[2], K);
      expect(result).toEqual(out.toArray());
    });
  });
}
