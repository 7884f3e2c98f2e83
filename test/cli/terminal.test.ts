/**
 * Output in terminals of 60, 80 and 200 columns: progress bars that leave nothing behind, tables that do not
 * break words.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { noTerminal, runInTerminal } from './terminal.ts';

const WIDTHS = [60, 80, 200];

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'gqa-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const train = (out: string, steps: number) => [
  ...[
    'train',
    '--data',
    'demo/moby-dick.txt',
    '--out',
    out,
    '--layers',
    '1',
    '--heads',
    '2',
    '--kv-heads',
    '1',
  ],
  ...['--block', '32', '--steps', `${steps}`, '--eval-every', '20', '--eval-batches', '2'],
];
/** Paragraphs: lines that a note was broken into are one again. */
const joined = (lines: readonly string[]) => lines.join(' ').replace(/ +/g, ' ');

describe.skipIf(noTerminal !== undefined).each(WIDTHS)('in %i columns', (columns) => {
  test('training: every loss on its line, sample and end below them, no bar left', async () => {
    const out = join(folder, `whole-${columns}`);
    let sawBar = false;
    const { code, lines } = await runInTerminal(train(out, 60), columns, (shown) => {
      sawBar ||= shown.includes('█') && shown.includes('tokens/s');
      return undefined;
    });
    expect([code, sawBar]).toEqual([0, true]);
    const losses = lines.filter((line) => /^step \d+: train \d\.\d{4}, validation \d\.\d{4}$/.test(line));
    expect(losses.length).toBe(4);
    expect(lines.some((line) => /[█░]/.test(line))).toBe(false);
    const after = lines.slice(lines.indexOf(losses[3]) + 1);
    expect(after[0]).toMatch(/^sample: "/);
    expect(joined(after)).toMatch(
      new RegExp(`done at step 60 after \\d+ s; checkpoint ${out}/step-60, curves`),
    );
  });

  test('Ctrl-C: the last lines say where the checkpoint is', async () => {
    const out = join(folder, `stopped-${columns}`);
    let pressed = false;
    const { code, lines } = await runInTerminal(train(out, 100_000), columns, (shown) => {
      if (pressed || !/step 20: .*[\s\S]*[█░]/.test(shown)) return undefined;
      pressed = true;
      return '\u0003';
    });
    expect(code).toBe(130);
    expect(lines.some((line) => /[█░]|\^C/.test(line))).toBe(false);
    const [end] = /stopped at step \d+ after.*$/.exec(joined(lines)) ?? [''];
    expect(end).toMatch(
      new RegExp(`^stopped at step (\\d+) after \\d+ s; checkpoint ${out}/step-\\1, curves \\S+$`),
    );
    for (const step of [0, 20])
      expect(lines.some((line) => line.startsWith(`step ${step}: train`))).toBe(true);
  });

  test.each([
    [
      ['plan', 'llama-3-8b', '--memory', '24GiB'],
      ['4,294,967,296', '1,073,741,824 bytes', '288.0 MiB', '196,608 tokens,'],
    ],
    [
      ['plan', '--list'],
      ['nanogpt-shakespeare-char', '1,024', '36.0 KiB'],
    ],
    [
      ['inspect', 'demo/model', '--tensors'],
      ['model.layers.0.post_attention_layernorm.weight', '[192, 192]', '73,728'],
    ],
  ])('%j', async (args, cells) => {
    const { code, lines } = await runInTerminal(args, columns);
    expect(code).toBe(0);
    // A cell that the terminal broke would not stand on a line of its own.
    for (const cell of cells) expect(lines.some((line) => line.includes(cell))).toBe(true);
    // Nothing reached the last column, where terminals break lines.
    for (const line of lines) expect(line.length).toBeLessThan(columns);
  });
});
