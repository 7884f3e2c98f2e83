/** `generate`: its options, its ends, its turns of the event loop, and a given cache. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type GenerateOptions, generate, loadModel, type Model } from '../../src/models/index.ts';
import { copyTiny, removeCheckpoints, tokenizerJson } from './checkpoints.ts';
import { BACKENDS, collect, Golden, loadTiny } from './golden.ts';

const backend = BACKENDS.includes('wasm') ? 'wasm' : 'reference';
const NAME = 'gqa-tied';

let model: Model;
let prompt: number[];
/** 24 greedy tokens of the prompt. */
let want: number[];
beforeAll(async () => {
  model = await loadTiny(NAME, backend);
  const golden = await Golden.open(`tiny-llama/${NAME}`);
  prompt = golden.ids('greedy/prompt');
  want = golden.ids('greedy/tokens');
});
afterAll(() => {
  model.dispose();
  removeCheckpoints();
});

describe('ends', () => {
  test('after maxNewTokens', async () => {
    expect(await collect(model, prompt, { maxNewTokens: 5, stop: [] })).toEqual(want.slice(0, 5));
    expect(await collect(model, prompt, { maxNewTokens: 0 })).toEqual([]);
  });

  test('at a stop token, which is not yielded', async () => {
    const stop = want[9];
    expect(await collect(model, prompt, { maxNewTokens: 24, stop: [stop] })).toEqual(
      want.slice(0, want.indexOf(stop)),
    );
    expect(await collect(model, prompt, { maxNewTokens: 24, stop: [want[0]] })).toEqual([]);
  });

  test("at the model's end tokens by default", async () => {
    const other = await loadModel(
      copyTiny(NAME, { eos_token_id: want[4] }, { 'generation_config.json': '{}' }),
      { backend },
    );
    expect(await collect(other, prompt, { maxNewTokens: 24 })).toEqual(want.slice(0, want.indexOf(want[4])));
    expect(await collect(other, prompt, { maxNewTokens: 24, stop: [] })).toEqual(want);
    other.dispose();
  });

  test('when the context or the cache is full', async () => {
    const short = await loadModel(copyTiny(NAME, { max_position_embeddings: 16 }), { backend });
    // The last token needs no place: 7 + 9 fill 16, and one more follows.
    expect(await collect(short, prompt, { maxNewTokens: 24, stop: [] })).toEqual(want.slice(0, 10));
    short.dispose();
    const cache = model.initCache({ batchSize: 1, maxLength: 12 });
    expect(await collect(model, prompt, { maxNewTokens: 24, stop: [], cache })).toEqual(want.slice(0, 6));
    expect(cache.lengths).toEqual([12]);
    cache.dispose();
  });
});

describe('sampling', () => {
  const draw = (options: GenerateOptions) =>
    collect(model, prompt, { maxNewTokens: 24, stop: [], ...options });

  test('the same seed gives the same tokens, another seed others', async () => {
    const first = await draw({ temperature: 1, seed: 1 });
    expect(await draw({ temperature: 1, seed: 1 })).toEqual(first);
    expect(await draw({ temperature: 1, seed: 2 })).not.toEqual(first);
    expect(await draw({ temperature: 1 })).not.toEqual(await draw({ temperature: 1 }));
    expect(first).not.toEqual(want);
  });

  test('filters that leave one token are greedy', async () => {
    expect(await draw({ temperature: 1, topK: 1 })).toEqual(want);
    expect(await draw({ temperature: 1, topP: 1e-6 })).toEqual(want);
    expect(await draw({ temperature: 1, minP: 1 })).toEqual(want);
    expect(await draw({ temperature: 1e-3 })).toEqual(want);
  });
});

