/** Numbers of key/value heads, tried in memory: their losses are those of the conversion, and the choice. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import {
  type ChooseKeyValueHeadsOptions,
  chooseKeyValueHeads,
  convertCheckpoint,
  measureDrift,
} from '../../src/convert/index.ts';
import { freshPath, multiHead, removeFolders } from './folders.ts';

afterAll(removeFolders);

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const DEMO = join(ROOT, 'demo/model');
const TEXT = readFileSync(join(ROOT, 'demo/moby-dick.txt'), 'utf8').slice(0, 2_400);
const [calibration, text] = [TEXT.slice(0, 1_200), TEXT.slice(1_200)];
const base = { from: DEMO, calibration, text };

test('losses are those of the written checkpoints, and the target decides', async () => {
  const seen: string[] = [];
  const { trials, numKeyValueHeads } = await chooseKeyValueHeads({
    ...base,
    target: 1e9,
    onProgress: (done, total, activity) => seen.push(`${done}/${total} ${activity}`),
  });
  expect(numKeyValueHeads).toBe(1);
  expect(trials.map((trial) => trial.numKeyValueHeads)).toEqual([1, 2, 3, 6]);
  // 4 layers, heads of 32 numbers of 2 bytes, for keys and values
  expect(trials.map((trial) => trial.keyValueBytes)).toEqual([512, 1024, 1536, 3072]);
  expect(trials[3].above).toBe(0);
  expect([seen[0], seen.at(-1), seen.length]).toEqual(['1/28 trying K=1', '28/28 trying K=6', 28]);
  for (const { numKeyValueHeads, loss, above } of trials.slice(0, 2)) {
    const to = freshPath('out');
    const result = await convertCheckpoint({ from: DEMO, to, numKeyValueHeads, calibration, dtype: 'f32' });
    const { before, after } = await measureDrift({ from: DEMO, to, result, text });
    expect(loss).toBeCloseTo(after.loss, 4);
    expect(above).toBeCloseTo(after.loss - before.loss, 4);
  }
  const between = (trials[1].above + trials[2].above) / 2;
  const [fewest, none] = [
    await chooseKeyValueHeads({ ...base, target: between }),
    await chooseKeyValueHeads({ ...base, target: 1e-9 }),
  ];
  expect(fewest.numKeyValueHeads).toBe(trials.find(({ above }) => above <= between)?.numKeyValueHeads);
  expect(none.numKeyValueHeads).toBe(6);
}, 300_000);

test('bytes decide: the most heads that fit', async () => {
  const chosen = await chooseKeyValueHeads({ ...base, keyValueBytes: 1535 });
  expect(chosen.numKeyValueHeads).toBe(2);
}, 120_000);

test.each([
  ['no limit', {}, 'expected either target or keyValueBytes, got none'],
  ['both limits', { target: 1, keyValueBytes: 1 }, 'expected either target or keyValueBytes, got both'],
  ['no target', { target: 0 }, 'expected target above 0 nats, got 0'],
  ['a target that is no number', { target: Number.NaN }, 'expected target above 0 nats, got NaN'],
  [
    'too few bytes',
    { keyValueBytes: 511 },
    "expected keyValueBytes from 512, those of one head, to below 3072, those of the model's K=6, got 511",
  ],
  ['bytes of all heads', { keyValueBytes: 3072 }, "to below 3072, those of the model's K=6, got 3072"],
  ['a text of one token', { target: 1, text: 'a' }, 'expected text of at least 2 tokens, got 1'],
  ['no calibration', { target: 1, calibration: '' }, 'expected calibration of at least 2 tokens, got 0'],
  ['no tokenizer', { target: 1, from: multiHead('llama') }, 'expected a tokenizer for the text, got none'],
] as [string, Partial<ChooseKeyValueHeadsOptions>, string][])('%s', async (_, options, message) => {
  let trials = 0;
  const run = chooseKeyValueHeads({ ...base, ...options, onProgress: () => trials++ });
  await expect(run).rejects.toThrow(message);
  expect(trials).toBe(0);
});
