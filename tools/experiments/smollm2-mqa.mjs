/**
 * The experiment of docs/experiments/smollm2-mqa.md: SmolLM2-135M-Instruct (9 query heads on 3 key/value heads)
 * converted to one key/value head, by merging alone and with distillation, and judged on the held-out texts of
 * this package by loss, KL and what the models write. Each row is a process of its own, and a file; rows that
 * exist are not run again. With --write, the page's tables are renewed from the files.
 *
 * The texts to learn from are those of this repository, the novel Moby-Dick and, from the sources of the brotli
 * package on PyPI, a play and a technical report:
 *   pip download --no-deps --no-binary :all: brotli==1.2.1, unpack, --testdata brotli-1.2.1/tests/testdata
 *
 * Usage: npm run build && node tools/experiments/smollm2-mqa.mjs --model SmolLM2-135M-Instruct.Q4_1.gguf
 *   --testdata <folder> [--folder smollm2-mqa] [--seeds 1,2,3] [--threads 2] [--write]
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: process.env.GQA_MODEL },
    testdata: { type: 'string' },
    folder: { type: 'string', default: 'smollm2-mqa' },
    seeds: { type: 'string', default: '1,2,3' },
    threads: { type: 'string', default: '2' },
    write: { type: 'boolean', default: false },
    /** One row, in this process; what the script starts itself with. */
    one: { type: 'string' },
  },
});
if (values.model === undefined) throw new Error('expected --model <SmolLM2 .gguf> or GQA_MODEL');
const root = fileURLToPath(new URL('../..', import.meta.url));
const load = (path) => import(join(root, 'dist', path));

/** Steps of each layer, and final ones. */
const [STEPS, FINAL_STEPS] = [800, 800];
/** Characters of a piece of the text. */
const PIECE = 2_000;
const seeds = values.seeds.split(',').map(Number);
/** By name: how the converted model is made, with a seed. */
const ROWS = {
  mean: () => ({ method: 'mean' }),
  similar: () => ({ method: 'similar' }),
  distilled: (seed) => ({ method: 'similar', distill: { steps: STEPS, finalSteps: FINAL_STEPS, seed } }),
};
/** By name: what the tables call it. */
const LABELS = {
  mean: '`mean`',
  similar: '`similar`',
  distilled: `distilled, ${STEPS} steps per layer, then ${FINAL_STEPS} final steps`,
};
const rows = [...['mean', 'similar'].map((name) => `${name} 0`), ...seeds.map((seed) => `distilled ${seed}`)];

if (values.one !== undefined) await runRow(values.one);
else {
  mkdirSync(values.folder, { recursive: true });
  for (const row of values.write ? [] : rows) {
    // A process each, so that time and the peak of memory are the row's own.
    if (!existsSync(fileOf(row))) {
      execFileSync(process.execPath, [...process.argv.slice(1), '--one', row], { stdio: 'inherit' });
    }
  }
  const results = rows.filter((row) => existsSync(fileOf(row))).map((row) => read(fileOf(row)));
  const tables = { losses: lossTable(results), answers: answerTable(results), cost: costTable(results) };
  for (const table of Object.values(tables)) console.log(`${table}\n`);
  if (values.write) writePage(tables);
}

function fileOf(row) {
  return join(values.folder, `${row.replace(' ', '-')}.json`);
}

function read(path) {
  return JSON.parse(readFileSync(path, 'utf8'));
}

async function runRow(row) {
  const { convertCheckpoint, measureDrift } = await load('convert/index.js');
  const { setMatmulPrecision, setThreads, getBackend } = await load('index.js');
  const { heldOutTexts } = await load('cli/held-out-texts.js');
  await setThreads(Number(values.threads));
  const [name, seed] = row.split(' ');
  const { method, distill } = ROWS[name](Number(seed));
  const text = await trainingText();
  const to = join(values.folder, `${name}-${seed}.gguf`);
  const start = { time: performance.now(), processor: process.cpuUsage() };
  setMatmulPrecision('bfloat16');
  const result = await convertCheckpoint({
    ...{ from: values.model, to, numKeyValueHeads: 1, method, force: true },
    ...(method === 'similar' && { calibration: text.slice(0, 40_000) }),
    ...(distill && { distill: { text, ...distill } }),
    onProgress: (done, total, _phase, activity) => {
      if (process.stderr.isTTY) process.stderr.write(`\r${row}: ${activity}, ${done} of ${total}   `);
    },
  });
  setMatmulPrecision('highest');
  const { user, system } = process.cpuUsage(start.processor);
  const cost = {
    minutes: (performance.now() - start.time) / 60e3,
    processorMinutes: (user + system) / 60e6,
    peakMemory: process.resourceUsage().maxRSS * 1024,
  };
  const drift = await measureDrift({ from: values.model, to, result, texts: await heldOutTexts() });
  const { texts, answers } = drift;
  const { description } = getBackend();
  writeFileSync(fileOf(row), `${JSON.stringify({ row, name, texts, answers, cost, description })}\n`);
}

