/**
 * `npm run bench`: the speed of gqa beside its peers and the machine's roofs, in one run. Rows go to stdout;
 * a complete run is written to bench/results/<date>-<cpu>.json.
 *
 *   --only <names>     sections, comma-separated: roofs, attention, linear, model, bf16-model, scaling (default:
 *                      all)
 *   --match <text>     only rows whose name contains the text, such as `bf16`
 *   --quick            3 rounds, for a first look; not for figures on a page
 *   --rounds <n>       turns of each contender per row (default 15)
 *   --threads <list>   numbers of threads (default 1,2; those above the number of processors are left out)
 *   --out <file>       the results file; a partial or quick run is written only with this option
 *   --install          installs the JavaScript peers into bench/peers first
 *
 * GQA_BENCH_PYTHON names a Python with torch, GQA_MODELS a folder of models.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { attention } from './attention.mjs';
import { linear } from './linear.mjs';
import { describeMachine, describeVersions, memoryBytes } from './machine.mjs';
import { bf16Model, model } from './model.mjs';
import { installPeers } from './peers.mjs';
import { measureRoofs, Roofs } from './roofs.mjs';
import { Contenders } from './rows.mjs';
import { growth, scaling } from './scaling.mjs';
import { rowText } from './table.mjs';

const SECTIONS = ['roofs', 'attention', 'linear', 'model', 'bf16-model', 'scaling'];

function options() {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      match: { type: 'string' },
      quick: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      threads: { type: 'string', default: '1,2' },
      out: { type: 'string' },
      install: { type: 'boolean', default: false },
    },
  });
  const sections = values.only?.split(',') ?? SECTIONS;
  const unknown = sections.filter((name) => !SECTIONS.includes(name));
  if (unknown.length > 0)
    throw new RangeError(`--only: expected ${SECTIONS.join(', ')}, got ${unknown.join(', ')}`);
  const threads = values.threads.split(',').map(Number);
  if (!threads.every((n) => Number.isInteger(n) && n >= 1 && n <= 64)) {
    throw new RangeError(`--threads: expected integers from 1 to 64, got ${values.threads}`);
  }
  const rounds = Number(values.rounds ?? (values.quick ? 3 : 15));
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new RangeError(`--rounds: expected an integer >= 1, got ${values.rounds}`);
  const complete = !values.quick && !values.match && sections.length === SECTIONS.length;
  return {
    ...values,
    sections,
    threads: threads.filter((n) => n <= os.availableParallelism()),
    rounds,
    complete,
  };
}

async function main() {
  const wanted = options();
  if (!existsSync(new URL('../dist/index.js', import.meta.url)))
    throw new Error('expected dist/, got none (run npm run build first)');
  if (wanted.install) installPeers();
  const machine = describeMachine();
  const versions = describeVersions();
  const busy = machine.loadBefore / machine.processors;
  console.log(
    `${machine.cpu}, ${machine.processors} processors, ${machine.isa.join(' ')}; gqa ${versions.commit}, Node ${versions.node}`,
  );
  if (busy > 0.3)
    console.log(
      `warning: other programs are running (load ${machine.loadBefore.toFixed(1)}): the figures will not be reliable`,
    );

  const rotateBytes = memoryBytes();
  const roofs = await Roofs.start();
  if (roofs.missing) console.log(`skipped: roofs: ${roofs.missing}`);
  const contenders = new Contenders();
  const rows = [];
  const section = {
    ...wanted,
    milliseconds: 40,
    starts: wanted.quick ? 2 : 7,
    rotateBytes,
    roofs,
    contenders,
    descriptions: {},
    report(row) {
      rows.push(row);
      console.log(rowText(row, row.roof && roofs.get(row.roof)));
    },
  };
  try {
    if (!roofs.missing) await measureRoofs(roofs, wanted.threads, wanted.quick ? 3 : 10);
    console.log(roofsText(roofs.best));
    if (wanted.sections.includes('attention')) await attention(section);
    if (wanted.sections.includes('linear')) await linear(section);
    if (wanted.sections.includes('scaling')) {
      await scaling(section);
      console.log('growth per doubling');
      for (const { from, to, time, work } of growth(rows.filter((row) => row.section === 'scaling'))) {
        console.log(`  ${from} -> ${to}: ${time.toFixed(2)}x time for ${work.toFixed(2)}x work`);
      }
    }
    Object.assign(section.descriptions, contenders.descriptions);
    await contenders.stop();
    if (wanted.sections.includes('model')) await model(section);
    if (wanted.sections.includes('bf16-model')) await bf16Model(section);
    if (!roofs.missing) await measureRoofs(roofs, wanted.threads, 2);
  } finally {
    await contenders.stop();
    await roofs.stop();
  }
  console.log(roofsText(roofs.best));
  machine.loadAfter = os.loadavg()[0];
  const date = new Date().toISOString();
  const cpu =
    machine.cpu
      .toLowerCase()
      .replace(/\(r\)|\(tm\)/g, '')
      .match(/[a-z0-9]+/g)
      ?.join('-') ?? 'cpu';
  const own = fileURLToPath(new URL(`results/${date.slice(0, 10)}-${cpu}.json`, import.meta.url));
  const out = wanted.out ?? (wanted.complete ? own : undefined);
  if (!out) return;
  const { rounds, quick, threads } = wanted;
  const result = {
    date,
    machine,
    versions,
    contenders: section.descriptions,
    rounds,
    quick,
    threads,
    rotateBytes,
  };
  mkdirSync(dirname(out), { recursive: true });
  writeFileSync(out, `${JSON.stringify({ ...result, roofs: roofs.best, rows }, rounded, 1)}\n`);
  console.error(`written to ${out}`);
}

function roofsText(best) {
  const parts = Object.entries(best).map(([name, value]) => {
    const [kind, ...rest] = name.split(' ');
    const what = kind === 'read' || rest[0] === 'widest' ? kind : `${kind} ${rest[0]}`;
    return `${what} ${value.toFixed(1)} ${kind === 'read' ? 'GB/s' : 'GFLOP/s'} (${rest.at(-1)})`;
  });
  return `roofs (threads): ${parts.join(', ') || 'none'}`;
}

/** Rounds to six digits, more than the clock resolves. */
function rounded(_, value) {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value;
}

try {
  await main();
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exitCode = error instanceof RangeError ? 2 : 1;
}
