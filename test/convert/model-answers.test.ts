/** What models are asked, how their answers are scored, and the same figures in the drift report. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { convertCheckpoint, measureDrift } from '../../src/convert/index.ts';
import { type Answers, answer, compareAnswers, questionsFrom } from '../../src/convert/model-answers.ts';
import { setBackend } from '../../src/index.ts';
import { generate } from '../../src/models/index.ts';
import { characterTokenizer } from '../../src/text/character-tokenizer.ts';
import { createModel, llamaConfig, splitTokens, Trainer } from '../../src/train/index.ts';
import { copyTiny, removeCheckpoints, tokenizerJson } from '../models/checkpoints.ts';
import { freshPath, removeFolders } from './folders.ts';

beforeAll(() => setBackend('native').catch(() => setBackend('wasm')));
afterAll(() => {
  removeFolders();
  removeCheckpoints();
});

const prose =
  'Once there was a cat who sat on the old brown table. The dog, who was tired of it all, went to the river! ' +
  'It is. Was it you who put the small black kettle on the fire? No, he said to me on that very day.';
const tokenizer = characterTokenizer(prose);

test('questions are the last words of long sentences, with the text before them', () => {
  const { cloze } = questionsFrom(tokenizer, [prose]);
  const found = cloze.map(({ tokens, wordLength }) => [
    tokenizer.decode(tokens.slice(0, -wordLength)),
    tokenizer.decode(tokens.slice(-wordLength)),
  ]);
  expect(found.map(([, word]) => word)).toEqual([' table', ' river', ' fire']); // "day" is short
  for (const [context, word] of found) expect(prose).toContain(`${context}${word}`);
  expect(found[0][0]).toBe('Once there was a cat who sat on the old brown');
});

test('prompts come from every text, at most 64, each with 32 tokens in a row', () => {
  const texts = [prose.repeat(20), prose.toUpperCase().toLowerCase().repeat(3)];
  const own = characterTokenizer(texts.join(''));
  const { prompts } = questionsFrom(own, texts);
  expect(prompts.length).toBe(32 + Math.floor(texts[1].length / 32));
  for (const [i, prompt] of prompts.entries()) {
    expect(prompt.length).toBe(32);
    expect(texts[i < 32 ? 0 : 1]).toContain(own.decode(prompt));
  }
  expect(new Set(prompts.map(String)).size).toBeGreaterThan(32);
});

test('scores by hand', () => {
  const before: Answers = {
    continuations: [
      [1, 2, 3, 4, 5, 6],
      [7, 7, 7, 7, 7, 7],
    ],
    cloze: [true, true, false, true],
  };
  const after: Answers = {
    continuations: [
      [1, 2, 9, 4, 5, 6],
      [7, 7, 7, 7, 7, 7],
    ],
    cloze: [true, false, false, false],
  };
  expect(compareAnswers(before, after)).toEqual({
    // The three 4-grams of the second continuation are one.
    generation: { prompts: 2, agreement: (2 + 6) / 2, repetition: { before: 1 - 2 / 3, after: 1 - 2 / 3 } },
    cloze: { questions: 4, accuracy: { before: 0.75, after: 0.25 } },
  });
});

test('answers are those of greedy generation', async () => {
  const tokens = Int32Array.from(tokenizer.encode(prose.repeat(8)));
  const sizes = { vocabSize: tokenizer.vocabSize, hiddenSize: 32, numLayers: 1, numHeads: 2 };
  const model = createModel(llamaConfig({ ...sizes, maxPositionEmbeddings: 512 }), { seed: 1 });
  const settings = { steps: 100, batchSize: 8, blockLength: 48, learningRate: 1e-2 };
  const trainer = new Trainer(model, splitTokens(tokens, 48, 0.2), settings);
  while (trainer.step < 60) trainer.advance();
  const questions = questionsFrom(tokenizer, [prose]);
  let done = 0;
  const answers = await answer(model, questions, () => void done++);
  const greedy = async (prompt: readonly number[], maxNewTokens: number) => {
    const made: number[] = [];
    for await (const token of generate(model, prompt, { maxNewTokens, stop: [] })) made.push(token);
    return made;
  };
  for (const [i, prompt] of questions.prompts.entries()) {
    expect(answers.continuations[i]).toEqual(await greedy(prompt, 32));
  }
  for (const [i, { tokens: row, wordLength }] of questions.cloze.entries()) {
    const word = await greedy(row.slice(0, -wordLength), wordLength);
    expect(answers.cloze[i], `question ${i}`).toBe(String(word) === String(row.slice(-wordLength)));
  }
  expect(done).toBe(questions.prompts.length + questions.cloze.length);
  model.dispose();
});

const letters = Array.from(
  { length: 37 },
  (_, i) => String.fromCharCode(97 + (i % 26)) + (i < 26 ? '' : String(i)),
);

test('the drift report has each text, and what is written: the same heads write the same', async () => {
  const [a, b] = ['thequickbrownfox', 'jumpsoverthelazydog'].map((words) => words.repeat(10));
  const from = copyTiny('convert/llama', {}, { 'tokenizer.json': tokenizerJson(letters) });
  const reports = [];
  for (const numKeyValueHeads of [6, 1]) {
    const to = freshPath('out');
    const result = await convertCheckpoint({ from, to, numKeyValueHeads });
    const progress: [number, number][] = [];
    const onProgress = (done: number, total: number) => void progress.push([done, total]);
    const options = { from, to, result, texts: { a, b }, window: 24, windows: 3, onProgress };
    reports.push(await measureDrift(options));
    expect(progress.at(-1)?.[0]).toBe(progress.at(-1)?.[1]);
  }
  const [same, one] = reports;
  expect(Object.keys(one.texts)).toEqual(['a', 'b']);
  for (const text of Object.values(same.texts)) expect(text.after).toEqual(text.before);
  expect(same.answers?.generation.agreement).toBe(32);
  expect(same.answers?.cloze.questions).toBe(0);
  expect(one.answers?.generation.agreement).toBeLessThan(32);
  // The whole is the mean of the parts, by their tokens.
  const parts = Object.values(one.texts);
  const weighted = parts.reduce((sum, { after, predicted }) => sum + after.loss * predicted, 0);
  expect(one.after.loss).toBeCloseTo(weighted / one.predicted, 9);
  for (const { kl } of parts) expect(kl).toBeGreaterThan(0.001);
  const alone = await measureDrift({
    ...{ from, to: from, window: 24, windows: 3, text: a },
    result: await convertCheckpoint({ from, to: freshPath('out'), numKeyValueHeads: 6 }),
  });
  expect([alone.texts, alone.answers]).toEqual([{}, undefined]);
  expect(alone.text?.before).toEqual(alone.before);
  expect(alone.before.loss).toBeCloseTo(one.texts.a.before.loss, 9);
});

test('a report without a text is refused', async () => {
  const from = copyTiny('convert/llama', {}, { 'tokenizer.json': tokenizerJson(letters) });
  const result = await convertCheckpoint({ from, to: freshPath('out'), numKeyValueHeads: 6 });
  await expect(measureDrift({ from, to: from, result })).rejects.toThrow(
    'measureDrift: expected a text, or texts by name, got neither',
  );
  await expect(measureDrift({ from, to: from, result, texts: { a: 1 as never } })).rejects.toThrow(
    'measureDrift: expected texts.a to be a string, got 1',
  );
});
