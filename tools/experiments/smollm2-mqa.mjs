/**
 * The experiment of docs/experiments/smollm2-mqa.md: SmolLM2-135M (9 query heads on 3 key/value heads) pooled
 * to one key/value head by `mean` and by `similar`, each uptrained for some steps on Moby-Dick, and the
 * original uptrained alike, so that learning the novel is told apart from recovering. Every run goes on where
 * it was stopped; with --write none is started, and the page's table and plot are renewed from what there is.
 *
 * Usage: npm run build && node tools/experiments/smollm2-mqa.mjs --model SmolLM2-135M-Instruct.Q4_1.gguf
 *   [--folder smollm2-mqa] [--steps 100] [--batch 2] [--block 128] [--learning-rate 3e-4] [--threads 2]
 *   [--rows mean,similar,original] [--write]
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: process.env.GQA_MODEL },
    folder: { type: 'string', default: 'smollm2-mqa' },
    steps: { type: 'string', default: '100' },
    batch: { type: 'string', default: '2' },
    block: { type: 'string', default: '128' },
    'learning-rate': { type: 'string', default: '3e-4' },
    threads: { type: 'string', default: '2' },
    rows: { type: 'string', default: 'mean,similar,original' },
    write: { type: 'boolean', default: false },
    /** One row, in this process; what the script starts itself with. */
    one: { type: 'string' },
    dist: { type: 'string', default: fileURLToPath(new URL('../../dist', import.meta.url)) },
  },
});
if (values.model === undefined) throw new Error('expected --model <SmolLM2 .gguf> or GQA_MODEL');
const [steps, batchSize, blockLength] = [values.steps, values.batch, values.block].map(Number);
const EVERY = 20;

if (values.one === undefined) {
  mkdirSync(values.folder, { recursive: true });
  for (const row of values.write ? [] : values.rows.split(',')) {
    if (existsSync(resultFile(row))) continue;
    // A process each, so that the peak of its memory is the row's own.
    execFileSync(process.execPath, [...process.argv.slice(1), '--one', row], { stdio: 'inherit' });
  }
  const results = values.rows.split(',').map(resultOf);
  const table = tableOf(results);
  console.log(table);
  if (values.write) {
    const page = new URL('../../docs/experiments/smollm2-mqa.md', import.meta.url);
    const text = readFileSync(page, 'utf8');
    writeFileSync(page, text.replace(/(<!-- table -->\n)[\s\S]*?(<!-- end -->)/, `$1${table}\n$2`));
    writeFileSync(new URL('../../docs/experiments/smollm2-mqa.svg', import.meta.url), plot(results));
  }
} else await runRow(values.one);

function resultFile(row) {
  return join(values.folder, `${row}.json`);
}

