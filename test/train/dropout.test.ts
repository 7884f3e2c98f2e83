/**
 * Dropout in training: where it applies and where not, the same bits on any number of threads, and errors.
 */

import { describe, expect, test } from 'vitest';
import { convert } from '../../src/backend/calls/copy.ts';
import { getBackend } from '../../src/backend/registry.ts';
import {
  add,
  type BackendName,
  dotProductAttention,
  embedding,
  linear,
  mul,
  reshape,
  rmsNorm,
  rope,
  setBackend,
  setThreads,
  sum,
  type Tensor,
  tensor,
  valueAndGrad,
} from '../../src/index.ts';
import { keyAt } from '../../src/models/pass-dropout.ts';
import { Dropout } from '../../src/nn/index.ts';
import { dropout } from '../../src/ops/dropout.ts';
import { gatedActivation } from '../../src/ops/gated.ts';
import { foldIn, key } from '../../src/random/index.ts';
import {
  causalLmLoss,
  createModel,
  llamaConfig,
  splitTokens,
  Trainer,
  type TrainerOptions,
} from '../../src/train/index.ts';
import { drawKey } from '../../src/train/token-data.ts';
import { backends } from '../ops/backends.ts';

const SIZES = { vocabSize: 31, hiddenSize: 24, numLayers: 2, numHeads: 6, numKeyValueHeads: 2 };
const BLOCK = 13;
const ROWS = [
  [1, 7, 4, 2, 9, 30, 3, 3],
  [5, 0, 11, 29, 2, 2, 17, 8],
];
const names: readonly BackendName[] = backends.map(({ name }) => name);
const fast = names.find((name) => name !== 'reference') ?? 'reference';
const hasNative = names.includes('native');

function makeModel(seed = 3) {
  return createModel(llamaConfig({ ...SIZES, maxPositionEmbeddings: BLOCK }), { seed });
}

function makeTrainer(options: Partial<TrainerOptions> = {}): Trainer {
  const tokens = Int32Array.from({ length: 2000 }, (_, i) => (i * i + 7 * i + (i >> 5)) % 31);
  return new Trainer(makeModel(), splitTokens(tokens, BLOCK, 0.1), {
    ...{ batchSize: 4, blockLength: BLOCK, steps: 20, learningRate: 3e-3, seed: 5, accumulate: 2 },
    ...options,
  });
}

function losses(options: Partial<TrainerOptions>, steps = 10): number[] {
  const trainer = makeTrainer(options);
  const found = Array.from({ length: steps }, () => trainer.advance());
  trainer.model.dispose();
  return found;
}

/** max |a - b|, of the largest |b| */
function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [apart, largest] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    apart = Math.max(apart, Math.abs(a[i] - b[i]));
    largest = Math.max(largest, Math.abs(b[i]));
  }
  return apart / largest;
}

