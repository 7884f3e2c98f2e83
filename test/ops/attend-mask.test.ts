/** A mask over a cache whose window keeps pinned keys: both hide keys, in the output and in the weights. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WindowCache } from '../../src/cache/index.ts';
import {
  attend,
  dotProductAttention,
  dotProductAttentionWeights,
  getBackend,
  setBackend,
  tensor,
  zeros,
} from '../../src/index.ts';
import { attendWeights } from '../../src/ops/attend.ts';
import { randomFrom } from '../cases/inputs.ts';
import { normal } from '../cases/op-case.ts';
import { expectClose } from '../nn/golden.ts';
import { backends } from './backends.ts';

const [B, T, N, K, H, WINDOW, PINNED] = [2, 7, 6, 2, 5, 3, 2];
const uniform = randomFrom(11);
const random = (...shape: number[]) =>
  Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => normal(uniform, i, shape));
const [q, k, v] = [random(B, T, N, H), random(B, T, K, H), random(B, T, K, H)];
const mask = Uint8Array.from({ length: B * N * T * T }, () => Number(uniform() < 0.6));

describe.each(backends.map(({ name }) => name))('on %s', (backend) => {
  let before: string;
  beforeAll(async () => {
    before = getBackend().name;
    await setBackend(backend);
  });
  afterAll(() => setBackend(before as 'native'));

  const cacheOfAll = () => {
    const cache = new WindowCache({
      ...{ backend: getBackend(), layers: [{ numKeyValueHeads: K, headDim: H, window: WINDOW }] },
      ...{ batchSize: B, maxLength: T, sinks: PINNED },
    });
    cache.reserve(T);
    cache.write(0, tensor(k, { shape: [B, T, K, H] }), tensor(v, { shape: [B, T, K, H] }));
    return cache;
  };
  const query = () => tensor(q, { shape: [B, T, N, H] });

  test('a mask of [B, N, T, S] and pinned keys', () => {
    const cache = cacheOfAll();
    const seen = mask.map((one, i) => {
      const [t, s] = [Math.floor(i / T) % T, i % T];
      return Number(one === 1 && s <= t && (s < PINNED || s > t - WINDOW));
    });
    const both = tensor(seen, { shape: [B, N, T, T], dtype: 'bool' });
    const given = { mask: tensor(mask, { shape: [B, N, T, T], dtype: 'bool' }) };
    const [key, value] = [k, v].map((x) => tensor(x, { shape: [B, T, K, H] }));
    const want = dotProductAttention(query(), key, value, { mask: both });
    expectClose(attend(query(), cache.view(0), given).dataSync(), want.dataSync(), 1e-6);
    const weights = attendWeights(query(), cache.view(0), given);
    expectClose(
      weights.dataSync(),
      dotProductAttentionWeights(query(), key, { mask: both }).dataSync(),
      1e-6,
    );
    cache.dispose();
  });

  test('a mask or bias of another shape or dtype', () => {
    const cache = cacheOfAll();
    const call = (options: object) => () => attend(query(), cache.view(0), options);
    expect(call({ mask: zeros([T, 8], { dtype: 'bool' }) })).toThrow(
      new RangeError('attend: expected mask to broadcast to [B, N, T, S] [2, 6, 7, 7], got [7, 8]'),
    );
    expect(call({ bias: zeros([3, 1, 1, 7]) })).toThrow(
      new RangeError('attend: expected bias to broadcast to [B, N, T, S] [2, 6, 7, 7], got [3, 1, 1, 7]'),
    );
    expect(call({ mask: zeros([7]) })).toThrow(
      new TypeError('attend: expected mask of bool or u8, got f32; an additive mask is a bias'),
    );
    cache.dispose();
  });
});