/** Texts of several kinds, in pieces that are mixed evenly: each part of the result has the shares of the whole. */
async function trainingText() {
  if (values.testdata === undefined) throw new Error('expected --testdata <brotli tests/testdata>');
  const { readTrainingText } = await load('cli/read-text.js');
  const play = readFileSync(join(values.testdata, 'asyoulik.txt'), 'latin1');
  const texts = [
    await readTrainingText('moby-dick'),
    // Without its first scene, which is among the held-out texts.
    speeches(play.slice(play.indexOf('SCENE II\t'))),
    paragraphs(readFileSync(join(values.testdata, 'lcet10.txt'), 'latin1')),
    sources('src', '.ts', 500_000),
    ...['bench', 'scripts', 'tools'].map((folder) => sources(folder, '.mjs', 150_000)),
    sources('tools/golden', '.py', 150_000),
  ];
  const pieces = texts.flatMap((text) => {
    const count = Math.ceil(text.length / PIECE);
    return Array.from({ length: count }, (_, i) => [
      (i + 0.5) / count,
      text.slice(i * PIECE, (i + 1) * PIECE),
    ]);
  });
  return pieces
    .sort(([a], [b]) => a - b)
    .map(([, piece]) => piece)
    .join('\n');
}

/** A line for each speech, as `demo/held-out/dialogue.txt` has them. */
function speeches(play) {
  return play
    .replace(/\[[^\]]*\]/g, '')
    .split(/\n(?=[A-Z ]+\t)/)
    .map((speech) => speech.replace('\t', ': ').replace(/\s+/g, ' ').trim())
    .join('\n\n');
}

function paragraphs(text) {
  return text
    .split(/\n\s*\n/)
    .map((part) => part.replace(/\s+/g, ' ').trim())
    .join('\n\n');
}

/** Whole files, at equal distances in the order of their names. */
function sources(folder, ending, characters) {
  const files = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending) && !name.includes('node_modules'))
    .sort()
    .map((name) => readFileSync(join(root, folder, name), 'utf8'));
  const step = Math.max(1, files.reduce((sum, file) => sum + file.length, 0) / characters);
  return Array.from({ length: Math.floor(files.length / step) }, (_, i) => files[Math.floor(i * step)]).join(
    '\n',
  );
}

function mean(list) {
  return list.reduce((sum, value) => sum + value, 0) / list.length;
}

/** Mean and standard deviation of a number of several results. */
function spread(list, digits) {
  const middle = mean(list);
  if (list.length === 1) return middle.toFixed(digits);
  const deviation = Math.sqrt(
    mean(list.map((value) => (value - middle) ** 2)) * (list.length / (list.length - 1)),
  );
  return `${middle.toFixed(digits)} ± ${deviation.toFixed(digits)}`;
}

/** Results by name, in the order of ROWS. */
function groups(results) {
  return Object.keys(ROWS)
    .map((name) => [LABELS[name], results.filter((result) => result.name === name)])
    .filter(([, group]) => group.length > 0);
}

function table(head, lines) {
  return [head, head.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function lossTable(results) {
  const kinds = Object.keys(results[0].texts);
  const original = [
    'the original, K = 3',
    ...kinds.map((kind) => results[0].texts[kind].before.loss.toFixed(3)),
  ];
  const lines = groups(results).map(([label, group]) => [
    label,
    ...kinds.map((kind) => {
      const above = group.map(({ texts }) => texts[kind].after.loss - texts[kind].before.loss);
      const kl = mean(group.map(({ texts }) => texts[kind].kl));
      return `+${spread(above, 3)} (KL ${kl.toFixed(3)})`;
    }),
  ]);
  return table(['made by', ...kinds], [original, ...lines]);
}

function answerTable(results) {
  const percent = (list) =>
    `${spread(
      list.map((value) => 100 * value),
      1,
    )} %`;
  const { generation, cloze } = results[0].answers;
  const original = [
    'the original, K = 3',
    '32',
    percent([generation.repetition.before]),
    percent([cloze.accuracy.before]),
  ];
  const lines = groups(results).map(([label, group]) => [
    label,
    spread(
      group.map(({ answers }) => answers.generation.agreement),
      1,
    ),
    percent(group.map(({ answers }) => answers.generation.repetition.after)),
    percent(group.map(({ answers }) => answers.cloze.accuracy.after)),
  ]);
  const head = [
    'made by',
    `same first tokens of 32, ${generation.prompts} prompts`,
    'repeated 4-grams',
    `last words found, ${cloze.questions} sentences`,
  ];
  return table(head, [original, ...lines]);
}

function costTable(results) {
  const lines = groups(results).map(([label, group]) => [
    label,
    ...['minutes', 'processorMinutes'].map((key) =>
      spread(
        group.map(({ cost }) => cost[key]),
        1,
      ),
    ),
    (Math.max(...group.map(({ cost }) => cost.peakMemory)) / 1e9).toFixed(2),
  ]);
  return table(['made by', 'minutes', 'processor minutes', 'peak memory, GB'], lines);
}

function writePage(tables) {
  const page = new URL('../../docs/experiments/smollm2-mqa.md', import.meta.url);
  let text = readFileSync(page, 'utf8');
  for (const [name, content] of Object.entries(tables)) {
    text = text.replace(new RegExp(`(<!-- ${name} -->\n)[\\s\\S]*?(<!-- end -->)`), `$1${content}\n$2`);
  }
  writeFileSync(page, text);
}
