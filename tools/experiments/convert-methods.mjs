/**
 * The GQA paper's Fig. 4 and 5, small: a multi-head GPT is trained, converted by each method to K = N/3 and 1, and uptrained for 1, 5
 * and 10 % of its steps; losses are on a part of the text that neither training nor calibration saw. Prints a table with the spread
 * over seeds.
 *
 * Usage: npm run build && node tools/experiments/convert-methods.mjs [--seeds 1,2,3] [--steps 1200] [--data moby-dick]
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1,2,3' },
    steps: { type: 'string', default: '1200' },
    data: { type: 'string', default: 'moby-dick' },
    threads: { type: 'string', default: '2' },
    dist: { type: 'string', default: fileURLToPath(new URL('../../dist', import.meta.url)) },
  },
});
const [N, BLOCK, BATCH] = [6, 64, 12];
const ALPHAS = [0, 0.01, 0.05, 0.1];
const METHODS = ['mean', 'first', 'random', 'similar', 'similar, no text'];
const load = (path) => import(join(values.dist, path));
const { convertCheckpoint } = await load('convert/index.js');
const { loadTrainableModel } = await load('models/trainable-model.js');
const { Trainer, evaluateTokens, splitTokens } = await load('train/index.js');
const { readTrainingText } = await load('cli/train-data.js');
const { setThreads } = await load('index.js');
setThreads(Number(values.threads));

const steps = Number(values.steps);
const text = await readTrainingText(values.data);
const calibration = text.slice(0, 20_000);
// From the validation share, which training does not see.
const heldOut = text.slice(Math.floor(text.length * 0.92), Math.floor(text.length * 0.92) + 9_000);
const folder = mkdtempSync(join(tmpdir(), 'gqa-methods-'));

function train(seed) {
  const out = join(folder, `seed-${seed}`);
  const sizes = [
    '--layers',
    '4',
    '--dim',
    '96',
    '--heads',
    `${N}`,
    '--block',
    `${BLOCK}`,
    '--batch',
    `${BATCH}`,
  ];
  const run = [
    '--steps',
    `${steps}`,
    '--eval-every',
    `${steps}`,
    '--seed',
    seed,
    '--threads',
    values.threads,
  ];
  execFileSync(
    process.execPath,
    [join(values.dist, 'cli/main.js'), 'train', '--data', values.data, '--out', out, ...sizes, ...run],
    {
      stdio: ['ignore', 'ignore', 'ignore'],
    },
  );
  return join(out, `step-${steps}`);
}

/** Losses after conversion and after each share of uptraining. */
async function losses(from, K, method) {
  const to = join(folder, 'converted');
  const [name, ...bare] = method.split(', ');
  const options = { from, to, numKeyValueHeads: K, method: name, force: true };
  await convertCheckpoint({ ...options, ...(name === 'similar' && bare.length === 0 && { calibration }) });
  const model = await loadTrainableModel(to);
  const tokens = Int32Array.from(model.tokenizer.encode(text));
  const held = model.tokenizer.encode(heldOut);
  const most = Math.round(ALPHAS.at(-1) * steps);
  const trainer = new Trainer(model, splitTokens(tokens, BLOCK, 0.1), {
    ...{ batchSize: BATCH, blockLength: BLOCK, steps: most, seed: 7 },
    ...{ learningRate: 5e-4, minLearningRate: 1e-4, warmupSteps: Math.min(5, most - 1) },
  });
  const out = [];
  for (const alpha of ALPHAS) {
    while (trainer.step < Math.round(alpha * steps)) trainer.advance();
    out.push(evaluateTokens(model, held, { context: BLOCK, batchSize: 16 }).loss);
  }
  model.dispose();
  return out;
}

const mean = (list) => list.reduce((sum, x) => sum + x, 0) / list.length;
const spread = (list) => Math.max(...list) - Math.min(...list);
const cell = (list) => `${mean(list).toFixed(3)} ±${(spread(list) / 2).toFixed(3)}`;

try {
  const before = [];
  const rows = new Map();
  for (const seed of values.seeds.split(',')) {
    const from = train(seed);
    before.push((await losses(from, N, 'mean'))[0]);
    for (const K of [N / 3, 1]) {
      for (const method of METHODS) {
        const key = `${K} | ${method}`;
        rows.set(key, [...(rows.get(key) ?? []), await losses(from, K, method)]);
        process.stderr.write(
          `seed ${seed}, K=${key}: ${rows
            .get(key)
            .at(-1)
            .map((x) => x.toFixed(3))
            .join(' ')}\n`,
        );
      }
    }
  }
  console.log(`multi-head (K=${N}): ${cell(before)} nats per character\n`);
  console.log(`| K | method | ${ALPHAS.map((alpha) => `alpha ${alpha}`).join(' | ')} |`);
  console.log(`| --- | --- | ${ALPHAS.map(() => '---').join(' | ')} |`);
  for (const [key, runs] of rows) {
    console.log(`| ${key} | ${ALPHAS.map((_, i) => cell(runs.map((run) => run[i]))).join(' | ')} |`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
