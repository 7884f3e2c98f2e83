/** `gqa convert` as a process. */
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { convertCheckpoint } from '../../src/convert/index.ts';
import { GOLDEN } from '../models/golden.ts';
import { type CliRun, runCli } from './run-cli.ts';
import { withTinyCheckpoint } from './tiny-checkpoint.ts';

/** N = 6, K = 2 or so: the tiny checkpoint's own heads. */
function heads(folder: string): { N: number; K: number } {
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Record<string, number>;
  return { N: config.num_attention_heads, K: config.num_key_value_heads };
}

/** Required by a process before its own code: the disk is full at the second layer. */
const FULL_DISK = `
const fs = require('node:fs');
const { writeSync, promises } = fs;
const { open } = promises;
let file = '';
promises.open = (path, ...rest) => {
  if (/\\.distill/.test(path)) file = path;
  return open(path, ...rest);
};
fs.writeSync = (...given) => {
  if (!file.includes('layer-1')) return writeSync(...given);
  const message = 'ENOSPC: no space left on device, write';
  throw Object.assign(new Error(message), { code: 'ENOSPC', syscall: 'write' });
};
`;

const text = 'Call me Ishmael. Some years ago, never mind how long precisely. '.repeat(12);

test('writes a checkpoint, a table of its drift and a page', () =>
  withTinyCheckpoint({}, async (folder) => {
    const { K } = heads(folder);
    const out = join(folder, '..', `${folder.split('/').at(-1)}-out`);
    const textFile = join(folder, 'text.txt');
    const page = join(folder, 'drift.html');
    writeFileSync(textFile, text);
    const args = ['convert', folder, out, '--kv-heads', '1', '--method', 'similar'];
    const { code, stdout, stderr } = await runCli([...args, '--calibrate', textFile, '--report', page]);
    expect(stderr).toContain(`wrote ${page}`);
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`heads +N=\\d+, K=${K} to 1 +similar`));
    expect(stdout).toMatch(/perplexity +[\d.]+ +[\d.]+/);
    expect(stdout).toMatch(/layer +K error +V error +output error +groups/);
    expect(readFileSync(page, 'utf8')).toContain('<svg');
    expect(readdirSync(out)).toContain('tokenizer.json');

    const again = await runCli(args);
    expect([again.code, again.stderr.trim().split('\n').at(-1)]).toEqual([
      1,
      `gqa: ${out}: expected nothing there, got a folder; --force replaces it`,
    ]);
    const forced = await runCli([...args, '--force', '--json', '--calibrate', textFile]);
    expect(forced.code).toBe(0);
    const json = JSON.parse(forced.stdout) as Record<string, unknown>;
    expect(json).toMatchObject({
      from: folder,
      to: out,
      format: 'safetensors',
      method: 'similar',
      numKeyValueHeads: { before: K, after: 1 },
    });
    const drift = json.drift as { layers: unknown[] };
    expect(drift).toMatchObject({ predicted: expect.any(Number), kl: expect.any(Number) });
    expect(drift.layers).toHaveLength(3);
    const generated = await runCli(['generate', out, '--prompt', 'Hi', '--max-tokens', '3', '--json']);
    expect(generated.code).toBe(0);
    rmSync(out, { recursive: true });
  }));

test('--target and --kv-bytes choose the heads, and say why', () =>
  withTinyCheckpoint({}, async (folder) => {
    const { K } = heads(folder);
    const out = join(folder, '..', `${folder.split('/').at(-1)}-chosen`);
    const textFile = join(folder, 'text.txt');
    writeFileSync(textFile, text);
    const args = ['convert', folder, out, '--calibrate', textFile];
    const byTarget = await runCli([...args, '--target', '100']);
    expect([byTarget.code, byTarget.stdout]).toEqual([0, expect.stringContaining(`K=${K} to 1`)]);
    expect(byTarget.stdout).toMatch(/^ *K +KV bytes\/token +loss \(nats\) +above original$/m);
    expect(byTarget.stdout).toMatch(/^1 +\d+ +[\d.]+ +-?[\d.]+ +fewest heads within 100 nats$/m);
    const bytes = Number(/^1 +(\d+)/m.exec(byTarget.stdout)?.[1]);
    const byBytes = await runCli([...args, '--force', '--json', '--kv-bytes', `${bytes}B`]);
    expect(JSON.parse(byBytes.stdout)).toMatchObject({ numKeyValueHeads: { before: K, after: 1 } });
    expect(JSON.parse(byBytes.stdout).trials).toHaveLength(2);
    const none = await runCli([...args, '--force', '--kv-bytes', '1MB']);
    expect([none.code, none.stdout, none.stderr.trim().split('\n').at(-1)]).toEqual([
      2,
      '',
      expect.stringMatching(
        new RegExp(`expected --kv-bytes from ${bytes}, .* those of the model's K=${K}, got 1000000$`),
      ),
    ]);
    rmSync(out, { recursive: true });
  }));

