/** The processors against transformers' own, and the rules of the options. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type LogitsProcessor, logitsProcessors } from '../../../src/models/generation/logits-processors.ts';
import {
  type GenerateOptions,
  generate,
  type Model,
  type SamplingOptions,
} from '../../../src/models/index.ts';
import { BACKENDS, collect, Golden, loadTiny } from '../golden.ts';

type Row = readonly (number | null)[];
interface Case {
  readonly row: string;
  readonly history: string;
  readonly options: Omit<SamplingOptions, 'logitBias'> & { logitBias?: Record<string, number | null> };
  readonly own?: boolean;
  readonly ties?: boolean;
  readonly output: Row;
}

const golden = JSON.parse(
  readFileSync(new URL('../../golden/logits-processors/processors.json', import.meta.url), 'utf8'),
) as {
  readonly endTokenIds: number[];
  readonly rows: Record<string, Row>;
  readonly histories: Record<string, { readonly tokens: number[]; readonly promptLength: number }>;
  readonly cases: Case[];
};

const numbers = (row: Row) => Float32Array.from(row, (value) => value ?? Number.NEGATIVE_INFINITY);
const plusIdMod3: LogitsProcessor = (logits) => {
  for (let id = 0; id < logits.length; id++) logits[id] += id % 3;
};
const context = { promptLength: 1, endTokenIds: [5], vocabSize: 17, maxNewTokens: 20 };

function process(
  logits: ArrayLike<number>,
  tokens: readonly number[],
  options: SamplingOptions,
  more: Partial<typeof context> = {},
): Float32Array {
  const result = Float32Array.from(logits);
  const list = logitsProcessors('test', options, { ...context, vocabSize: result.length, ...more });
  for (const step of list) step(result, tokens);
  return result;
}

test.each(golden.cases.map((item) => [`${JSON.stringify(item.options)} ${item.row} ${item.history}`, item]))(
  'transformers: %s',
  (_, { row, history, options, own, ties, output }) => {
    const logitBias =
      options.logitBias &&
      Object.fromEntries(Object.entries(options.logitBias).map(([id, value]) => [id, value ?? -Infinity]));
    const { tokens, promptLength } = golden.histories[history];
    const got = process(
      numbers(golden.rows[row]),
      tokens,
      { ...options, logitBias, logitsProcessors: own ? [plusIdMod3] : undefined },
      { promptLength, endTokenIds: golden.endTokenIds },
    );
    const want = numbers(output);
    if (ties) {
      got.sort();
      want.sort();
    }
    got.forEach((value, id) => {
      if (want[id] === -Infinity || value === -Infinity) expect(value, `token ${id}`).toBe(want[id]);
      else expect(Math.abs(value - want[id]), `token ${id}`).toBeLessThanOrEqual(1e-6 * Math.abs(want[id]));
    });
  },
);

test('of equal logits at the border topP keeps the lower ids, so the greedy token is always among them', () => {
  const kept = process([1, 3, 3, 3, 0], [], { temperature: 1, topP: 0.5 });
  expect([...kept]).toEqual([-Infinity, 3, 3, -Infinity, -Infinity]);
});

test('presence and frequency penalties count what was made, not the prompt', () => {
  // OpenAI: logit - count * frequencyPenalty - (count > 0) * presencePenalty.
  const logits = [1, 1, 1, -1, 1];
  const tokens = [2, 2, 4, 0, 3, 3, 0, 3];
  const penalties = { presencePenalty: 0.5, frequencyPenalty: 0.25 };
  expect([...process(logits, tokens, penalties, { promptLength: 3 })]).toEqual([0, 1, 1, -2.25, 1]);
  expect([...process(logits, tokens, { presencePenalty: -2 }, { promptLength: 3 })]).toEqual([3, 1, 1, 1, 1]);
  expect([...process(logits, tokens, { frequencyPenalty: 2 }, { promptLength: 3 })]).toEqual([
    -3, 1, 1, -7, 1,
  ]);
  expect([...process(logits, [2, 3, 3], penalties, { promptLength: 3 })]).toEqual(logits);
});

test('a list of processors serves many rows: nothing is kept from one call to the next', () => {
  const options = {
    logitBias: { 1: 0.5 },
    repetitionPenalty: 1.2,
    presencePenalty: 0.5,
    frequencyPenalty: 0.25,
    noRepeatNgramSize: 2,
    minNewTokens: 3,
  };
  const list = logitsProcessors('test', options, context);
  const run = (tokens: readonly number[]) => {
    const row = Float32Array.from({ length: 17 }, (_, id) => id - 6);
    for (const step of list) step(row, tokens);
    return [...row];
  };
  const first = run([1, 2, 3, 2]);
  run([7, 7, 9, 3, 2, 16]);
  expect(run([1, 2, 3, 2])).toEqual(first);
});

test('options that change nothing add no processor', () => {
  const off = {
    temperature: 1,
    topP: 1,
    minP: 0,
    typicalP: 1,
    repetitionPenalty: 1,
    presencePenalty: 0,
    frequencyPenalty: 0,
    noRepeatNgramSize: 0,
    logitBias: {},
    minNewTokens: 0,
    logitsProcessors: [],
  };
  expect(logitsProcessors('test', off, context)).toEqual([]);
  expect(logitsProcessors('test', { temperature: 0, topK: 3, topP: 0.5, typicalP: 0.5 }, context)).toEqual(
    [],
  );
});

test.each<[SamplingOptions, string]>([
  [{ temperature: -1 }, 'temperature >= 0, got -1'],
  [{ temperature: Number.NaN }, 'temperature >= 0, got NaN'],
  [{ temperature: Number.POSITIVE_INFINITY }, 'temperature >= 0, got Infinity'],
  [{ temperature: 1, topK: 0 }, 'topK to be a positive integer, got 0'],
  [{ temperature: 1, topK: 1.5 }, 'topK to be a positive integer, got 1.5'],
  [{ temperature: 1, topP: 0 }, 'topP in (0, 1], got 0'],
  [{ temperature: 1, topP: 1.01 }, 'topP in (0, 1], got 1.01'],
  [{ temperature: 1, minP: -0.1 }, 'minP in [0, 1], got -0.1'],
  [{ temperature: 1, typicalP: 0 }, 'typicalP in (0, 1], got 0'],
  [{ temperature: 1, typicalP: Number.NaN }, 'typicalP in (0, 1], got NaN'],
  [{ repetitionPenalty: 0 }, 'repetitionPenalty > 0, got 0'],
  [{ repetitionPenalty: Number.POSITIVE_INFINITY }, 'repetitionPenalty > 0, got Infinity'],
  [{ presencePenalty: 2.5 }, 'presencePenalty in [-2, 2], got 2.5'],
  [{ frequencyPenalty: -3 }, 'frequencyPenalty in [-2, 2], got -3'],
  [{ noRepeatNgramSize: 1.5 }, 'noRepeatNgramSize to be a non-negative integer, got 1.5'],
  [{ minNewTokens: -1 }, 'minNewTokens to be a non-negative integer, got -1'],
  [{ minNewTokens: 21 }, 'minNewTokens up to maxNewTokens, which is 20, got 21'],
  [{ logitBias: { 17: 1 } }, 'token ids below 17 in logitBias, got 17'],
  [{ logitBias: { [-1]: 1 } }, 'token ids below 17 in logitBias, got -1'],
  [{ logitBias: { the: 1 } as Record<string, number> }, 'token ids below 17 in logitBias, got the'],
  [{ logitBias: { '01': 1 } as Record<string, number> }, 'token ids below 17 in logitBias, got 01'],
  [{ logitBias: { 3: Number.NaN } }, 'logitBias of token 3 below Infinity, got NaN'],
])('refused: %o', (options, message) => {
  expect(() => logitsProcessors('test', options, context)).toThrow(
    new RangeError(`test: expected ${message}`),
  );
});

describe('in generate', () => {
  const NAME = 'gqa-tied';
  let model: Model;
  let prompt: number[];
  let want: number[];
  beforeAll(async () => {
    model = await loadTiny(NAME, BACKENDS.includes('wasm') ? 'wasm' : 'reference');
    const tiny = await Golden.open(`tiny-llama/${NAME}`);
    prompt = tiny.ids('greedy/prompt');
    want = tiny.ids('greedy/tokens');
  });
  afterAll(() => model.dispose());
  const run = (options: GenerateOptions) =>
    collect(model, prompt, { maxNewTokens: 12, stop: [], ...options });

  test('an end token cannot come before minNewTokens, and a bias can exclude or force tokens', async () => {
    const answer = await run({ stop: [want[0]], minNewTokens: 4 });
    expect(answer.length).toBeGreaterThanOrEqual(4);
    expect(answer.slice(0, 4)).not.toContain(want[0]);
    expect(await run({ stop: [want[0]] })).toEqual([]);
    expect(await run({ logitBias: { [want[0]]: -Infinity } })).not.toContain(want[0]);
    expect(await run({ logitBias: { 8: 1000 } })).toEqual(new Array(12).fill(8));
  });

  test('no n-gram of the prompt or the answer comes twice', async () => {
    const all = [...prompt, ...(await run({ noRepeatNgramSize: 2, maxNewTokens: 60 }))];
    const pairs = all.slice(1).map((id, i) => `${all[i]} ${id}`);
    const repeats = (list: string[]) => list.length - new Set(list).size;
    expect(repeats(pairs)).toBe(0);
    expect(all.length).toBe(prompt.length + 60);
    expect(new Set(await run({ noRepeatNgramSize: 1, maxNewTokens: 40 })).size).toBe(40);
  });

  test("the caller's processors see the prompt and the tokens so far, after the penalties, in order", async () => {
    const seen: number[][] = [];
    let before = 0;
    const answer = await run({
      logitBias: { 8: 1000 },
      logitsProcessors: [
        (logits, tokens) => {
          seen.push([...tokens]);
          before = logits[8];
          logits[8] = -Infinity;
        },
        (logits) => {
          expect(logits[8]).toBe(-Infinity);
          logits[9] = before;
        },
      ],
    });
    expect(before).toBeGreaterThan(900);
    expect(answer).toEqual(new Array(12).fill(9));
    expect(seen).toEqual(answer.map((_, i) => [...prompt, ...answer.slice(0, i)]));
  });

  test.each<[string, LogitsProcessor, Error]>([
    [
      'throws',
      () => {
        throw new Error('no more');
      },
      new Error('no more'),
    ],
    [
      'writes NaN',
      (logits) => {
        logits[3] = Number.NaN;
      },
      new RangeError('generate: expected numbers after logitsProcessors[1], got NaN as the logit of token 3'),
    ],
    [
      'masks every token',
      (logits) => {
        logits.fill(-Infinity);
      },
      new RangeError('sampling: expected a logit above -Infinity among 97, got none'),
    ],
    [
      'is async',
      async () => {},
      new TypeError(
        'generate: expected logitsProcessors[1] to change the logits in place, got a function that returns Promise',
      ),
    ],
    [
      'returns new logits',
      (logits) => logits.map((value) => value / 2),
      new TypeError(
        'generate: expected logitsProcessors[1] to change the logits in place, got a function that returns Float32Array',
      ),
    ],
  ])('one that %s ends the generation, and the cache can be continued', async (_, process, error) => {
    const cache = model.initCache({ batchSize: 1, maxLength: 64 });
    const history = [...prompt];
    const late: LogitsProcessor = (logits, tokens) => {
      if (tokens.length === prompt.length + 3) process(logits, tokens);
    };
    // `late` hides what the function returns but for the last two.
    const direct = error instanceof TypeError ? process : late;
    const options = { maxNewTokens: 12, stop: [], cache, logitsProcessors: [() => {}, direct] };
    await expect(async () => {
      for await (const token of generate(model, prompt, options)) history.push(token);
    }).rejects.toThrow(error);
    expect(history.length).toBe(prompt.length + (direct === late ? 3 : 0));
    const more = await collect(model, history.slice(cache.lengths[0]), { maxNewTokens: 5, stop: [], cache });
    const made = history.length - prompt.length;
    expect([...history.slice(prompt.length), ...more]).toEqual(want.slice(0, made + 5));
    cache.dispose();
  });

  test.each<[Record<string, unknown>, string]>([
    [{ logitBias: [1] }, 'logitBias to be an object of numbers by token id, got an array of 1'],
    [{ logitBias: new Map() }, 'logitBias to be an object of numbers by token id, got Map'],
    [{ logitBias: { 3: '1' } }, 'logitBias to be an object of numbers by token id, got string for 3'],
    [{ logitsProcessors: () => {} }, 'logitsProcessors to be an array of functions, got function'],
    [{ logitsProcessors: [3] }, 'logitsProcessors to be an array of functions, got 3 in it'],
    [{ minNewTokens: '3' }, 'minNewTokens to be a number, got string'],
    [{ repetition_penalty: 1.1 }, 'known options, got repetition_penalty; did you mean repetitionPenalty?'],
  ])('a wrong kind is refused: %o', async (options, message) => {
    await expect(run(options as GenerateOptions)).rejects.toThrow(
      new TypeError(`generate: expected ${message}`),
    );
  });
});
