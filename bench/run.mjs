/**
 * `npm run bench`: our speed beside the peers' and the machine's roofs, in one run. Tables go to stdout, progress to
 * stderr, and a complete run to results/<date>-<cpu>.json.
 *
 *   --only <names>   sections, comma-separated: roofs, attention, model, scaling (default: all)
 *   --quick          few rounds: for looking, not for citing
 *   --rounds <n>     turns of each contender per row (default 15)
 *   --threads <list> default 1,2 (no more than the processors)
 *   --out <file>     where the JSON goes; a partial or quick run is written only with this
 *   --install        first installs the JavaScript peers into bench/peers
 *
 * PyTorch: GQA_BENCH_PYTHON=<python with torch>. Models: GQA_MODELS=<folder>.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { attention } from './attention.mjs';
import { describeMachine, describeVersions, lastLevelCache } from './machine.mjs';
import { model } from './model.mjs';
import { installPeers } from './peers.mjs';
import { measureRoofs, Roofs } from './roofs.mjs';
import { Stage } from './rows.mjs';
import { growth, scaling } from './scaling.mjs';
import { rowText } from './table.mjs';

const SECTIONS = ['roofs', 'attention', 'model', 'scaling'];

function options() {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
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
    throw new RangeError(`--rounds: expected a count, got ${values.rounds}`);
  const complete = !values.quick && sections.length === SECTIONS.length;
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
    throw new Error('no dist/: run npm run build first');
  if (wanted.install) installPeers();
  const machine = describeMachine();
  const versions = describeVersions();
  const busy = machine.loadBefore / machine.processors;
  console.log(
    `${machine.cpu}, ${machine.processors} processors, ${machine.isa.join(' ')}; gqa ${versions.commit}, Node ${versions.node}`,
  );
  if (busy > 0.3)
    console.log(
      `warning: the machine is busy (load ${machine.loadBefore.toFixed(1)}); medians will say little`,
    );

  // Twice the last-level cache, as far as memory allows three programs to hold it.
  const rotateBytes = Math.min(2 * lastLevelCache(), os.totalmem() / 10);
  const roofs = new Roofs(rotateBytes);
  if (roofs.missing) console.log(`skipped: roofs: ${roofs.missing}`);
  const stage = new Stage();
  const rows = [];
  const section = {
    ...wanted,
    milliseconds: 40,
    starts: wanted.quick ? 2 : 7,
    rotateBytes,
    roofs,
    stage,
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
    if (wanted.sections.includes('scaling')) {
      await scaling(section);
      console.log('growth per doubling');
      for (const { from, to, time, work } of growth(rows.filter((row) => row.section === 'scaling'))) {
        console.log(`  ${from} -> ${to}: ${time.toFixed(2)}x time for ${work.toFixed(2)}x work`);
      }
    }
    Object.assign(section.descriptions, stage.descriptions);
    await stage.stop();
    if (wanted.sections.includes('model')) await model(section);
    if (!roofs.missing) await measureRoofs(roofs, wanted.threads, 2);
  } finally {
    await stage.stop();
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
    const threads = rest.at(-1);
    const what = kind === 'read' ? 'read' : `FMA${rest[0] === 'widest' ? '' : ` ${rest[0]}-bit`}`;
    return `${what} ${value.toFixed(1)} ${kind === 'read' ? 'GB/s' : 'GFLOP/s'} (${threads})`;
  });
  return `roofs (threads): ${parts.join(', ') || 'none'}`;
}

/** Six digits are more than the clock gives. */
function rounded(_, value) {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value;
}

try {
  await main();
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exitCode = error instanceof RangeError ? 2 : 1;
}