describe('stop strings', () => {
  let speaking: Model;
  /** Token i of the greedy answer reads texts[i]; distinct, so that repeats of a token repeat its text. */
  let texts: string[];
  beforeAll(async () => {
    const vocab = Array.from({ length: 97 }, (_, id) => `<${id}>`);
    speaking = await loadModel(copyTiny(NAME, {}, { 'tokenizer.json': tokenizerJson(vocab) }), { backend });
    texts = want.map((id) => vocab[id]);
  });
  afterAll(() => speaking.dispose());

  /** The greedy answer that `stop` leaves, by brute force: whole tokens before the first match. */
  const wholeTokens = (...stops: string[]): number[] => {
    const text = texts.join('');
    const ends = stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
    const end = ends.length > 0 ? Math.min(...ends) : text.length;
    return want.filter((_, i) => texts.slice(0, i + 1).join('').length <= end);
  };
  const run = (stop: (string | number)[], maxNewTokens = 24) =>
    collect(speaking, prompt, { maxNewTokens, stop });

  test('of one token, inside a token, and across several', async () => {
    expect(speaking.tokenizer!.decode(want)).toBe(texts.join(''));
    const across = texts[7].slice(1) + texts[8] + texts[9].slice(0, 2);
    for (const stop of [texts[6], texts[6].slice(1, 2), across, texts[5] + texts[6]]) {
      expect(await run([stop]), stop).toEqual(wholeTokens(stop));
      expect(wholeTokens(stop).length, stop).toBeLessThan(24);
    }
    expect(await run([across, texts[11]])).toEqual(wholeTokens(across, texts[11]));
    expect(await run(['never', want[12]])).toEqual(want.slice(0, want.indexOf(want[12])));
  });

  test('tokens that only might have been part of one come after all', async () => {
    expect(await run([`${texts[4]}${texts[5]}!`])).toEqual(want);
    // Held back until the very end, and at a stop token.
    const open = `${texts[21]}${texts[22]}${texts[23]}!`;
    expect(await run([open])).toEqual(want);
    const id = want[10];
    expect(await run([`${texts.slice(0, 10).join('')}!`, id])).toEqual(want.slice(0, want.indexOf(id)));
  });

  test('held tokens are not yielded early', async () => {
    const seen: number[] = [];
    const stop = `${texts[2]}${texts[3]}?`;
    const fed: number[] = [];
    const cache = speaking.initCache({ batchSize: 1, maxLength: 64 });
    for await (const token of generate(speaking, prompt, { maxNewTokens: 8, stop: [stop], cache })) {
      seen.push(token);
      fed.push(cache.lengths[0] - prompt.length);
    }
    expect(seen).toEqual(want.slice(0, 8));
    // Tokens 2 and 3 wait for token 4, for which both have been fed.
    expect(fed.slice(0, 4)).toEqual([0, 1, 4, 4]);
    cache.dispose();
  });

  test('a cache holds no token of a stop string', async () => {
    const stop = texts[7] + texts[8] + texts[9];
    const cache = speaking.initCache({ batchSize: 1, maxLength: 64 });
    const answer = await collect(speaking, prompt, { maxNewTokens: 24, stop: [stop], cache });
    expect(answer).toEqual(wholeTokens(stop));
    expect(cache.lengths).toEqual([prompt.length + answer.length - 1]);
    cache.dispose();
  });

  test('need a tokenizer, and some text', async () => {
    await expect(collect(model, prompt, { stop: ['x'] })).rejects.toThrow(
      new RangeError('generate: stop strings need a tokenizer, and the model has none; give token ids'),
    );
    await expect(run([''])).rejects.toThrow(RangeError);
    await expect(run([1.5])).rejects.toThrow(TypeError);
  });
});

describe('a given cache', () => {
  test('continuing equals one shot, wherever the split is', async () => {
    for (const split of [1, 4, 6]) {
      const cache = model.initCache({ batchSize: 1, maxLength: 40 });
      await collect(model, prompt.slice(0, split), { maxNewTokens: 0, cache });
      expect(cache.lengths).toEqual([split]);
      expect(await collect(model, prompt.slice(split), { maxNewTokens: 24, stop: [], cache })).toEqual(want);
      expect(cache.lengths).toEqual([prompt.length + 23]);
      cache.dispose();
    }
  });

  test('is left so that the unfed rest of the history continues it, however it ended', async () => {
    const ends: (GenerateOptions & { take?: number })[] = [
      { maxNewTokens: 6 },
      { stop: [want[6]] },
      { take: 5 },
    ];
    for (const { take = 99, ...options } of ends) {
      const cache = model.initCache({ batchSize: 1, maxLength: 64 });
      const history = [...prompt];
      for await (const token of generate(model, prompt, { maxNewTokens: 24, stop: [], ...options, cache })) {
        history.push(token);
        if (history.length === prompt.length + take) break;
      }
      const made = history.length - prompt.length;
      expect(made).toBeGreaterThan(3);
      expect(history.length - cache.lengths[0]).toBe(1);
      const more = await collect(model, history.slice(cache.lengths[0]), {
        maxNewTokens: 24 - made,
        stop: [],
        cache,
      });
      expect([...history.slice(prompt.length), ...more]).toEqual(want);
      cache.dispose();
    }
  });

  test('a prompt that does not fit is refused before anything is fed', async () => {
    const cache = model.initCache({ batchSize: 1, maxLength: 10 });
    await collect(model, prompt.slice(0, 4), { maxNewTokens: 0, cache });
    await expect(collect(model, prompt, { cache })).rejects.toThrow(
      new RangeError('generate: expected a prompt that fits into the cache, got 7 tokens; it holds 4 of 10'),
    );
    await expect(collect(model, [1, 2, 97], { cache })).rejects.toThrow('got 97');
    expect(cache.lengths).toEqual([4]);
    cache.dispose();
    await expect(collect(model, new Array(300).fill(1))).rejects.toThrow(
      new RangeError("generate: expected a prompt within the model's context of 256 tokens, got 300"),
    );
    const two = model.initCache({ batchSize: 2, maxLength: 10 });
    await expect(collect(model, prompt, { cache: two })).rejects.toThrow('expected a cache of 1 row, got 2');
    two.dispose();
  });
});