describe('where it drops', () => {
  /**
   * The model as a formula of public ops and Flax's Dropout, with the keys that src/models/pass-dropout.ts
   * names.
   */
  function byHand(weights: ReadonlyMap<string, { value: Tensor }>, root: Tensor, rate: number): Tensor {
    const at = (name: string) => weights.get(`model.${name}.weight`)?.value as Tensor;
    const drop = (x: Tensor, place: number) =>
      new Dropout({ rate }).forward(x, { rngs: foldIn(root, place) });
    const { numHeads: N, numKeyValueHeads: K, hiddenSize: D } = SIZES;
    const [B, T, H] = [2, 8, D / N];
    const angles = Array.from({ length: B * T * (H / 2) }, (_, i) => {
      const pair = i % (H / 2);
      return (Math.floor(i / (H / 2)) % T) * 10000 ** ((-2 * pair) / H);
    });
    const [cos, sin] = [Math.cos, Math.sin].map((f) =>
      tensor(Float32Array.from(angles, f), { shape: [B, T, H / 2] }),
    );
    const norm = (x: Tensor, name: string) => rmsNorm(x, at(name), { eps: 1e-5 });
    let x = drop(embedding(at('embed_tokens'), tensor(Int32Array.from(ROWS.flat()), { shape: [B, T] })), 0);
    for (let i = 0; i < SIZES.numLayers; i++) {
      const own = (name: string) => `layers.${i}.${name}`;
      const into = norm(x, own('input_layernorm'));
      const heads = (name: string, n: number) =>
        reshape(linear(into, at(own(`self_attn.${name}_proj`))), [B, T, n, H]);
      const attended = dotProductAttention(
        rope(heads('q', N), cos, sin),
        rope(heads('k', K), cos, sin),
        heads('v', K),
        {
          ...{ isCausal: true, dropoutRate: rate, dropoutKey: foldIn(root, 3 * i + 1) },
          broadcastDropout: false,
        },
      );
      const projected = linear(reshape(attended, [B, T, D]), at(own('self_attn.o_proj')));
      x = add(x, drop(projected, 3 * i + 2));
      const read = norm(x, own('post_attention_layernorm'));
      const [gate, up] = ['gate', 'up'].map((name) => linear(read, at(own(`mlp.${name}_proj`))));
      x = add(x, drop(linear(gatedActivation(gate, up, 'silu'), at(own('mlp.down_proj'))), 3 * i + 3));
    }
    return linear(norm(x, 'norm'), at('embed_tokens'));
  }

  test('after the embedding, on attention weights, after attention and the MLP of every layer', async () => {
    await setBackend(fast);
    const model = makeModel();
    const [root, rate] = [key(9), 0.3];
    const got = model.forward(ROWS, { dropoutRate: rate, dropoutKey: root }).dataSync();
    expect(distance(got, byHand(model.parameters(), root, rate).dataSync())).toBeLessThan(1e-5);
    expect(distance(got, model.forward(ROWS).dataSync())).toBeGreaterThan(0.1);
    model.dispose();
  });

  test('no two places, batches, streams or seeds share a key', () => {
    const words = [0, 1].flatMap((seed) =>
      [0, 1, 2].flatMap((index) => {
        const pass = { rate: 0.5, key: drawKey(seed, 'dropout', index) };
        const layers = [0, 1, 2].flatMap((layer) =>
          (['attention', 'attentionOutput', 'mlp'] as const).map((place) => keyAt(pass, place, layer)),
        );
        return [pass.key, drawKey(seed, 'train', index), keyAt(pass, 'embedding'), ...layers];
      }),
    );
    expect(new Set(words.map(String)).size).toBe(words.length);
  });

  test('the mean over masks is what there is without', async () => {
    await setBackend(fast);
    const x = tensor(Float32Array.of(1, -2, 3, 0.5, 100));
    const [rate, draws] = [0.3, 4000];
    const total = new Float64Array(5);
    for (let i = 0; i < draws; i++) {
      const y = dropout(x, rate, [0, i]);
      for (const [j, value] of Array.from(y.dataSync()).entries()) total[j] += value / draws;
      y.dispose();
    }
    // The deviation of one is |x| sqrt(rate / (1 - rate)).
    for (const [j, value] of Array.from(x.dataSync()).entries()) {
      const spread = Math.abs(value) * Math.sqrt(rate / (1 - rate) / draws);
      expect(Math.abs(total[j] - value)).toBeLessThan(5 * spread);
    }
  });
});

