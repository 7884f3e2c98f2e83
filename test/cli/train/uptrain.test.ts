/**
 * `gqa uptrain` as a process: train, convert, uptrain; stopped, killed and resumed bit for bit; refused
 * input.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runs } from '../../runs.ts';
import { cliFile, runCli } from '../run-cli.ts';
import { withTinyCheckpoint } from '../tiny-checkpoint.ts';

const KILLS = runs(2, 20);

let folder: string;
const at = (...path: string[]) => join(folder, ...path);
const text = () => at('text.txt');

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'gqa-uptrain-'));
  const words = ['whale', 'sea', 'ship', 'captain', 'and', 'the', 'of', 'white'];
  writeFileSync(text(), Array.from({ length: 3000 }, (_, i) => words[(i * i + 3 * i) % 8]).join(' '));
  const sizes = ['--layers', '2', '--dim', '32', '--heads', '4', '--block', '16', '--batch', '4'];
  const times = ['--steps', '200', '--learning-rate', '0.005', '--eval-every', '200', '--eval-batches', '4'];
  const trained = await runCli(['train', '--data', text(), '--out', at('base'), ...sizes, ...times]);
  expect(trained.code).toBe(0);
  const converted = await runCli(['convert', at('base', 'step-200'), at('mqa'), '--kv-heads', '1']);
  expect(converted.code).toBe(0);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function command(out: string, ...more: string[]): string[] {
  const often = ['--eval-every', '10', '--save-every', '2', '--threads', '1'];
  return ['uptrain', at('mqa'), '--data', text(), '--out', at(out), '--alpha', '0.2', ...often, ...more];
}

const read = (...path: string[]) => readFileSync(at(...path));

test('8-bit activations are refused before the checkpoint is read', async () => {
  const more = ['--data', text(), '--out', at('eight'), '--matmul-precision', 'int8'];
  const { code, stderr } = await runCli(['uptrain', at('nothing'), ...more]);
  expect([code, existsSync(at('eight'))]).toEqual([1, false]);
  expect(stderr).toBe(
    'gqa: uptrain: expected matmul precision highest or bfloat16 for gradients, got int8\n',
  );
});

test('continues the recipe and wins loss back; the checkpoint generates', async () => {
  const { code, stdout, stderr } = await runCli(command('whole', '--json'));
  expect(code).toBe(0);
  expect(stderr).toContain('40 steps of 4 x 16 tokens, 4 steps of warm-up, learning rate 0.005 to 0.0005');
  const [start, end] = [0, 40].map((step) =>
    Number(new RegExp(`step ${step}: train [\\d.]+, validation ([\\d.]+)`).exec(stderr)?.[1]),
  );
  expect(end).toBeLessThan(start - 0.05);
  const result = JSON.parse(stdout);
  expect(result).toMatchObject({ finished: true, step: 40, checkpoint: at('whole', 'step-40') });
  expect(result.validationLoss).toBeCloseTo(end, 3);
  expect(readdirSync(at('whole')).sort()).toEqual([
    ...['latest', 'metrics.jsonl', 'report.html', 'step-38', 'step-40'],
  ]);
  const recipe = JSON.parse(read('whole', 'step-40', 'gqa-train.json').toString());
  expect(recipe).toMatchObject({ training: { step: 200 }, uptraining: [{ step: 40 }] });
  const generated = await runCli([
    ...['generate', at('whole', 'step-40'), '--prompt', 'the wh', '--max-tokens', '5'],
  ]);
  expect([generated.code, generated.stdout.trim().length > 0]).toEqual([0, true]);
});

test(`stopped by Ctrl-C once and killed ${KILLS} times, it ends bit for bit as the run that was not`, async () => {
  const out = at('killed');
  const start = (...more: string[]) => {
    const child = spawn(process.execPath, [cliFile, ...command('killed', ...more)]);
    return { child, closed: new Promise((resolve) => child.on('close', resolve)) };
  };
  const first = start();
  for (let i = 0; i < 1000 && !existsSync(join(out, 'latest')); i++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  first.child.kill('SIGINT');
  expect([0, 130]).toContain(await first.closed);
  for (let kill = 0; kill < KILLS; kill++) {
    const { child, closed } = start('--resume');
    await new Promise((resolve) => setTimeout(resolve, 150 + Math.random() * 500));
    child.kill('SIGKILL');
    await closed;
  }
  const last = await runCli(command('killed', '--resume'));
  expect([last.code, last.stderr]).toEqual([0, expect.stringContaining('done at step 40')]);
  const files = ['model.safetensors', 'optimizer.safetensors', 'trainer.json', 'gqa-train.json'];
  for (const file of files) {
    expect(read('killed', 'step-40', file).equals(read('whole', 'step-40', file)), file).toBe(true);
  }
  expect(read('killed', 'metrics.jsonl').equals(read('whole', 'metrics.jsonl'))).toBe(true);
});

test('--resume takes the settings that are not given from the run', async () => {
  const args = ['uptrain', at('mqa'), '--data', text(), '--out', at('whole'), '--resume'];
  const { code, stderr } = await runCli(args);
  expect([code, stderr]).toEqual([0, expect.stringContaining('done at step 40')]);
  const other = await runCli([...args, '--alpha', '0.1']);
  expect([other.code, other.stderr]).toEqual([2, expect.stringContaining('whose steps is 40, got 20')]);
});

test('a teacher is read once, and named by a resumed run', async () => {
  const more = ['--teacher', at('base', 'step-200'), '--kd-ratio', '0.8', '--teacher-top-k', '4'];
  const { code, stderr } = await runCli(command('taught', ...more));
  expect([code, stderr]).toEqual([0, expect.stringContaining(`computing the predictions of ${more[1]}`)]);
  expect(stderr).toContain('done at step 40');
  expect(existsSync(at('taught', 'teacher'))).toBe(false);
  const args = ['uptrain', at('mqa'), '--data', text(), '--out', at('taught'), '--resume'];
  expect((await runCli(args)).code).toBe(0);
  const other = await runCli([...args, '--kd-ratio', '0.5']);
  expect([other.code, other.stderr]).toEqual([
    2,
    expect.stringContaining('whose --kd-ratio is 0.8, got 0.5'),
  ]);
});

test('wrong usage is one line, and leaves nothing', async () => {
  const cases: [string[], number, RegExp][] = [
    [['--steps', '3'], 2, /expected --alpha or --steps, got both/],
    [['--alpha', '0'], 2, /--alpha must be above 0/],
    [['--alpha', 'all'], 2, /--alpha/],
    [['--kd-ratio', '0.5'], 2, /expected a teacher with --kd-ratio/],
    [['--block', '17'], 1, /within the model's context of 16 tokens, got 17/],
    [['--data', at('none')], 1, /got nothing of that name/],
  ];
  for (const [more, code, message] of cases) {
    const result = await runCli(command('never', ...more));
    expect([result.code, result.stderr]).toEqual([code, expect.stringMatching(message)]);
    expect(result.stderr.trim().split('\n')).toHaveLength(1);
    expect(existsSync(at('never'))).toBe(false);
  }
  const twice = await runCli(command('whole'));
  expect([twice.code, twice.stderr]).toEqual([2, expect.stringMatching(/is not empty: --resume continues/)]);
});

test('a checkpoint from elsewhere needs --steps, and a tokenizer', () =>
  withTinyCheckpoint({}, async (checkpoint) => {
    const args = ['uptrain', checkpoint, '--data', text(), '--out', at('elsewhere')];
    const unknown = await runCli([...args, '--alpha', '0.05']);
    expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringMatching(/expected --steps/)]);
    const run = [...args, '--steps', '3', '--block', '16', '--eval-batches', '1', '--json'];
    const { code, stdout } = await runCli(run);
    expect([code, JSON.parse(stdout).step]).toEqual([0, 3]);
    rmSync(join(checkpoint, 'tokenizer.json'));
    const silent = await runCli([...args.with(-1, at('silent')), '--steps', '3']);
    expect([silent.code, silent.stderr]).toEqual([1, expect.stringMatching(/with a tokenizer/)]);
    expect(existsSync(at('silent'))).toBe(false);
  }));