describe('long prompts', () => {
  const long = Array.from({ length: 600 }, (_, i) => (i * 31) % 97);
  let roomy: Model;
  beforeAll(async () => {
    roomy = await loadModel(copyTiny(NAME, { max_position_embeddings: 2048 }), { backend });
  });
  afterAll(() => roomy.dispose());

  test('go in chunks, with progress, and give what one pass gives', async () => {
    const progress: number[][] = [];
    const [token] = await collect(roomy, long, {
      maxNewTokens: 1,
      stop: [],
      onPrefill: (...numbers) => progress.push(numbers),
    });
    expect(progress.map(([done, total]) => [done, total])).toEqual([
      [256, 600],
      [512, 600],
      [600, 600],
    ]);
    const logits = roomy.forward([long], { logits: 'last' }).dataSync();
    expect(token).toBe(logits.indexOf(Math.max(...logits)));
  });

  test('go in chunks of prefillChunkSize', async () => {
    const progress: number[] = [];
    const onPrefill = (done: number) => void progress.push(done);
    await collect(roomy, long, { maxNewTokens: 0, prefillChunkSize: 250, onPrefill });
    expect(progress).toEqual([250, 500, 600]);
    await expect(collect(roomy, long, { prefillChunkSize: 0 })).rejects.toThrow(
      'generate: expected prefillChunkSize to be a positive integer, got 0',
    );
  });

  test('an abort between chunks ends the prefill; the cache holds whole chunks', async () => {
    const controller = new AbortController();
    const cache = roomy.initCache({ batchSize: 1, maxLength: 700 });
    const onPrefill = (done: number) => void (done >= 512 && controller.abort());
    await expect(collect(roomy, long, { cache, onPrefill, signal: controller.signal })).rejects.toThrow(
      expect.objectContaining({ name: 'AbortError' }),
    );
    expect(cache.lengths).toEqual([512]);
    cache.dispose();
  });
});

describe('manners', () => {
  test('an abort throws its reason: before, and from a timer while running', async () => {
    const reason = new Error('no longer wanted');
    await expect(collect(model, prompt, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    await expect(collect(model, prompt, { signal: AbortSignal.abort() })).rejects.toThrow(
      expect.objectContaining({ name: 'AbortError' }),
    );
    const controller = new AbortController();
    const seen: number[] = [];
    const running = (async () => {
      for await (const token of generate(model, prompt, {
        maxNewTokens: 200,
        stop: [],
        signal: controller.signal,
      })) {
        seen.push(token);
        if (seen.length === 3) setImmediate(() => controller.abort(reason));
      }
    })();
    await expect(running).rejects.toBe(reason);
    expect(seen.length).toBeLessThanOrEqual(5);
  });

  test('the event loop turns between tokens, without a timer for each', async () => {
    let turns = 0;
    let counting = true;
    const count = () => {
      turns++;
      if (counting) setImmediate(count);
    };
    setImmediate(count);
    await collect(model, prompt, { maxNewTokens: 24, stop: [] });
    counting = false;
    expect(turns).toBeGreaterThanOrEqual(23);
  });

  test('two generations at once do not disturb each other', async () => {
    const options = { maxNewTokens: 24, stop: [] };
    expect(await Promise.all([collect(model, prompt, options), collect(model, prompt, options)])).toEqual([
      want,
      want,
    ]);
  });
});

test.each<[string, number[], GenerateOptions, string]>([
  ['no prompt', [], {}, 'generate: expected a prompt of at least one token, got none'],
  ['temperature', [1], { temperature: -0.5 }, 'generate: expected temperature >= 0, got -0.5'],
  ['topP', [1], { topP: 1.5 }, 'generate: expected topP in (0, 1], got 1.5'],
  [
    'maxNewTokens',
    [1],
    { maxNewTokens: 1.5 },
    'generate: expected maxNewTokens to be a non-negative integer, got 1.5',
  ],
  ['seed', [1], { temperature: 1, seed: 0.5 }, 'generate: expected seed to be a safe integer, got 0.5'],
])('refused: %s', async (_, tokens, options, message) => {
  await expect(collect(model, tokens, options)).rejects.toThrow(new RangeError(message));
});
