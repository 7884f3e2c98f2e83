/**
 * Prints the tables of bench/README.md from a results file.
 *
 * Usage: node bench/readme-table.mjs [bench/results/<file>.json]   (default: the newest)
 */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { rateOf } from './roofs.mjs';
import { duration, percent, rate } from './table.mjs';

const folder = fileURLToPath(new URL('results/', import.meta.url));

function newest() {
  const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
  if (files.length === 0)
    throw new Error('expected a file in bench/results, got none (npm run bench writes one)');
  return `${folder}${files.sort().at(-1)}`;
}

/** Median and share of the roof, `1.23 ms (81 %)`, or tokens per second and share; for memory MiB. */
function cell(row, result, roofs) {
  if (!result) return '';
  if (result.median === undefined) return `${result.mostMiB.toFixed(0)} MiB`;
  const figure = result.tokensPerSecond
    ? `${result.tokensPerSecond.toFixed(0)} tokens/s`
    : duration(result.median);
  const roof = row.roof && rateOf(row.roof, roofs);
  return roof ? `${figure} (${percent(rate(row, result) / roof)})` : figure;
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

/**
 * A table of rows. `columns`: `[title, contender]`; the first is a row's subject where it has that contender,
 * and the other cells say how much faster the subject is.
 */
function rowsTable(title, columns, rows, roofs) {
  if (rows.length === 0) return;
  const lines = rows.map((row) => [
    row.name,
    ...columns.map(([, contender]) => {
      const result = row.results.find((r) => r.contender === contender);
      return result?.oursFaster ? peerCell(result) : cell(row, result, roofs);
    }),
  ]);
  console.log(`\n${table([title, ...columns.map(([name]) => name)], lines)}`);
}

function print({ machine, versions, contenders, roofs, rows, rounds, date, rotateBytes }) {
  const figures = Object.entries(roofs).map(([name, value]) => {
    const [kind, ...rest] = name.split(' ');
    const what = kind === 'read' || rest[0] === 'widest' ? kind : `${kind} ${rest[0]}`;
    return `${what} ${value.toFixed(0)} ${kind === 'read' ? 'GB/s' : 'GFLOP/s'} (${rest.at(-1)})`;
  });
  console.log(
    `${machine.cpu}, ${machine.processors} processors, last-level cache ${machine.lastLevelCacheMiB} MiB, ` +
      `commit ${versions.commit}, ${date.slice(0, 10)}, medians of ${rounds} rounds. Roofs (threads): ` +
      `${figures.join(', ')}; read over ${Math.round(rotateBytes / 2 ** 20)} MiB. ` +
      `${Object.entries(contenders)
        .map((pair) => pair.join(': '))
        .join('; ')}.`,
  );
  const wasm = ({ name }) => name.startsWith('WASM');
  const of = (section) => rows.filter((row) => row.section === section && row.results.length > 0);
  const operations = [...of('attention').filter((row) => !wasm(row)), ...of('linear')];
  const peers = [
    ['PyTorch (gqa is faster)', 'torch'],
    ['ONNX Runtime (gqa is faster)', 'onnxruntime'],
  ];
  const narrow = ({ results }) => results[0].contender.endsWith('bfloat16');
  rowsTable(
    'f32 products',
    [['gqa (of the roof)', 'native'], ...peers],
    operations.filter((row) => !narrow(row)),
    roofs,
  );
  rowsTable(
    'bf16 products',
    [['gqa bfloat16 (of the roof)', 'native bfloat16'], ['gqa highest', 'native'], peers[0]],
    operations.filter(narrow),
    roofs,
  );
  const inWasm = [
    ['gqa (of the roof)', 'wasm'],
    ['jax-js (gqa is faster)', 'jax-js'],
  ];
  rowsTable('attention in WASM, N32', inWasm, of('attention').filter(wasm), roofs);
  const models = [...of('model'), ...of('bf16 model')];
  const withSubject = (ending) => models.filter(({ results }) => results[0].contender.endsWith(ending));
  const llama = ['llama.cpp (gqa is faster)', 'llama.cpp'];
  rowsTable(
    'model, exact products',
    [['gqa native', 'model native'], ['gqa wasm', 'model wasm'], llama],
    withSubject('native'),
    roofs,
  );
  rowsTable(
    'model, int8',
    [['gqa native int8', 'model native int8'], ['gqa native', 'model native'], llama],
    withSubject('native int8'),
    roofs,
  );
  rowsTable(
    'model, int8, weights read into memory',
    [
      ['gqa native int8', 'model native int8 --no-mmap'],
      ['gqa native', 'model native --no-mmap'],
      ['llama.cpp (gqa is faster)', 'llama.cpp --no-mmap'],
    ],
    withSubject('native int8 --no-mmap'),
    roofs,
  );
  const int8 = [
    ['gqa wasm int8', 'model wasm int8'],
    ['gqa wasm', 'model wasm'],
  ];
  rowsTable('model in WASM, int8', int8, withSubject('wasm int8'), roofs);
  rowsTable(
    'model, bf16',
    [
      ['gqa bfloat16', 'model native bfloat16'],
      ['gqa highest', 'model native'],
      ['PyTorch bf16 (gqa is faster)', 'model torch'],
    ],
    withSubject('bfloat16'),
    roofs,
  );
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
