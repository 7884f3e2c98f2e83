/**
 * Checks the imports between the folders of src/ (ARCHITECTURE.md, "Layers"), type imports included:
 * - a folder imports only from folders below it (before it in LAYERS), and those of ONLY from fewer;
 * - `backend/reference/` is imported only from `backend`;
 * - Node built-ins are imported only by the files of NODE_ALLOWED;
 * - no chain of imports is a cycle.
 *
 * Usage: node scripts/check-imports.mjs [root]. Prints one line per problem; exit code 1 when there is one.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { dirname, join, relative, resolve, sep } from 'node:path';
import ts from 'typescript';

const LAYERS = [
  ...[
    'arguments',
    'page',
    'format',
    'files',
    'plan',
    'tensor',
    'backend',
    'autograd',
    'random',
    'ops',
    'cache',
    'nn',
    'flax',
  ],
  ...['text', 'checkpoint', 'models', 'train', 'convert', 'cli'],
];
/** Folders that may import from these folders only. */
const ONLY = {
  arguments: [],
  page: ['arguments'],
  format: ['arguments'],
  files: ['arguments', 'format'],
  plan: ['arguments', 'format', 'files'],
};
const NODE_ALLOWED = /^(backend\/(platform|native)|files\/node-|cli\/)/;

const source = join(resolve(process.argv[2] ?? '.'), 'src');
const files = readdirSync(source, { recursive: true })
  .map((path) => path.split(sep).join('/'))
  .filter((path) => /\.ts$/.test(path))
  .sort();
const problems = [];
/** File -> the files of src/ that it imports. */
const graph = new Map(files.map((file) => [file, []]));

// Files directly in src/ are entries: they may import from every folder, and nothing imports them.
const layerOf = (file) => (file.includes('/') ? file.slice(0, file.indexOf('/')) : 'entry');
const rank = (layer) => (layer === 'entry' ? LAYERS.length : LAYERS.indexOf(layer));

for (const file of files) {
  const layer = layerOf(file);
  if (rank(layer) < 0)
    problems.push(`src/${file}: folder ${layer} is missing in LAYERS of scripts/check-imports.mjs`);
  const text = readFileSync(join(source, file), 'utf8');
  for (const { fileName: specifier, pos } of ts.preProcessFile(text, true, true).importedFiles) {
    const fail = (rule) => {
      const line = text.slice(0, pos).split('\n').length;
      problems.push(`src/${file}:${line}: imports ${specifier}; ${rule}`);
    };
    if (!specifier.startsWith('.')) {
      if (isBuiltin(specifier)) {
        if (!specifier.startsWith('node:')) fail(`write node:${specifier}`);
        if (!NODE_ALLOWED.test(file))
          fail('only backend/platform, backend/native, files/node-* and cli may import Node built-ins');
      } else if (layer in ONLY) fail(`${layer} may import no package`);
      continue;
    }
    const target = relative(source, resolve(source, dirname(file), specifier))
      .split(sep)
      .join('/');
    if (target.startsWith('..')) fail('outside src/');
    else if (!existsSync(join(source, target))) fail('no such file');
    else {
      graph.get(file).push(target);
      const to = layerOf(target);
      const allowed = to === layer || (rank(to) < rank(layer) && (ONLY[layer]?.includes(to) ?? true));
      const rule = ONLY[layer] ? ONLY[layer].join(', ') || 'nothing' : 'folders below it';
      if (!allowed) fail(`${layer} may import ${rule}, not ${to}`);
      else if (target.startsWith('backend/reference/') && layer !== 'backend')
        fail('only backend may import backend/reference/');
    }
  }
}

const done = new Set();
const chain = [];
function visit(file) {
  const start = chain.indexOf(file);
  if (start >= 0) return problems.push(`cycle: ${[...chain.slice(start), file].join(' -> ')}`);
  if (done.has(file)) return;
  chain.push(file);
  for (const target of graph.get(file) ?? []) visit(target);
  chain.pop();
  done.add(file);
}
for (const file of files) visit(file);

if (problems.length > 0) {
  console.error(problems.join('\n'));
  process.exitCode = 1;
} else {
  console.log(`${files.length} files, no wrong import, no cycle`);
}
