/**
 * After `generate` ends, in any way, `history.slice(cache.lengths[0])` continues from the given cache, on
 * every kind.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type GenerateOptions,
  generate,
  type InitCacheOptions,
  loadModel,
  type Model,
} from '../../src/models/index.ts';
import { copyTiny, removeCheckpoints, tokenizerJson } from './checkpoints.ts';
import { BACKENDS, collect } from './golden.ts';

const backend = BACKENDS.includes('wasm') ? 'wasm' : 'reference';
const PROMPT = Array.from({ length: 23 }, (_, i) => (i * 17 + 3) % 61);
const MADE = 14;

/**
 * The prompt is past the window of 9 (or 7), and past the 16 tokens where the rotary frequencies of LongRoPE
 * change.
 */
const CASES: readonly [string, string, Omit<InitCacheOptions, 'batchSize' | 'maxLength'>][] = [
  ['static', 'tiny-qwen3/plain', {}],
  ['static in a model with windows', 'tiny-mistral/window', {}],
  ['static with LongRoPE', 'tiny-phi3/longrope', {}],
  ['static with latent rows', 'tiny-deepseek/v2-lite', {}],
  ['paged', 'tiny-mistral/window', { kind: 'paged', blockSize: 4 }],
  ['window', 'tiny-qwen3/plain', { kind: 'window', window: 7 }],
  ['window with sinks', 'tiny-qwen3/plain', { kind: 'window', window: 7, sinks: 2 }],
  ['window with LongRoPE', 'tiny-phi3/longrope', { kind: 'window', window: 7, sinks: 1 }],
];

afterAll(removeCheckpoints);

describe.each(CASES)('%s', (_, name, choice) => {
  let model: Model;
  /** What it answers when nothing ends it. */
  let want: number[];
  let texts: string[];
  const cacheOf = () => model.initCache({ batchSize: 1, maxLength: 60, ...choice });
  beforeAll(async () => {
    const vocab = Array.from({ length: 97 }, (_, id) => `<${id}>`);
    model = await loadModel(copyTiny(name, {}, { 'tokenizer.json': tokenizerJson(vocab) }), { backend });
    const cache = cacheOf();
    want = await collect(model, PROMPT, { maxNewTokens: MADE, stop: [], cache });
    cache.dispose();
    texts = want.map((id) => vocab[id]);
  });
  afterAll(() => model.dispose());

  /**
   * Generates until `options` end it, then goes on by the recipe. Returns how many tokens came before that.
   */
  const inTwo = async (options: GenerateOptions, take = 99): Promise<{ first: number; error: unknown }> => {
    const cache = cacheOf();
    const history = [...PROMPT];
    let error: unknown;
    try {
      for await (const token of generate(model, PROMPT, {
        maxNewTokens: MADE,
        stop: [],
        ...options,
        cache,
      })) {
        history.push(token);
        if (history.length === PROMPT.length + take) break;
      }
    } catch (caught) {
      error = caught;
    }
    const first = history.length - PROMPT.length;
    expect(cache.lengths[0]).toBeLessThan(history.length);
    const rest = history.slice(cache.lengths[0]);
    const more = await collect(model, rest, { maxNewTokens: MADE - first, stop: [], cache });
    expect([...history.slice(PROMPT.length), ...more]).toEqual(want);
    cache.dispose();
    return { first, error };
  };

  /** Tokens of the answer that end before a text. */
  const endingBefore = (stop: string): number =>
    texts.filter((_, i) => texts.slice(0, i + 1).join('').length <= texts.join('').indexOf(stop)).length;

  test('after a stop string whose tokens were held back', async () => {
    for (const length of [2, 5, 9]) {
      const stop = texts.slice(3, 3 + length).join('');
      const { first, error } = await inTwo({ stop: [stop] });
      expect(error).toBeUndefined();
      expect(first).toBe(endingBefore(stop));
    }
  });

  test('after a text that might have become a stop string until the last token', async () => {
    const { first, error } = await inTwo({ stop: [`${texts.slice(2).join('')}!`] });
    expect([first, error]).toEqual([MADE, undefined]);
  });

  test('after an abort at any time, whose reason comes through', async () => {
    const reason = new Error('no longer wanted');
    const stops = [[], [`${texts.slice(1, 9).join('')}!`]];
    for (const stop of stops) {
      for (let after = 1; after <= 12; after++) {
        let asked = 0;
        const signal = {
          throwIfAborted: () => {
            if (asked++ === after) throw reason;
          },
        } as AbortSignal;
        const { error } = await inTwo({ stop, signal });
        expect(error).toBe(reason);
      }
    }
  });

  test('after the loop was left, also among tokens that came together', async () => {
    const stop = [`${texts.slice(2, 7).join('')}!`];
    for (const take of [1, 3, 4, 5]) expect((await inTwo({ stop }, take)).first).toBe(take);
  });

  test('after a stop token, the first one too', async () => {
    for (const at of [0, 4]) await inTwo({ stop: [want[at]] });
  });

  test('a prompt alone is fed whole', async () => {
    const cache = cacheOf();
    await collect(model, PROMPT.slice(0, 20), { maxNewTokens: 0, cache });
    expect(cache.lengths).toEqual([20]);
    expect(await collect(model, PROMPT.slice(20), { maxNewTokens: MADE, stop: [], cache })).toEqual(want);
    cache.dispose();
  });

  test('without stop strings the memory is what the cache began with', async () => {
    const cache = cacheOf();
    const { bytes } = cache;
    await collect(model, PROMPT, { maxNewTokens: MADE, stop: [], cache });
    expect(cache.bytes).toBe(bytes);
    cache.dispose();
  });
});

test('a cache that was disposed meanwhile does not hide the reason of an abort', async () => {
  const model = await loadModel(copyTiny('tiny-mistral/window'), { backend });
  const cache = model.initCache({ batchSize: 1, maxLength: 60 });
  const controller = new AbortController();
  const reason = new Error('closed');
  const running = collect(model, PROMPT, { maxNewTokens: 20, stop: [], cache, signal: controller.signal });
  setImmediate(() => {
    cache.dispose();
    controller.abort(reason);
  });
  await expect(running).rejects.toBe(reason);
  model.dispose();
});

test('two at once on one cache, and a reset meanwhile, are errors', async () => {
  const model = await loadModel(copyTiny('tiny-mistral/window'), { backend });
  const cache = model.initCache({ batchSize: 1, maxLength: 90 });
  const run = () => collect(model, PROMPT, { maxNewTokens: 9, stop: [], cache });
  const [first] = await Promise.allSettled([run(), run()]);
  expect(first).toMatchObject({
    status: 'rejected',
    reason: new Error(
      'generate: expected a cache that nothing else changes meanwhile, got 46 tokens in place of 23',
    ),
  });
  cache.reset();
  const resetting = async () => {
    for await (const _ of generate(model, PROMPT, { maxNewTokens: 9, stop: [], cache })) cache.reset();
  };
  await expect(resetting()).rejects.toThrow('nothing else changes meanwhile, got 0 tokens in place of 23');
  cache.reset();
  expect(await run()).toHaveLength(9);
  cache.dispose();
  model.dispose();
});
