/**
 * `gqa train` and `gqa eval` as processes: their files, how they stop, and that a resumed run has the same
 * bits.
 */
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runs } from '../../runs.ts';
import { cliFile, runCli } from '../run-cli.ts';

/** Runs killed at random moments, three times each. */
const KILLS = runs(2, 20);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'gqa-train-'));
  const words = ['whale', 'sea', 'ship', 'captain', 'and', 'the', 'of', 'white'];
  const text = Array.from({ length: 3000 }, (_, i) => words[(i * i + 3 * i) % 8]).join(' ');
  writeFileSync(join(folder, 'text.txt'), text);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function command(out: string, ...more: string[]): string[] {
  const sizes = [
    '--layers',
    '2',
    '--dim',
    '32',
    '--heads',
    '4',
    '--kv-heads',
    '2',
    '--block',
    '16',
    '--batch',
    '4',
  ];
  const recipe = ['--dropout', '0.1'];
  const times = ['--steps', '60', '--eval-every', '20', '--eval-batches', '2', '--save-every', '5'];
  const where = ['--data', join(folder, 'text.txt'), '--out', join(folder, out)];
  return ['train', ...where, ...sizes, ...recipe, ...times, '--threads', '1', ...more];
}

function read(out: string, ...path: string[]): Buffer {
  return readFileSync(join(folder, out, ...path));
}