/** What a row has come to, finished or not. */
function resultOf(row) {
  const metrics = readFileSync(join(values.folder, row, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n');
  const curve = metrics.map((line) => JSON.parse(line)).filter((line) => line.validationLoss !== undefined);
  return { row, curve };
}

async function runRow(row) {
  const load = (path) => import(join(values.dist, path));
  const { convertCheckpoint } = await load('convert/index.js');
  const { uptrain } = await load('train/index.js');
  const { readTrainingText } = await load('cli/read-text.js');
  const { setThreads } = await load('index.js');
  setThreads(Number(values.threads));
  const text = await readTrainingText('moby-dick');
  let from = values.model;
  if (row !== 'original') {
    from = join(values.folder, `${row}.gguf`);
    // From the part that is trained on.
    const calibration = row === 'similar' ? text.slice(0, 20_000) : undefined;
    if (!existsSync(from)) {
      await convertCheckpoint({
        from: values.model,
        to: from,
        numKeyValueHeads: 1,
        method: row,
        calibration,
      });
    }
  }
  const out = join(values.folder, row);
  const stepSeconds = [];
  let last = process.cpuUsage();
  const { model, metrics, settings } = await uptrain({
    ...{ from, text, out, steps, batchSize, blockLength, learningRate: Number(values['learning-rate']) },
    ...{
      evaluateEvery: EVERY,
      saveEvery: EVERY,
      keep: 1,
      evaluationBatches: 6,
      resume: existsSync(out),
    },
    onMetric(metric) {
      const { user, system } = process.cpuUsage(last);
      // The step after an estimate is not timed: saving and estimating are in it.
      if (metric.loss !== undefined && metric.step % EVERY !== 1) stepSeconds.push((user + system) / 1e6);
      last = process.cpuUsage();
      process.stderr.write(`${row}: ${JSON.stringify(metric)}\n`);
    },
  });
  const sorted = stepSeconds.sort((a, b) => a - b);
  const result = {
    row,
    parameters: model.parameterCount,
    tokensPerStep: settings.batchSize * settings.blockLength * settings.accumulate,
    last: metrics.at(-1),
    processorSecondsPerStep: sorted[sorted.length >> 1],
    peakMiB: Math.round(process.resourceUsage().maxRSS / 1024),
  };
  writeFileSync(resultFile(row), `${JSON.stringify(result)}\n`);
  model.dispose();
}

function tableOf(results) {
  const all = results.flatMap(({ curve }) => curve.map(({ step }) => step));
  const shown = [...new Set(all)].sort((a, b) => a - b);
  const lines = [
    `| K | made by | ${shown.map((step) => `step ${step}`).join(' | ')} | perplexity, first and last |`,
    `| --- | --- | ${shown.map(() => '---').join(' | ')} | --- |`,
  ];
  for (const { row, curve } of results) {
    const cells = shown.map((step) => curve.find((point) => point.step === step)?.validationLoss.toFixed(3));
    const ends = [curve[0], curve.at(-1)].map(({ validationLoss }) =>
      Math.exp(validationLoss).toPrecision(3),
    );
    const name = row === 'original' ? '3 | the original' : `1 | \`${row}\``;
    lines.push(
      `| ${name} | ${cells.map((cell) => cell ?? '').join(' | ')} | ${ends.map(Number).join(', ')} |`,
    );
  }
  return lines.join('\n');
}

/** Held-out loss by step. */
function plot(results) {
  const [width, height, left, bottom] = [720, 320, 56, 36];
  const colors = { mean: '#c2410c', similar: '#2563a8', original: '#4d7c0f' };
  const points = results.flatMap(({ curve }) => curve);
  const [low, high] = [
    Math.floor(Math.min(...points.map((point) => point.validationLoss))),
    Math.ceil(Math.max(...points.map((point) => point.validationLoss))),
  ];
  const x = (step) => left + (step / steps) * (width - left - 16);
  const y = (loss) => 12 + ((high - loss) / (high - low)) * (height - bottom - 12);
  const grid = Array.from({ length: high - low + 1 }, (_, i) => low + i).map(
    (tick) =>
      `<line x1="${left}" x2="${width - 16}" y1="${y(tick).toFixed(1)}" y2="${y(tick).toFixed(1)}" stroke="#ddd"/><text x="${left - 6}" y="${(y(tick) + 4).toFixed(1)}" text-anchor="end">${tick}</text>`,
  );
  const labels = Array.from({ length: 5 }, (_, i) => (steps * i) / 4).map(
    (step) => `<text x="${x(step).toFixed(1)}" y="${height - 14}" text-anchor="middle">${step}</text>`,
  );
  const lines = results.map(({ row, curve }) => {
    const path = curve.map(
      ({ step, validationLoss }) => `${x(step).toFixed(1)},${y(validationLoss).toFixed(1)}`,
    );
    return `<polyline fill="none" stroke="${colors[row]}" stroke-width="2" points="${path.join(' ')}"/>`;
  });
  const legend = results.map(
    ({ row }, i) =>
      `<text x="${width - 24}" y="${28 + 18 * i}" text-anchor="end" style="fill:${colors[row]}">${row === 'original' ? 'original, K = 3' : `${row}, K = 1`}</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="Held-out loss of SmolLM2-135M with one key/value head over steps of uptraining"><rect width="100%" height="100%" fill="#fff"/>${[...grid, ...labels, ...lines, ...legend].join('')}</svg>\n`;
}
