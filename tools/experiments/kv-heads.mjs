/**
 * The experiment of docs/experiments/kv-heads.md: the same small GPT with K = N, N/3 and 1 key/value heads on
 * the same text, some seeds each. Prints the table and the plot's points; with --write it renews the page and
 * its plot.
 *
 * Usage: npm run build && node tools/experiments/kv-heads.mjs [--seeds 1,2,3] [--steps 1000] [--write]
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { linePlot } from './line-plot.mjs';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1,2,3' },
    steps: { type: 'string', default: '1000' },
    threads: { type: 'string', default: '2' },
    write: { type: 'boolean', default: false },
    cli: { type: 'string', default: fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url)) },
  },
});
const HEADS = 6;
const SIZES = ['--layers', '4', '--dim', '96', '--heads', `${HEADS}`, '--block', '64', '--batch', '12'];
const seeds = values.seeds.split(',');
const folder = mkdtempSync(join(tmpdir(), 'gqa-heads-'));

function gqa(...args) {
  return execFileSync(process.execPath, [values.cli, ...args], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

function trainOnce(kvHeads, seed) {
  const out = join(folder, `k${kvHeads}-s${seed}`);
  const run = [
    '--steps',
    values.steps,
    '--eval-every',
    '250',
    '--eval-batches',
    '40',
    '--keep',
    '1',
    '--json',
  ];
  const where = ['--data', 'moby-dick', '--out', out, '--seed', seed, '--threads', values.threads];
  const result = JSON.parse(gqa('train', ...where, ...SIZES, '--kv-heads', `${kvHeads}`, ...run));
  const curve = readFileSync(join(out, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .filter((line) => line.validationLoss !== undefined)
    .map(({ step, validationLoss }) => [step, validationLoss]);
  return { ...result, curve };
}

const mean = (list) => list.reduce((sum, x) => sum + x, 0) / list.length;
const deviation = (list) =>
  Math.sqrt(mean(list.map((x) => (x - mean(list)) ** 2)) * (list.length / Math.max(1, list.length - 1)));

try {
  const rows = [];
  for (const K of [HEADS, HEADS / 3, 1]) {
    const runs = seeds.map((seed) => trainOnce(K, seed));
    const checkpoint = runs[0].checkpoint;
    // Decode: the best of five, 48 tokens each after a prompt of 16.
    const speeds = Array.from({ length: 5 }, () => {
      const prompt = 'Call me Ishmael.';
      const answer = JSON.parse(
        gqa('generate', checkpoint, '--prompt', prompt, '--max-tokens', '48', '--threads', '1', '--json'),
      );
      return answer.decode.tokensPerSecond ?? 0;
    });
    const { headDim, numLayers } = { headDim: 96 / HEADS, numLayers: 4 };
    const losses = runs.map((run) => run.validationLoss);
    rows.push({
      K,
      parameters: runs[0].parameters,
      losses,
      bytes: 2 * numLayers * K * headDim * 4,
      decode: Math.max(...speeds),
      curve: runs[0].curve.map(([step], i) => [step, mean(runs.map((run) => run.curve[i][1]))]),
    });
    console.error(`K=${K}: ${losses.map((loss) => loss.toFixed(4)).join(' ')}`);
  }
  const table = [
    '| K | parameters | validation loss (mean ± standard deviation) | each seed | KV bytes per token, f32 | decode, tokens/s |',
    '| --- | --- | --- | --- | --- | --- |',
    ...rows.map(({ K, parameters, losses, bytes, decode }) => {
      const each = losses.map((loss) => loss.toFixed(4)).join(', ');
      return `| ${K} | ${parameters.toLocaleString('en-US')} | ${mean(losses).toFixed(4)} ± ${deviation(losses).toFixed(4)} | ${each} | ${bytes.toLocaleString('en-US')} | ${Math.round(decode)} |`;
    }),
  ].join('\n');
  console.log(table);
  if (values.write) {
    const page = new URL('../../docs/experiments/kv-heads.md', import.meta.url);
    const text = readFileSync(page, 'utf8');
    writeFileSync(page, text.replace(/(<!-- table -->\n)[\s\S]*?(\n<!-- end -->)/, `$1${table}$2`));
    writeFileSync(new URL('../../docs/experiments/kv-heads.svg', import.meta.url), plot(rows));
  } else console.log(JSON.stringify(rows.map(({ K, curve }) => ({ K, curve }))));
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** Mean validation loss by step. */
function plot(rows) {
  const series = rows.map(({ K, curve }) => ({
    name: `K = ${K}`,
    points: curve.filter(([step]) => step > 0),
  }));
  const last = Math.max(...series.flatMap(({ points }) => points.map(([step]) => step)));
  const ticks = Array.from({ length: 5 }, (_, i) => Math.round((last * i) / 4));
  const label = 'Validation loss over training steps for each number of key/value heads';
  return linePlot({ label, series, ticks, xLabel: 'step', yLabel: 'validation loss' });
}