describe('gqa train', () => {
  test('writes checkpoints, metrics and a page; the result is JSON', async () => {
    const { code, stdout, stderr } = await runCli(command('whole', '--json'));
    expect([code, stderr.includes('step 60: train')]).toEqual([0, true]);
    const result = JSON.parse(stdout);
    expect(result).toMatchObject({ finished: true, step: 60 });
    expect(result.validationLoss).toBeLessThan(2.7);
    expect(readdirSync(join(folder, 'whole')).sort()).toEqual([
      'latest',
      'metrics.jsonl',
      'report.html',
      'step-55',
      'step-60',
    ]);
    expect(read('whole', 'latest').toString()).toBe('step-60\n');
    const lines = read('whole', 'metrics.jsonl')
      .toString()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.filter((line) => line.loss !== undefined).map((line) => line.step)).toEqual(
      Array.from({ length: 60 }, (_, i) => i + 1),
    );
    const recipe = JSON.parse(read('whole', 'step-60', 'gqa-train.json').toString());
    expect(recipe.training.settings.dropout).toBe(0.1);
    const page = read('whole', 'report.html').toString();
    expect(page).toContain('<polyline');
    expect(page).not.toMatch(/https?:|<script/);
  });

  test('heads alone make a model: 32 dims for each', async () => {
    const where = ['--data', join(folder, 'text.txt'), '--out', join(folder, 'six')];
    const { code } = await runCli(['train', ...where, '--heads', '6', '--kv-heads', '2', '--steps', '1']);
    expect(code).toBe(0);
    const config = JSON.parse(read('six', 'step-1', 'config.json').toString());
    expect(config).toMatchObject({ hidden_size: 192, num_attention_heads: 6, num_key_value_heads: 2 });
    // The dim that was not given is the run's.
    expect((await runCli(['train', ...where, '--resume'])).code).toBe(0);
  });

  test('a checkpoint generates and evaluates', async () => {
    const checkpoint = join(folder, 'whole', 'step-60');
    const generated = await runCli(['generate', checkpoint, '--prompt', 'the wh', '--max-tokens', '5']);
    expect([generated.code, generated.stdout.trim().length > 0]).toEqual([0, true]);
    const evaluated = await runCli(['eval', checkpoint, '--data', join(folder, 'text.txt'), '--json']);
    const { loss, perplexity, bitsPerCharacter, tokens, characters } = JSON.parse(evaluated.stdout);
    expect(tokens).toBe(characters - 1);
    expect(perplexity).toBeCloseTo(Math.exp(loss), 10);
    expect(bitsPerCharacter).toBeCloseTo((loss * tokens) / characters / Math.LN2, 10);
  });

  test('characters that the model does not know are said: left out of a prompt or an evaluation, refused in training', async () => {
    const checkpoint = join(folder, 'whole', 'step-60');
    const file = join(folder, 'unknown.txt');
    const text = readFileSync(join(folder, 'text.txt'), 'utf8');
    writeFileSync(file, `${text}ÄÖÄ`);
    const said = 'left out 3 characters without a token: "Ä" (2), "Ö" (1)\n';
    const generated = await runCli([
      'generate',
      checkpoint,
      '--prompt',
      'waÄÖÄ',
      '--max-tokens',
      '3',
      '--json',
    ]);
    expect(generated.stderr).toContain(`--prompt: ${said}`);
    expect(JSON.parse(generated.stdout).prefill.tokens).toBe(2);
    const evaluated = await runCli(['eval', checkpoint, '--data', file, '--json']);
    expect(evaluated.stderr).toContain(`${file}: ${said}`);
    const plain = await runCli(['eval', checkpoint, '--data', join(folder, 'text.txt'), '--json']);
    expect({ ...JSON.parse(evaluated.stdout), data: '' }).toEqual({ ...JSON.parse(plain.stdout), data: '' });
    const trained = await runCli([
      ...['uptrain', checkpoint, '--data', file, '--out', join(folder, 'never'), '--steps', '1'],
    ]);
    expect([trained.code, existsSync(join(folder, 'never'))]).toEqual([1, false]);
    expect(trained.stderr).toMatch(/got 3 characters without a token: "Ä" \(2\), "Ö" \(1\)\n$/);
  });

  test('weights that give no number fail the evaluation', async () => {
    const checkpoint = join(folder, 'nan');
    cpSync(join(folder, 'whole', 'step-60'), checkpoint, { recursive: true });
    const file = join(checkpoint, 'model.safetensors');
    const bytes = readFileSync(file);
    bytes.fill(0xff, bytes.length - 4);
    writeFileSync(file, bytes);
    const { code, stdout, stderr } = await runCli([
      ...['eval', checkpoint, '--data', join(folder, 'text.txt'), '--json'],
    ]);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toContain(`gqa: ${checkpoint}: expected weights that give a finite loss, got NaN\n`);
  });

  test('stops at Ctrl-C with a checkpoint and exit code 130, and goes on', async () => {
    const child = spawn(process.execPath, [cliFile, ...command('stopped')]);
    await waitFor(() => existsSync(join(folder, 'stopped', 'step-10')));
    child.kill('SIGINT');
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect([0, 130]).toContain(code);
    expect((await runCli(command('stopped', '--resume'))).code).toBe(0);
    expect(read('stopped', 'step-60', 'model.safetensors')).toEqual(
      read('whole', 'step-60', 'model.safetensors'),
    );
  });

  test('a folder in which a process trains is refused, and one whose process was killed is not', async () => {
    const child = spawn(process.execPath, [cliFile, ...command('busy', '--steps', '100000')]);
    await waitFor(() => existsSync(join(folder, 'busy', 'step-5')));
    for (const more of [[], ['--resume']]) {
      const { code, stderr } = await runCli(command('busy', ...more));
      expect([code, stderr]).toEqual([1, expect.stringContaining(`process ${child.pid} is training there`)]);
    }
    const closed = new Promise((resolve) => child.on('close', resolve));
    child.kill('SIGKILL');
    await closed;
    // It may be gone on with, though not as a run of fewer steps.
    const { stderr } = await runCli(command('busy', '--resume', '--steps', '60'));
    expect(stderr).toContain('whose steps is 100000');
  });

  test('going on with another instruction set is said, with another number of threads not', async () => {
    const out = join(folder, 'moved');
    const first = await runCli(command('moved', '--save-every', '1', '--steps', '2'), {
      env: { GQA_BACKEND: 'wasm' },
    });
    expect(first.code).toBe(0);
    const goOn = async (env: Record<string, string>) => {
      writeFileSync(join(out, 'latest'), 'step-1\n');
      const result = await runCli(['train', '--data', join(folder, 'text.txt'), '--out', out, '--resume'], {
        env,
      });
      expect(result.code).toBe(0);
      return result.stderr;
    };
    const message =
      /^this run was computed on (.*) and continues on (.*): losses may differ in their last digits/m;
    expect(await goOn({ GQA_BACKEND: 'wasm', GQA_THREADS: '1' })).not.toMatch(message);
    const [, before, now] = message.exec(await goOn({ GQA_BACKEND: 'reference' })) ?? [];
    expect(before).toMatch(/^wasm \(\w+\)$/);
    expect(now).toMatch(/^reference/);
  });

  test('--resume takes the settings that are not given from the run', async () => {
    const where = ['--data', join(folder, 'text.txt'), '--out', join(folder, 'whole')];
    const { code, stderr } = await runCli(['train', ...where, '--resume']);
    expect([code, stderr]).toEqual([0, expect.stringContaining('N=4 K=2')]);
    expect(stderr).toContain('done at step 60');
  });

  test('a run in bfloat16 resumes in it, and in nothing else', async () => {
    const few = (...more: string[]) =>
      command('narrow', '--steps', '4', '--eval-every', '2', '--save-every', '2', ...more);
    const first = await runCli(few('--matmul-precision', 'bfloat16'));
    expect([first.code, first.stderr]).toEqual([0, expect.stringContaining(', matmul precision bfloat16\n')]);
    const weights = read('narrow', 'step-4', 'model.safetensors');
    writeFileSync(join(folder, 'narrow', 'latest'), 'step-2\n');
    const again = await runCli(few('--resume'));
    expect([again.code, again.stderr]).toEqual([0, expect.stringContaining('matmul precision bfloat16')]);
    expect(read('narrow', 'step-4', 'model.safetensors').equals(weights)).toBe(true);
    const other = await runCli(few('--resume', '--matmul-precision', 'highest'));
    expect([other.code, other.stderr]).toEqual([
      2,
      expect.stringContaining('--matmul-precision is bfloat16, got highest'),
    ]);
  });

  test('8-bit activations are refused', async () => {
    const { code, stderr } = await runCli(command('eight', '--matmul-precision', 'int8'));
    expect([code, existsSync(join(folder, 'eight'))]).toEqual([1, false]);
    expect(stderr).toBe(
      'gqa: train: expected matmul precision highest or bfloat16 for gradients, got int8\n',
    );
  });

  test(`${KILLS} runs killed with SIGKILL end bit for bit as the one that was not`, {
    timeout: 300_000,
  }, async () => {
    for (let run = 0; run < KILLS; run++) {
      const out = `killed-${run}`;
      for (let attempt = 0; attempt < 3; attempt++) {
        const resume = existsSync(join(folder, out)) ? ['--resume'] : [];
        const child = spawn(process.execPath, [cliFile, ...command(out, ...resume)]);
        const closed = new Promise((resolve) => child.on('close', resolve));
        await new Promise((resolve) => setTimeout(resolve, 150 + Math.random() * 900));
        child.kill('SIGKILL');
        await closed;
        checkPointer(out);
      }
      const last = await runCli(command(out, '--resume'));
      expect([last.code, last.stderr]).toEqual([0, expect.stringContaining('done at step 60')]);
      for (const file of ['model.safetensors', 'optimizer.safetensors', 'trainer.json']) {
        expect(read(out, 'step-60', file).equals(read('whole', 'step-60', file)), `${out} ${file}`).toBe(
          true,
        );
      }
      expect(read(out, 'metrics.jsonl').equals(read('whole', 'metrics.jsonl')), `${out} metrics`).toBe(true);
    }
  });
});

