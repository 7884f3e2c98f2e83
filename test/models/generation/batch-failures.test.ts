/** What `generateBatch` refuses, and that nothing stays allocated however it ends. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ReferenceBackend } from '../../../src/backend/reference.ts';
import { open } from '../../../src/backend/registry.ts';
import { type GenerateBatchOptions, generate, generateBatch, type Model } from '../../../src/models/index.ts';
import { loadTiny } from '../golden.ts';

const counted = open('reference') as ReferenceBackend;
let model: Model;
let draftModel: Model;
beforeAll(async () => {
  model = await loadTiny('gqa-tied', 'reference');
  draftModel = await loadTiny('mqa', 'reference');
});
afterAll(() => {
  model.dispose();
  draftModel.dispose();
});

const PROMPTS = [[5, 6, 7, 5, 6], [8], [9, 10, 11, 9]];
const kinds: readonly GenerateBatchOptions[] = [
  {},
  { n: 3, temperature: 1, seed: 1 },
  { numBeams: 3, n: 2 },
  { promptLookup: 3, n: 2 },
];

describe.each([...kinds, { draftModel: true, n: 2 }])('%o', (kind) => {
  const options = (): GenerateBatchOptions => ({
    maxNewTokens: 8,
    stop: [],
    ...(kind as GenerateBatchOptions),
    ...('draftModel' in kind && { draftModel }),
  });

  test('frees all at the end', async () => {
    const before = counted.bytesInUse;
    await generateBatch(model, PROMPTS, options());
    expect(counted.bytesInUse).toBe(before);
  });

  test('an abort at any time throws its reason and frees all', async () => {
    const before = counted.bytesInUse;
    const reason = new Error('no longer wanted');
    for (let after = 0; after < 9; after++) {
      let asked = 0;
      const signal = {
        throwIfAborted: () => {
          if (asked++ === after) throw reason;
        },
      } as AbortSignal;
      await expect(generateBatch(model, PROMPTS, { ...options(), signal })).rejects.toBe(reason);
      expect(counted.bytesInUse).toBe(before);
    }
  });

  test('a pass that fails frees all', async () => {
    const before = counted.bytesInUse;
    const { forward } = model;
    for (let after = 0; after < 9; after++) {
      let passes = 0;
      const failing = (...given: Parameters<typeof forward>) => {
        if (passes++ === after) throw new Error('no memory');
        return forward.apply(model, given);
      };
      Object.assign(model, { forward: failing });
      const running = generateBatch(model, PROMPTS, options());
      await expect(running.finally(() => Object.assign(model, { forward }))).rejects.toThrow('no memory');
      expect(counted.bytesInUse).toBe(before);
    }
  });

  test('a processor that throws ends it with its error', async () => {
    const before = counted.bytesInUse;
    const logitsProcessors = [
      (_: Float32Array, tokens: readonly number[]) => {
        if (tokens.length === 7) throw new Error('not this one');
      },
    ];
    await expect(generateBatch(model, PROMPTS, { ...options(), logitsProcessors })).rejects.toThrow(
      'not this one',
    );
    expect(counted.bytesInUse).toBe(before);
  });
});

test('generate with a draft model frees its cache, also when the loop is left', async () => {
  const before = counted.bytesInUse;
  for await (const token of generate(model, [5, 6, 7], { draftModel, stop: [] })) if (token >= 0) break;
  expect(counted.bytesInUse).toBe(before);
});

test('what a processor does to the tokens does not change the history', async () => {
  const options = { maxNewTokens: 6, stop: [], n: 2, seed: 1, temperature: 1 };
  const emptying = (_: Float32Array, tokens: readonly number[]) => void (tokens as number[]).splice(0);
  const got = await generateBatch(model, PROMPTS, { ...options, logitsProcessors: [emptying] });
  expect(got).toEqual(await generateBatch(model, PROMPTS, options));
});

test('fewer answers than asked for are an error, not a shorter list', async () => {
  const before = counted.bytesInUse;
  const only = (...ids: number[]) => ({
    logitsProcessors: [
      (logits: Float32Array) => {
        for (let id = 0; id < logits.length; id++) if (!ids.includes(id)) logits[id] = -Infinity;
      },
    ],
  });
  const beams = { numBeams: 2, n: 2, maxNewTokens: 3, stop: [] };
  await expect(generateBatch(model, [[5]], { ...beams, ...only() })).rejects.toThrow(
    'generateBatch: expected tokens above -Infinity for 2 different answers, got 0',
  );
  await expect(generateBatch(model, [[5]], { ...beams, ...only(7) })).rejects.toThrow(
    'generateBatch: expected tokens above -Infinity for 2 different answers, got 1',
  );
  const [both] = await generateBatch(model, [[5]], { ...beams, ...only(7, 8) });
  expect(both).toHaveLength(2);
  expect(counted.bytesInUse).toBe(before);
});

test('prompts that are missing or huge, and more rows than memory holds', async () => {
  const sparse: number[][] = [];
  sparse[1] = [5];
  await expect(generateBatch(model, sparse)).rejects.toThrow(
    'generateBatch: expected prompt 0 of token ids, got undefined',
  );
  await expect(generateBatch(model, [{ length: 2 ** 40 }])).rejects.toThrow(
    /prompt 0 within the model's context of \d+ tokens, got 1099511627776/,
  );
  for (const name of ['n', 'numBeams']) {
    await expect(generateBatch(model, [[5]], { [name]: 1e9 })).rejects.toThrow(
      `generateBatch: expected ${name} of at most 4096, got 1000000000`,
    );
  }
});

test('no tokens and no prompts', async () => {
  expect(await generateBatch(model, [])).toEqual([]);
  const none = { tokens: [], finishReason: 'length' };
  const zero = { maxNewTokens: 0, n: 2, stop: [] };
  expect(await generateBatch(model, [[5], [6]], zero)).toEqual([
    [none, none],
    [none, none],
  ]);
  expect(await generateBatch(model, [[5]], { ...zero, numBeams: 2 })).toMatchObject([[none, none]]);
});

test('progress counts the tokens of all prompts', async () => {
  const seen: number[][] = [];
  const onPrefill = (...numbers: number[]) => seen.push(numbers);
  await generateBatch(model, PROMPTS, { maxNewTokens: 2, onPrefill });
  expect(seen).toEqual([
    [5, 10],
    [6, 10],
    [10, 10],
  ]);
});

type Refusal = [string, readonly number[][], GenerateBatchOptions, Error];
test.each<Refusal>([
  [
    'an empty prompt',
    [[5], []],
    {},
    new RangeError('generateBatch: expected prompt 1 of at least one token, got none'),
  ],
  [
    'a prompt longer than the context',
    [[5], new Array(257).fill(5)],
    {},
    new RangeError("generateBatch: expected prompt 1 within the model's context of 256 tokens, got 257"),
  ],
  ['n', [[5]], { n: 0 }, new RangeError('generateBatch: expected n to be a positive integer, got 0')],
  [
    'numBeams',
    [[5]],
    { numBeams: 1.5 },
    new RangeError('generateBatch: expected numBeams to be a positive integer, got 1.5'),
  ],
  [
    'more results than beams',
    [[5]],
    { n: 3, numBeams: 2 },
    new RangeError('generateBatch: expected n of at most numBeams=2, got 3'),
  ],
  [
    'draws among beams',
    [[5]],
    { numBeams: 2, temperature: 1 },
    new RangeError('generateBatch: expected temperature 0 with numBeams=2, got 1'),
  ],
  [
    'speculation with beams',
    [[5]],
    { numBeams: 2, promptLookup: 3 },
    new TypeError('generateBatch: expected no promptLookup with numBeams=2, got one'),
  ],
  [
    'a length penalty without beams',
    [[5]],
    { lengthPenalty: 2 },
    new TypeError('generateBatch: expected numBeams above 1 beside lengthPenalty, got 1'),
  ],
  [
    'topLogprobs',
    [[5]],
    { topLogprobs: 98 },
    new RangeError('generateBatch: expected topLogprobs of at most V=97, got 98'),
  ],
  [
    'seeds beyond safe integers',
    [[5]],
    { n: 2, seed: Number.MAX_SAFE_INTEGER },
    new RangeError(
      'generateBatch: expected seed + n - 1 to be a safe integer, got seed 9007199254740991 and n 2',
    ),
  ],
  [
    'promptLookup',
    [[5]],
    { promptLookup: 0 },
    new RangeError('generateBatch: expected promptLookup to be a positive integer, got 0'),
  ],
  [
    'a prompt in place of prompts',
    5 as never,
    {},
    new TypeError('generateBatch: expected prompts as an array of token ids per prompt, got 5'),
  ],
])('refused: %s', async (_, prompts, options, error) => {
  const before = counted.bytesInUse;
  await expect(generateBatch(model, prompts, options)).rejects.toThrow(error);
  expect(counted.bytesInUse).toBe(before);
});

test('a draft model of another vocabulary, and two kinds of proposals at once', async () => {
  const { config } = draftModel;
  const other = { forward() {}, config: { ...config, vocabSize: 61 } } as unknown as Model;
  await expect(generateBatch(model, [[5]], { draftModel: other })).rejects.toThrow(
    new RangeError("generateBatch: expected a draftModel of the model's vocabulary, V=97, got V=61"),
  );
  await expect(generate(model, [5], { draftModel, promptLookup: 2 }).next()).rejects.toThrow(
    new TypeError('generate: expected draftModel or promptLookup, got both'),
  );
});
