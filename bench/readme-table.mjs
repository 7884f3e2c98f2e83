/**
 * Prints the tables of bench/README.md from a results file.
 *
 * Usage: node bench/readme-table.mjs [bench/results/<file>.json]   (default: the newest)
 */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Roofs } from './roofs.mjs';
import { duration, percent } from './table.mjs';

const folder = fileURLToPath(new URL('results/', import.meta.url));

function newest() {
  const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
  if (files.length === 0)
    throw new Error('expected a file in bench/results, got none (npm run bench writes one)');
  return `${folder}${files.sort().at(-1)}`;
}

/** Median and share of the roof, `1.23 ms (81 %)`; for a model tokens per second; for memory MiB. */
function cell(row, result, roofs) {
  if (!result) return '';
  if (result.tokensPerSecond) return `${result.tokensPerSecond.toFixed(0)} tokens/s`;
  if (result.median === undefined) return `${result.mostMiB.toFixed(0)} MiB`;
  const roof = row.roof && roofs[Roofs.nameOf(row.roof)];
  if (!roof || !result.gflops) return duration(result.median);
  return `${duration(result.median)} (${percent((row.roof.kind === 'fma' ? result.gflops : result.gbs) / roof)})`;
}

function peerCell(result) {
  if (!result) return '';
  const faster = result.oursFaster === undefined ? '' : ` (${result.oursFaster.toFixed(2)}x)`;
  return (
    (result.tokensPerSecond ? `${result.tokensPerSecond.toFixed(0)} tokens/s` : duration(result.median)) +
    faster
  );
}

function table(head, lines) {
  const all = [head, head.map(() => '---'), ...lines];
  return all.map((line) => `| ${line.join(' | ')} |`).join('\n');
}

function print({ machine, versions, contenders, roofs, rows, rounds, date }) {
  const roof = (kind, threads) => roofs[Roofs.nameOf({ kind, threads })]?.toFixed(0) ?? '?';
  console.log(
    `${machine.cpu}, ${machine.processors} processors; FMA peak ${roof('fma', 1)} and ${roof('fma', 2)} GFLOP/s, read ${roof('read', 1)} and ${roof('read', 2)} GB/s on 1 and 2 threads; commit ${versions.commit}, ${date.slice(0, 10)}, medians of ${rounds} rounds. ${Object.entries(
      contenders,
    )
      .filter(([name]) => !name.startsWith('model'))
      .map(([name, description]) => `${name}: ${description}`)
      .join('; ')}.\n`,
  );
  const find = (row, name) => row.results.find(({ contender }) => contender === name);
  const attention = rows.filter(({ section, name }) => section === 'attention' && !name.startsWith('WASM'));
  console.log(
    table(
      ['attention, N32', 'gqa (of the roof)', 'PyTorch (gqa is faster)', 'ONNX Runtime (gqa is faster)'],
      attention.map((row) => [
        row.name,
        cell(row, find(row, 'native'), roofs),
        peerCell(find(row, 'torch')),
        peerCell(find(row, 'onnxruntime')),
      ]),
    ),
  );
  const wasm = rows.filter(({ section, name }) => section === 'attention' && name.startsWith('WASM'));
  if (wasm.length > 0) {
    const lines = wasm.map((row) => [
      row.name.replace('WASM ', ''),
      cell(row, find(row, 'wasm'), roofs),
      peerCell(find(row, 'jax-js')),
    ]);
    console.log(
      `\n${table(['attention in WASM, N32', 'gqa (of the roof)', 'jax-js (gqa is faster)'], lines)}`,
    );
  }
  const model = rows.filter(({ section, results }) => section === 'model' && results.length > 0);
  if (model.length > 0) {
    const lines = model.map((row) => [
      row.name,
      cell(row, find(row, 'model native'), roofs),
      cell(row, find(row, 'model wasm'), roofs),
      row.results.some(({ oursFaster }) => oursFaster)
        ? peerCell(find(row, 'llama.cpp'))
        : cell(row, find(row, 'llama.cpp'), roofs),
    ]);
    console.log(`\n${table(['model', 'gqa native', 'gqa wasm', 'llama.cpp (gqa is faster)'], lines)}`);
  }
  const skipped = rows.flatMap(({ name, skipped }) =>
    skipped.map(({ contender, reason }) => `- ${name}: ${contender}: ${reason}`),
  );
  if (skipped.length > 0) console.log(`\nSkipped:\n\n${skipped.join('\n')}`);
}

try {
  print(JSON.parse(readFileSync(process.argv[2] ?? newest(), 'utf8')));
} catch (error) {
  console.error(`readme-table: ${error.message}`);
  process.exitCode = 1;
}
