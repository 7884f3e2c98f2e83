/** `generateBatch`: every result is what `generate` gives alone, and what transformers gives. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { BackendName } from '../../../src/backend/backend.ts';
import {
  type GenerateBatchOptions,
  generateBatch,
  loadModel,
  type Model,
} from '../../../src/models/index.ts';
import { removeCheckpoints } from '../checkpoints.ts';
import { BACKENDS, collect, expectClose, GOLDEN } from '../golden.ts';

interface BeamCase {
  readonly prompts: readonly number[][];
  readonly stop: readonly number[];
  readonly numBeams: number;
  readonly n: number;
  readonly lengthPenalty: number;
  readonly earlyStopping: boolean;
  readonly results: readonly { tokens: number[]; finishReason: string; score: number }[][];
}

interface GreedyCase {
  readonly prompts: readonly number[][];
  readonly tokens: readonly number[][];
  readonly logprobs: readonly number[][];
  readonly topIds: readonly number[][][];
  readonly topLogprobs: readonly number[][][];
}

const golden = JSON.parse(readFileSync(join(GOLDEN, 'generation/batched.json'), 'utf8')) as {
  readonly maxNewTokens: number;
  readonly models: Readonly<Record<string, { greedy: GreedyCase; beams: readonly BeamCase[] }>>;
};
const { maxNewTokens } = golden;
const load = (name: string, backend: BackendName) => loadModel(join(GOLDEN, name), { backend });

describe.each(BACKENDS)('transformers on %s', (backend) => {
  describe.each(Object.entries(golden.models))('%s', (name, { greedy, beams }) => {
    let model: Model;
    beforeAll(async () => {
      model = await load(name, backend);
    });
    afterAll(() => model.dispose());

    test('greedy tokens, their log probabilities and the likeliest tokens', async () => {
      const options = { maxNewTokens, stop: [], logprobs: true, topLogprobs: 5 };
      const results = await generateBatch(model, greedy.prompts, options);
      results.forEach(([result, ...more], i) => {
        expect(more).toEqual([]);
        expect(result).toMatchObject({ tokens: greedy.tokens[i], finishReason: 'length' });
        expectClose(result.logprobs!, greedy.logprobs[i], 1e-4);
        const top = result.topLogprobs!;
        expectClose(
          top.flat().map(({ logprob }) => logprob),
          greedy.topLogprobs[i].flat(),
          1e-4,
        );
        expect(top.map(([first]) => first.token)).toEqual(greedy.topIds[i].map(([first]) => first));
      });
    });

    test.each(beams)('$numBeams beams, penalty $lengthPenalty, early $earlyStopping', async (beam) => {
      const { prompts, results, ...options } = beam;
      const got = await generateBatch(model, prompts, { ...options, maxNewTokens, logprobs: true });
      expect(got.map((row) => row.map(({ tokens }) => tokens))).toEqual(
        results.map((row) => row.map(({ tokens }) => tokens)),
      );
      got.flat().forEach(({ score, finishReason, logprobs, tokens }, i) => {
        const want = results.flat()[i];
        expect(finishReason).toBe(want.finishReason);
        expectClose([score!], [want.score], 1e-5);
        expect(logprobs).toHaveLength(tokens.length);
        if (finishReason === 'stop') return;
        const sum = logprobs!.reduce((total, value) => total + value, 0);
        expectClose([sum / tokens.length ** options.lengthPenalty], [want.score], 1e-4);
      });
    });
  });
});

const backend = BACKENDS.includes('wasm') ? 'wasm' : 'reference';
afterAll(removeCheckpoints);

/** More than one pass has rows for, of every length around a chunk of keys, and two equal ones. */
const ragged = (vocab: number, count = 20) =>
  Array.from({ length: count }, (_, i) =>
    Array.from({ length: 1 + ((i * 7) % 41) }, (_, t) => (i * 31 + t * 17 + ((t * t) % 11)) % vocab),
  );

/** Of each kind: plain, with windows, with LongRoPE, latent rows, experts. */
describe.each([
  ['tiny-llama/gqa-tied'],
  ['tiny-mistral/window'],
  ['tiny-phi3/longrope'],
  ['tiny-deepseek/v2-lite'],
  ['tiny-gpt_oss/plain'],
])('%s', (name) => {
  let model: Model;
  beforeAll(async () => {
    model = await load(name, backend);
  });
  afterAll(() => model.dispose());
  const alone = async (prompts: readonly number[][], options: GenerateBatchOptions) => {
    const answers: number[][] = [];
    for (const prompt of prompts) answers.push(await collect(model, prompt, options));
    return answers;
  };
  const batch = async (prompts: readonly number[][], options: GenerateBatchOptions) =>
    (await generateBatch(model, prompts, options)).map((row) => row.map(({ tokens }) => tokens));

  test('ragged prompts give what each gives alone, greedy and drawn', async () => {
    const prompts = ragged(model.config.vocabSize);
    for (const options of [{}, { temperature: 1.3, topK: 20, seed: 5 }, { repetitionPenalty: 1.5 }]) {
      const common = { maxNewTokens: 12, stop: [7, 11], ...options };
      expect((await batch(prompts, common)).map(([first]) => first)).toEqual(await alone(prompts, common));
    }
  });

  test('result j of a prompt is that of the seed seed + j alone', async () => {
    const prompts = ragged(model.config.vocabSize, 8).slice(3);
    const common = { maxNewTokens: 10, stop: [7], temperature: 1.2 };
    const got = await batch(prompts, { ...common, n: 3, seed: 40 });
    for (const j of [0, 1, 2]) {
      expect(got.map((row) => row[j])).toEqual(await alone(prompts, { ...common, seed: 40 + j }));
    }
  });
});
