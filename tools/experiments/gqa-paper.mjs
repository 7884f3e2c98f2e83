/**
 * The GQA paper (Ainslie et al. 2023, arXiv 2305.13245) on a scale of minutes: docs/experiments/gqa-paper.md.
 * Trains a small multi-head GPT, converts it by every method to every number of key/value heads, uptrains
 * each for a share of its steps, and times decoding. What is done is kept in the work folder: the same
 * command goes on from there. With --write it renews the page, its plots and its data.
 *
 * Usage: npm run build && node tools/experiments/gqa-paper.mjs [--seeds 1,2,3] [--steps 2000] [--threads 2]
 *   [--work folder] [--write]
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { describeMachine, describeVersions } from '../../bench/machine.mjs';
import { plots, tables } from './gqa-paper/page.mjs';
import { Results, runSeed } from './gqa-paper/runs.mjs';
import { timeDecoding } from './gqa-paper/timing.mjs';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1,2,3' },
    steps: { type: 'string', default: '2000' },
    threads: { type: 'string', default: '2' },
    work: { type: 'string', default: join(tmpdir(), 'gqa-paper') },
    dist: { type: 'string', default: fileURLToPath(new URL('../../dist', import.meta.url)) },
    write: { type: 'boolean', default: false },
  },
});
const seeds = values.seeds.split(',');
const steps = Number(values.steps);
const work = join(values.work, `${steps}-steps`);
mkdirSync(work, { recursive: true });
const library = {};
for (const entry of ['index', 'convert/index', 'train/index', 'random/index', 'cli/read-text']) {
  Object.assign(library, await import(pathToFileURL(join(values.dist, `${entry}.js`)).href));
}

library.setThreads(Number(values.threads));
const text = await library.readTrainingText('moby-dick');
const results = new Results(join(work, 'cells.jsonl'));
const cli = join(values.dist, 'cli/main.js');
for (const seed of seeds) {
  await runSeed(seed, { work, steps, threads: values.threads, cli, text, results, library });
}
library.setThreads(1);
const timing = timesOf(join(work, 'timing.json'));

const cells = results.all.filter(({ seed }) => seeds.includes(seed));
const report = { steps, seeds, cells, timing };
const made = tables(report);
for (const [name, table] of Object.entries(made)) console.log(`${name}\n\n${table}\n`);
if (values.write) write(made);

/** Decoding is timed once: delete the file to time it again. */
function timesOf(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    const rows = timeDecoding(library);
    writeFileSync(path, JSON.stringify(rows));
    return rows;
  }
}

function write(made) {
  const docs = new URL('../../docs/experiments/', import.meta.url);
  const page = new URL('gqa-paper.md', docs);
  let markdown = readFileSync(page, 'utf8');
  for (const [name, table] of Object.entries(made)) {
    const place = new RegExp(`(<!-- ${name} -->\\n)[\\s\\S]*?(<!-- end -->)`);
    if (!place.test(markdown)) throw new Error(`gqa-paper.md: expected a place for the table "${name}"`);
    markdown = markdown.replace(place, (_, start, end) => `${start}${table}\n${end}`);
  }
  writeFileSync(page, markdown);
  for (const [name, svg] of Object.entries(plots(report)))
    writeFileSync(new URL(`gqa-paper-${name}.svg`, docs), svg);
  const { cpu, processors, isa, system } = describeMachine();
  const about = { steps, seeds, machine: { cpu, processors, isa, system }, versions: describeVersions() };
  const lines = (rows) => `[\n${rows.map((row) => `    ${JSON.stringify(row)}`).join(',\n')}\n  ]`;
  writeFileSync(
    new URL('gqa-paper.json', docs),
    `{\n  "about": ${JSON.stringify(about)},\n  "cells": ${lines(cells)},\n  "timing": ${lines(timing)}\n}\n`,
  );
}