describe('gradients', () => {
  const mask = { dropoutRate: 0.3, dropoutKey: [3, 5] as const };
  const gradients = async (backend: BackendName) => {
    await setBackend(backend);
    const model = makeModel();
    const [loss, found] = valueAndGrad((m: typeof model) => causalLmLoss(m, ROWS, mask))(model);
    const values = Object.entries(found).map(([path, x]) => [path, x.dataSync()] as const);
    const value = loss.dataSync()[0];
    model.dispose();
    return { value, found: new Map(values) };
  };

  test.each(names.filter((name) => name !== 'reference'))(
    'of %s are the reference backend’s with the same key',
    async (name) => {
      const [got, want] = [await gradients(name), await gradients('reference')];
      expect(Math.abs(got.value - want.value)).toBeLessThan(1e-5);
      for (const [path, values] of want.found) {
        expect(distance(got.found.get(path) as ArrayLike<number>, values), path).toBeLessThan(1e-4);
      }
    },
  );

  test('are those of the loss with this mask, by differences', async () => {
    await setBackend('reference');
    const model = makeModel();
    const [, found] = valueAndGrad((m: typeof model) => causalLmLoss(m, ROWS, mask))(model);
    const { value } = model.parameters().get('model.embed_tokens.weight') as { value: Tensor };
    const gradient = found['model.embed_tokens.weight'];
    // Along the gradient itself the loss rises by its squared length.
    const slope = sum(mul(gradient, gradient)).dataSync()[0];
    const step = 1e-2 / Math.sqrt(slope);
    const before = mul(value, 1);
    const backend = getBackend();
    const [up, down] = [step, -step].map((by) => {
      const moved = add(before, mul(gradient, by));
      backend.run(convert, { out: value, x: moved, count: value.size });
      return causalLmLoss(model, ROWS, mask).dataSync()[0];
    });
    expect((up - down) / (2 * step) / slope).toBeCloseTo(1, 2);
    model.dispose();
  });
});

describe('the trainer', () => {
  test('without dropout does what it did: the same losses, no further kernel', async () => {
    await setBackend(fast);
    const backend = getBackend();
    const run = backend.run.bind(backend);
    let drawn = 0;
    const without = losses({});
    try {
      backend.run = (call, args) => {
        if (call.name === 'random' && !('kind' in args && args.kind === 'normal')) drawn++; // not the weights
        run(call, args);
      };
      expect(losses({ dropout: 0 })).toEqual(without);
      expect(drawn).toBe(0);
      expect(losses({ dropout: 0.2 })).not.toEqual(without);
      expect(drawn).toBe(2 * 10 * 2 * (1 + 2 * SIZES.numLayers)); // forward and back, steps, batches, places
    } finally {
      backend.run = run;
    }
  });

  test('estimates of the losses are without', async () => {
    await setBackend(fast);
    const [plain, dropping] = [makeTrainer(), makeTrainer({ dropout: 0.5 })];
    for (const part of ['train', 'validation'] as const) {
      expect(dropping.evaluate(part)).toBe(plain.evaluate(part));
    }
    for (const { model } of [plain, dropping]) model.dispose();
  });

  test.skipIf(!hasNative)('gives the same bits on 1, 2 and 3 threads', async () => {
    await setBackend('native');
    await setThreads(1);
    const one = losses({ dropout: 0.2 });
    for (const threads of [2, 3]) {
      await setThreads(threads);
      expect(losses({ dropout: 0.2 })).toEqual(one);
    }
  });
});

describe('options out of range', () => {
  test.each([-0.1, 1, 1.5, Number.NaN])('a rate of %d', async (rate) => {
    await setBackend(fast);
    const model = makeModel();
    const options = { dropoutRate: rate, dropoutKey: [1, 2] } as const;
    expect(() => makeTrainer({ dropout: rate })).toThrow(
      new RangeError(`train: expected 0 <= dropout < 1, got ${rate}`),
    );
    expect(() => causalLmLoss(model, ROWS, options)).toThrow(
      new RangeError(`forward: expected 0 <= dropoutRate < 1, got ${rate}`),
    );
    model.dispose();
  });

  test('no key, and a cache', async () => {
    await setBackend(fast);
    const model = makeModel();
    expect(() => model.forward(ROWS, { dropoutRate: 0.5 })).toThrow(
      /a dropoutKey with dropoutRate 0.5, got none/,
    );
    const cache = model.initCache({ batchSize: 2, maxLength: 8 });
    const options = { dropoutRate: 0.5, dropoutKey: [1, 2], cache } as const;
    expect(() => model.forward(ROWS, options)).toThrow(/no dropout with a cache, got dropoutRate 0.5/);
    expect(cache.lengths).toEqual([0, 0]);
    cache.dispose();
    model.dispose();
  });
});