/** What `latest` names is whole. */
function checkPointer(out: string): void {
  const pointer = join(folder, out, 'latest');
  if (!existsSync(pointer)) return;
  const name = readFileSync(pointer, 'utf8').trim();
  for (const file of [
    'config.json',
    'model.safetensors',
    'optimizer.safetensors',
    'trainer.json',
    'tokenizer.json',
  ]) {
    expect(existsSync(join(folder, out, name, file)), `${out}/${name}/${file}`).toBe(true);
  }
}

async function waitFor(done: () => boolean): Promise<void> {
  for (let i = 0; i < 1000 && !done(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
}

describe('options out of range', () => {
  const wrong: [string, string[], number, RegExp][] = [
    ['K that does not divide N', ['--kv-heads', '3'], 2, /--kv-heads must divide --heads, got K=3 and N=4/],
    ['a negative learning rate', ['--learning-rate', '-1'], 2, /--learning-rate/],
    ...['1', '-0.1', '1.5', 'NaN'].map((p): [string, string[], number, RegExp] => [
      `dropout ${p}`,
      ['--resume', '--dropout', p],
      2,
      /--dropout.*Expected a number of at least 0 and below 1/,
    ]),
    ['a resume with other dropout', ['--resume', '--dropout', '0.2'], 2, /dropout is 0.1, got 0.2/],
    ['a resume with another shape', ['--resume', '--dim', '64'], 2, /--dim is 32, got 64/],
    ['a folder that is not empty', [], 2, /is not empty: --resume continues the run/],
  ];
  test.each(wrong)('%s', async (_, more, code, message) => {
    const result = await runCli(command('whole', ...more));
    expect([result.code, result.stderr.trim().split('\n').length]).toEqual([code, 1]);
    expect(result.stderr).toMatch(message);
    expect(read('whole', 'latest').toString()).toBe('step-60\n');
  });

  test('an empty text, a short one, and none', async () => {
    const texts: [string, string | undefined, RegExp][] = [
      ['empty.txt', '', /expected a text, got an empty one/],
      ['short.txt', 'too short', /expected at least 17 tokens/],
      ['none.txt', undefined, /got nothing of that name/],
    ];
    for (const [name, text, message] of texts) {
      if (text !== undefined) writeFileSync(join(folder, name), text);
      const args = command('never').map((arg) => (arg.endsWith('text.txt') ? join(folder, name) : arg));
      const result = await runCli(args);
      expect([result.code, result.stderr.trim().split('\n').length]).toEqual([1, 1]);
      expect(result.stderr).toMatch(message);
      expect(existsSync(join(folder, 'never'))).toBe(false);
    }
  });

  test.runIf(process.platform === 'linux')('a device without an end is refused as a text', async () => {
    const result = await runCli(['train', '--data', '/dev/zero', '--out', join(folder, 'never')]);
    expect([result.code, result.stderr]).toEqual([
      1,
      'gqa: /dev/zero: expected a text file or a folder of them, got a pipe or a device\n',
    ]);
  });

  test('a loss that is no number stops before the step', async () => {
    const result = await runCli(command('diverged', '--learning-rate', '1e30', '--clip', '1e30'));
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(
      /the (loss|norm of the gradients) is (NaN|Infinity) at step \d+; a smaller learning rate/,
    );
  });
});