test('a target that no fewer heads keep to: no trial is marked as the choice', () =>
  withTinyCheckpoint({}, async (folder) => {
    const textFile = join(folder, 'text.txt');
    writeFileSync(textFile, readFileSync('demo/moby-dick.txt', 'utf8').slice(0, 2000));
    const args = ['convert', 'demo/model', join(folder, 'out'), '--calibrate', textFile];
    const { code, stdout, stderr } = await runCli([...args, '--target', '1e-9']);
    expect([code, stderr.trim().split('\n').at(-1)]).toEqual([
      1,
      expect.stringMatching(
        /expected a --target .* got 1e-9 nats, below their [\d.]+; --kv-heads takes any$/,
      ),
    ]);
    expect(stdout).not.toContain('within');
    expect(stdout).toMatch(/^6 +3,072 .* the model's own$/m);
  }));

test('--drift measures on three texts and on what both models write', () =>
  withTinyCheckpoint({}, async (folder) => {
    const out = join(folder, '..', `${folder.split('/').at(-1)}-drift`);
    const own = join(folder, 'own.txt');
    writeFileSync(own, text);
    const args = ['convert', folder, out, '--kv-heads', '1', '--calibrate', own, '--drift-text', own];
    const { code, stdout } = await runCli(args);
    expect(code).toBe(0);
    for (const name of ['calibration text', 'prose', 'code', 'dialogue', 'own.txt']) {
      expect(stdout).toMatch(new RegExp(`^${name} +[\\d.]+ +[\\d.]+ +-?[\\d.]+ +[\\d.]+`, 'm'));
    }
    expect(stdout).toMatch(/^largest output errors +layer \d \([\d.]+\), layer \d/m);
    expect(stdout).toMatch(/same first tokens, 64 prompts +[\d.]+ of 32/);
    expect(stdout).toMatch(/repeated 4-grams +[\d.]+ % +[\d.]+ %/);
    rmSync(out, { recursive: true });
  }));

test('says what fewer heads cost; with a text it merges by similar', () =>
  withTinyCheckpoint({}, async (folder) => {
    const out = (name: string) => join(folder, '..', `${folder.split('/').at(-1)}-${name}`);
    const textFile = join(folder, 'text.txt');
    writeFileSync(textFile, text);
    const args = (name: string, ...more: string[]) => [
      'convert',
      folder,
      out(name),
      '--kv-heads',
      '1',
      ...more,
    ];
    const blind = await runCli(args('blind'));
    expect(blind.stdout).toMatch(/heads .* mean$/m);
    expect(blind.stderr).toContain('gqa: warning: quality was not measured');
    const measured = await runCli(args('measured', '--calibrate', textFile, '--json'));
    const { method, drift } = JSON.parse(measured.stdout);
    expect(method).toBe('similar');
    const worse = drift.after.perplexity / drift.before.perplexity;
    expect(measured.stderr.includes('gqa: warning: perplexity')).toBe(worse >= 1.5);
    const same = await runCli(args('same', '--calibrate', textFile, '--method', 'mean', '--json'));
    expect(JSON.parse(same.stdout).method).toBe('mean');
    for (const name of ['blind', 'measured', 'same']) rmSync(out(name), { recursive: true });
  }));

test('tells of each layer that similar reads, then of bytes', () =>
  withTinyCheckpoint({}, async (folder) => {
    const to = join(folder, '..', `${folder.split('/').at(-1)}-phases`);
    const seen: [string, number, number][] = [];
    const { method, bytes } = await convertCheckpoint({
      ...{ from: folder, to, numKeyValueHeads: 1, calibration: text },
      onProgress: (done, total, phase, activity) => {
        seen.push([phase, done, total]);
        if (phase === 'calibrating') expect(activity).toBe(`calibrating layer ${done} of 3`);
      },
    });
    expect(method).toBe('similar');
    expect(seen.slice(0, 3)).toEqual([1, 2, 3].map((layer) => ['calibrating', layer, 3]));
    expect(seen.slice(3).every(([phase, , total]) => phase === 'writing' && total === bytes)).toBe(true);
    expect(seen.at(-1)).toEqual(['writing', bytes, bytes]);
    rmSync(to, { recursive: true });
  }));

test('does not write into the checkpoint it reads', () =>
  withTinyCheckpoint({}, async (folder) => {
    const out = join(folder, 'out', 'model.gguf');
    const { code, stderr } = await runCli(['convert', folder, out, '--kv-heads', '1', '--dtype', 'f16']);
    expect(stderr).toContain('expected a place outside of the checkpoint that is read');
    expect(code).toBe(1);
  }));

test.each([
  [['in', 'out'], 'expected one of --kv-heads, --target and --kv-bytes, got none'],
  [['in', 'out', '--kv-heads', '1', '--target', '1'], 'and --kv-bytes, got two'],
  [['in', 'out', '--target', '1'], 'with --target or --kv-bytes, got no --calibrate'],
  [
    ['in', 'out', '--kv-bytes', '8KiB', '--calibrate', 't', '--method', 'mean'],
    'expected --calibrate and --method similar with --target or --kv-bytes, got --method mean',
  ],
  [['in', 'out', '--target', '0', '--calibrate', 't'], 'Expected a number above 0.'],
  [['in', 'out', '--kv-heads', '0'], 'Expected a whole number of at least 1'],
  [
    ['in', 'out', '--kv-heads', '1', '--method', 'median'],
    'Allowed choices are mean, first, random, similar',
  ],
  [
    ['in', 'out', '--kv-heads', '1', '--format', 'gguf'],
    'expected an <out> that ends in .gguf for --format gguf, got out',
  ],
  [['in', 'o.gguf', '--kv-heads', '1', '--format', 'safetensors'], 'expected a directory as <out>'],
  [['in', 'out', '--kv-heads', '1', '--resume'], 'expected --distill with --resume'],
  [['in', 'out', '--kv-heads', '1', '--report', 'r.html'], 'expected --calibrate or --drift with --report'],
])('wrong usage: %j', async (args, message) => {
  const { code, stderr } = await runCli(['convert', ...args]);
  expect(stderr).toContain(message);
  expect(stderr.trim().split('\n')).toHaveLength(1);
  expect(code).toBe(2);
});

test('a missing checkpoint is one line', async () => {
  const { code, stderr } = await runCli(['convert', '/nowhere/model', '/tmp/never', '--kv-heads', '2']);
  expect(code).toBe(1);
  expect(stderr).toMatch(/gqa: \/nowhere\/model: expected .* got nothing there\n$/);
  expect(existsSync('/tmp/never')).toBe(false);
});

test('what stops the drift from being measured is told before anything is written', () =>
  withTinyCheckpoint({}, async (folder) => {
    const out = join(folder, '..', `${folder.split('/').at(-1)}-out`);
    const [good, short, latin1] = ['good.txt', 'short.txt', 'latin1.txt'].map((name) => join(folder, name));
    writeFileSync(good, text);
    writeFileSync(short, 'a');
    writeFileSync(latin1, new Uint8Array([0x63, 0x61, 0x66, 0xe9]));
    const cases: [string[], string][] = [
      [['--calibrate', short], `${short}: expected at least 2 tokens in each half of the text, got 0 and 1`],
      [['--calibrate', short, '--method', 'mean'], `${short}: expected at least 2 tokens in the text, got 1`],
      [['--calibrate', latin1], `${latin1}: expected UTF-8 text`],
      [
        ['--calibrate', good, '--report', join(folder, 'none', 'page.html')],
        `${join(folder, 'none')}: cannot write there: no such file or folder (ENOENT)`,
      ],
    ];
    for (const [more, message] of cases) {
      const { code, stderr } = await runCli(['convert', folder, out, '--kv-heads', '1', ...more]);
      expect([code, stderr]).toEqual([1, `gqa: ${message}\n`]);
      expect(existsSync(out)).toBe(false);
    }
  }));

test('errors name flags, and say that layers are kept', () =>
  withTinyCheckpoint({}, async (folder) => {
    const out = join(folder, '..', `${folder.split('/').at(-1)}-kept`);
    const textFile = join(folder, 'text.txt');
    writeFileSync(textFile, text);
    const { N, K } = heads(folder);
    const args = ['convert', folder, out, '--calibrate', textFile];
    const distill = [...args, '--kv-heads', '1', '--distill', '--steps', '1'];
    const last = ({ code, stderr }: CliRun) => [code, stderr.trim().split('\n').at(-1)];
    const five = await runCli([...args, '--kv-heads', `${N - 1}`]);
    const divide = `convert: expected --kv-heads to divide the checkpoint's K=${K}, or to be`;
    expect(last(five)).toEqual([2, expect.stringContaining(divide)]);
    const dtype = await runCli([...args, '--kv-heads', '1', '--dtype', 'q8_0']);
    const types = 'expected --dtype f32, f16, bf16 for safetensors, got q8_0';
    expect(last(dtype)).toEqual([2, expect.stringContaining(types)]);
    const short = join(folder, 'short.txt');
    writeFileSync(short, 'a');
    const own = await runCli([...args, '--kv-heads', '1', '--drift-text', short]);
    expect(last(own)).toEqual([1, 'gqa: short.txt: expected at least 2 tokens in the text, got 1']);
    const random = await runCli([...distill, '--method', 'random']);
    expect(last(random)).toEqual([2, expect.stringContaining('expected --method mean, first or similar')]);

    const preload = join(folder, 'full-disk.cjs');
    writeFileSync(preload, FULL_DISK);
    const full = await runCli(distill, { env: { NODE_OPTIONS: `--require ${preload}` } });
    expect(full.stderr).toContain(`trained layers are in ${out}.distill (1): --resume continues\n`);
    expect(last(full)).toEqual([
      1,
      `gqa: ${out}.distill/layer-1.safetensors: cannot write: no space left on the disk (ENOSPC)`,
    ]);
    const again = await runCli(distill);
    expect(last(again)).toEqual([2, expect.stringContaining('got some; --resume continues it; delete')]);
    const more = await runCli([...distill, '--resume', '--steps', '2']);
    expect(last(more)).toEqual([2, expect.stringContaining('--resume: expected the distillation of')]);
    expect(more.stderr).toContain('whose steps is 1, got 2');
    writeFileSync(textFile, text.replace('Ishmael', 'Stubb'));
    const other = await runCli([...distill, '--resume']);
    expect(last(other)).toEqual([2, expect.stringContaining('got different calibration; delete the folder')]);
    writeFileSync(textFile, text);
    expect((await runCli([...distill, '--resume'])).code).toBe(0);
    rmSync(out, { recursive: true });
  }));

test('quantize prints the bytes of the file and of its weights', async () => {
  const out = join(tmpdir(), `gqa-quantize-${process.pid}.gguf`);
  const { stdout } = await runCli(['quantize', join(GOLDEN, 'tiny-llama/gqa-tied'), out, '--type', 'q8_0']);
  const size = statSync(out).size.toLocaleString('en-US');
  expect(stdout).toMatch(new RegExp(`^wrote +${out} +gguf, ${size} bytes`, 'm'));
  const weights = Number(/^weights +([\d,]+) bytes .*in q8_0$/m.exec(stdout)?.[1].replaceAll(',', ''));
  const { bytes } = JSON.parse((await runCli(['inspect', out, '--json'])).stdout);
  expect(weights).toBe(bytes);
  rmSync(out);
});

test('more heads take more cache, and it says so', () =>
  withTinyCheckpoint({}, async (folder) => {
    const { N, K } = heads(folder);
    const out = join(folder, '..', `${folder.split('/').at(-1)}-out`);
    const { code, stdout } = await runCli(['convert', folder, out, '--kv-heads', `${N}`]);
    rmSync(out, { recursive: true });
    expect([code, stdout]).toEqual([0, expect.stringMatching(`KV cache +${N / K} times the size before`)]);
  }));
