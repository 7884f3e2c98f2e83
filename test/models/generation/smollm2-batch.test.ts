/** `generateBatch` on SmolLM2 against transformers, left-padded there, and against each prompt alone. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { generateBatch, loadModel, type Model } from '../../../src/models/index.ts';
import { BACKENDS, collect, expectClose, GOLDEN, SMOLLM2 } from '../golden.ts';

const golden = JSON.parse(readFileSync(join(GOLDEN, 'generation/smollm2.json'), 'utf8')) as {
  readonly maxNewTokens: number;
  readonly greedy: {
    readonly prompts: readonly number[][];
    readonly margins: readonly number[];
    readonly tokens: readonly number[][];
    readonly logprobs: readonly number[][];
  };
  readonly beams: {
    readonly prompts: readonly number[][];
    readonly stop: readonly number[];
    readonly numBeams: number;
    readonly n: number;
    readonly results: readonly { tokens: number[]; finishReason: string; score: number }[][];
  };
};
const { greedy, beams, maxNewTokens } = golden;
/** Logits differ from transformers' by rounding, over 30 layers. */
const TOLERANCE = 2e-3;
/** One backend: the tiny models run on all of them. */
const FAST = BACKENDS.filter((name) => name !== 'reference').slice(0, 1);

describe.skipIf(!SMOLLM2 || FAST.length === 0).each(FAST)('SmolLM2 on %s', (backend) => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(SMOLLM2!, { backend });
  });
  afterAll(() => model?.dispose());

  test('16 ragged prompts give the tokens of each alone, and of transformers', async () => {
    const options = { maxNewTokens, stop: [] };
    const results = await generateBatch(model, greedy.prompts, { ...options, logprobs: true });
    let compared = 0;
    for (const [i, [{ tokens, logprobs }]] of results.entries()) {
      expect(tokens).toEqual(await collect(model, greedy.prompts[i], options));
      if (greedy.margins[i] < 10 * TOLERANCE) continue;
      compared++;
      expect(tokens).toEqual(greedy.tokens[i]);
      expectClose(logprobs!, greedy.logprobs[i], TOLERANCE);
    }
    expect(compared).toBeGreaterThan(5);
  });

  test('prompt lookup gives the same tokens', async () => {
    const options = { maxNewTokens, stop: [] };
    const want = await generateBatch(model, greedy.prompts, options);
    expect(await generateBatch(model, greedy.prompts, { ...options, promptLookup: 4 })).toEqual(want);
  });

  test('beams', async () => {
    const { prompts, results, ...options } = beams;
    const got = await generateBatch(model, prompts, { ...options, maxNewTokens });
    got.flat().forEach(({ tokens, score, finishReason }, i) => {
      const want = results.flat()[i];
      expect({ tokens, finishReason }).toEqual({ tokens: want.tokens, finishReason: want.finishReason });
      expectClose([score!], [want.score], TOLERANCE);
    });
  });
});
