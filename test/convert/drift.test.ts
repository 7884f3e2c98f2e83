/** The drift report: no drift without a change, the meaning of each figure, and the page. */
import { afterAll, describe, expect, test } from 'vitest';
import { driftPage } from '../../src/convert/drift-page.ts';
import {
  type ConvertMethod,
  convertCheckpoint,
  type DriftReport,
  measureDrift,
} from '../../src/convert/index.ts';
import { LogitDrift } from '../../src/convert/logit-drift.ts';
import { copyTiny, removeCheckpoints, tokenizerJson } from '../models/checkpoints.ts';
import { freshPath, multiHead, removeFolders } from './folders.ts';

afterAll(() => {
  removeFolders();
  removeCheckpoints();
});

const letters = Array.from(
  { length: 37 },
  (_, i) => String.fromCharCode(97 + (i % 26)) + (i < 26 ? '' : String(i)),
);
const text = 'thequickbrownfoxjumpsoverthelazydogandsoon'.repeat(6);

async function drift(
  family: string,
  K: number,
  method: ConvertMethod,
  calibration?: string,
): Promise<DriftReport> {
  const from = copyTiny(`convert/${family}`, {}, { 'tokenizer.json': tokenizerJson(letters) });
  const to = freshPath('out');
  const result = await convertCheckpoint({ from, to, numKeyValueHeads: K, method, calibration });
  return measureDrift({ from, to, result, text, window: 24, windows: 4 });
}

test('the same heads do not drift', async () => {
  const report = await drift('llama', 6, 'mean');
  expect(report.after).toEqual(report.before);
  expect(report).toMatchObject({ topOneAgreement: 1, predicted: 92 });
  expect(report.kl).toBeLessThan(1e-9);
  for (const { key, value, attentionOutput } of report.layers)
    expect([key, value, attentionOutput]).toEqual([0, 0, 0]);
});

describe.each(['llama', 'qwen3', 'phi3'])('%s', (family) => {
  test('fewer heads drift more, in every layer, and heads are like themselves', async () => {
    const [three, one] = [await drift(family, 3, 'mean'), await drift(family, 1, 'mean')];
    expect(one.kl).toBeGreaterThan(0.01);
    three.layers.forEach((layer, i) => {
      expect(layer.value).toBeGreaterThan(0.1);
      expect(one.layers[i].value).toBeGreaterThan(layer.value);
      expect(one.layers[i].key).toBeGreaterThan(layer.key);
      expect(layer.groups).toEqual([
        [0, 1],
        [2, 3],
        [4, 5],
      ]);
      for (const [j, row] of layer.similarity.entries()) expect(row[j]).toBeCloseTo(1, 6);
    });
  });

  test('aligned values are closer than mean ones', async () => {
    const [mean, similar] = [await drift(family, 1, 'mean'), await drift(family, 1, 'similar', text)];
    for (const [i, layer] of mean.layers.entries()) expect(similar.layers[i].value).toBeLessThan(layer.value);
    expect(similar.kl).toBeLessThan(mean.kl);
  });
});

test('logits: loss, KL and agreement by hand', () => {
  const drifted = new LogitDrift();
  const p = Float32Array.from([0.5, 0.5, 0.25, 0.75], Math.log);
  const q = Float32Array.from([0.25, 0.75, 0.5, 0.5], Math.log);
  drifted.add(p, q, [0, 1]);
  const { predicted, before, after, kl, topOneAgreement } = drifted.result();
  expect(predicted).toBe(1);
  expect(before.loss).toBeCloseTo(Math.log(2), 6);
  expect(after.loss).toBeCloseTo(-Math.log(0.75), 6);
  const first = 0.5 * Math.log(2) + 0.5 * Math.log(2 / 3);
  const second = 0.25 * Math.log(0.5) + 0.75 * Math.log(1.5);
  expect(kl).toBeCloseTo((first + second) / 2, 6);
  expect(topOneAgreement).toBe(0);
});

test('the page is one file without scripts, links or requests', async () => {
  const page = driftPage('a <b> to c', await drift('llama', 2, 'mean'));
  expect(page).toContain('<h1>a &#60;b&#62; to c</h1>');
  expect(page).not.toMatch(/<script|<link|<img|https?:|@import|url\(/);
  expect(page.match(/<figure>/g)).toHaveLength(2);
  // A bar for each of the two layers, drawn for a page with room and for a narrow one.
  expect(page.match(/<rect [^>]*fill="var\(--red\)"/g)).toHaveLength(4);
});

test('a checkpoint without a tokenizer is named', async () => {
  const to = freshPath('out');
  const result = await convertCheckpoint({ from: multiHead('llama'), to, numKeyValueHeads: 2 });
  await expect(measureDrift({ from: multiHead('llama'), to, result: {} as never, text })).rejects.toThrow(
    'measureDrift: expected result to be what convertCheckpoint returned, got Object',
  );
  await expect(measureDrift({ from: multiHead('llama'), to, result, text })).rejects.toThrow(
    'expected a tokenizer to measure drift on a text, got none',
  );
});
