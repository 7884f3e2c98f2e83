/**
 * The experiment of docs/experiments/mla.md: SmolLM2-135M with its keys and values as one latent of some rank
 * (TransMLA, CARE), beside fewer key/value heads at the same size of the cache. Nothing is trained. What is
 * measured is kept in the work folder, and the same command goes on from there; with --write it renews the
 * page's tables and its plot.
 *
 * Usage: npm run build && node tools/experiments/mla.mjs --model SmolLM2-135M-Instruct.Q4_1.gguf
 *   [--work folder] [--threads 2] [--write]
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { exactness } from './mla/exactness.mjs';
import { latentLayer } from './mla/latent-layer.mjs';
import { METHODS, prepareLayer, ranksOf } from './mla/methods.mjs';
import { latentConfig, losses } from './mla/model.mjs';
import { plot, tables } from './mla/page.mjs';
import { layerStatistics } from './mla/statistics.mjs';
import { whiteningDistance } from './mla/whitening.mjs';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: process.env.GQA_MODEL },
    work: { type: 'string', default: join(tmpdir(), 'gqa-mla') },
    threads: { type: 'string', default: '2' },
    dist: { type: 'string', default: fileURLToPath(new URL('../../dist', import.meta.url)) },
    write: { type: 'boolean', default: false },
  },
});
if (values.model === undefined) throw new Error('expected --model <SmolLM2 .gguf> or GQA_MODEL');

/** Methods, each with numbers per token and layer in the cache: the mean, where layers differ. */
const CELLS = [
  ['original', 384],
  ...['similar', 'transmla', 'care', 'dearest', 'dearest16', 'attention', 'freqfold', 'weights', 'mean'].map(
    (method) => [method, 128],
  ),
  ...[192, 96, 256].flatMap((total) => ['dearest', 'transmla'].map((method) => [method, total])),
];
const TEXTS = ['prose', 'code', 'dialogue'];
/** Tokens of a row, and rows of each held-out text. */
const [LENGTH, ROWS] = [512, 2];
/** Tokens of a row, and rows of each of the two calibration texts. */
const [CALIBRATION_LENGTH, CALIBRATION_ROWS] = [256, 8];

const library = {};
for (const entry of [
  ...['index', 'convert/align-heads', 'convert/head-mix', 'convert/head-statistics', 'convert/mixed-layer'],
  ...['convert/opened-decoder', 'convert/similar', 'convert/symmetric-eigen', 'cli/read-text'],
  ...['models/decoder', 'models/decoder-pass', 'text/documents'],
]) {
  Object.assign(library, await import(pathToFileURL(join(values.dist, `${entry}.js`)).href));
}
const file = join(values.work, 'results.json');
mkdirSync(values.work, { recursive: true });
const results = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { losses: {} };
const missing = CELLS.filter(([method, total]) => !(`${method} ${total}` in results.losses));
if (missing.length > 0 || results.whitening === undefined) await measure();

const made = tables(results, TEXTS);
for (const [name, table] of Object.entries(made)) console.log(`${name}\n\n${table}\n`);
if (values.write) write();

async function measure() {
  library.setThreads(Number(values.threads));
  const decoder = await library.OpenedDecoder.open(values.model);
  const { config } = decoder;
  const planes = Array.from({ length: config.headDim / 2 }, (_, i) =>
    config.rope.interleaved ? [2 * i, 2 * i + 1] : [i, i + config.headDim / 2],
  );
  const rowsOf = (text, length, count) =>
    library
      .documentWindows(decoder.tokenizer.encode(text), library.documentStart(decoder.tokenizer), length)
      .slice(0, count);
  const folder = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
  const heldOut = TEXTS.map((name) =>
    rowsOf(readFileSync(folder(`demo/held-out/${name}.txt`), 'utf8'), LENGTH, ROWS),
  );
  const calibration = [];
  for (const source of ['moby-dick', folder('src/ops')]) {
    const text = (await library.readTrainingText(source)).slice(0, 40_000);
    calibration.push(...rowsOf(text, CALIBRATION_LENGTH, CALIBRATION_ROWS));
  }
  const statistics = layerStatistics(library, decoder, calibration);

  results.exactness ??= exactness(library, decoder, statistics, planes, heldOut[0][0].slice(0, 256));
  results.whitening ??= whiteningDistance(library, statistics[config.numLayers / 2], 128);
  save();
  const prepared = {};
  for (const [name, total] of missing) {
    const replaced = replacements(name, total);
    results.losses[`${name} ${total}`] = losses(library, decoder, heldOut, replaced);
    save();
  }
  decoder.dispose();

  /** The layers of a cell. */
  function replacements(name, total) {
    const { mixedLayer, layerMix } = library;
    if (name === 'original') return (index) => ({ layer: decoder.layers[index] });
    if (name === 'similar' || name === 'mean') {
      const mean = layerMix('mean', config.numHeads, config.numKeyValueHeads, 1);
      const mixOf = (index) => (name === 'mean' ? mean : statistics[index].similar);
      return (index) => ({ layer: mixedLayer(config, decoder.layers[index], mixOf(index)) });
    }
    const method = METHODS[name];
    const { ranks: _, ...kind } = method;
    const key = JSON.stringify(kind);
    prepared[key] ??= statistics.map((found) => prepareLayer(library, config, found, planes, method));
    const ranks = ranksOf(prepared[key], total - method.R, method);
    return (index) => {
      const { split, latent } = prepared[key][index];
      const [found, L] = [statistics[index], ranks[index]];
      const layer = latentLayer(library, config, decoder.layers[index], found, split, latent, L);
      return { layer, config: latentConfig(config, method.R + L), planes: split.planes };
    };
  }
}

function save() {
  const { user, system } = process.cpuUsage();
  process.stderr.write(
    `${JSON.stringify(results).slice(-160)} after ${((user + system) / 1e6).toFixed(0)} s\n`,
  );
  writeFileSync(file, `${JSON.stringify(results)}\n`);
}

function write() {
  const docs = new URL('../../docs/experiments/', import.meta.url);
  const page = new URL('mla.md', docs);
  let markdown = readFileSync(page, 'utf8');
  for (const [name, table] of Object.entries(made)) {
    const place = new RegExp(`(<!-- ${name} -->\\n)[\\s\\S]*?(<!-- end -->)`);
    if (!place.test(markdown)) throw new Error(`mla.md: expected a place for the table "${name}"`);
    markdown = markdown.replace(place, (_, start, end) => `${start}${table}\n${end}`);
  }
  writeFileSync(page, markdown);
  writeFileSync(new URL('mla.svg', docs), plot(results));
}
