/**
 * The arrows between the folders of src/ (ARCHITECTURE.md, "Layers"): a folder imports only from folders above it in
 * LAYERS, `arguments` imports nothing and `page` and `format` only that, `backend/reference/` is for `backend` alone,
 * Node's built-ins stay where a file, a process or an addon is at hand, and no chain of imports is a cycle. Types
 * count: a type that points down the list is a wrong arrow too.
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
/** Folders that may import less than everything above them. */
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

// Files directly in src/ are entries: they see every folder and nothing imports them.
const layerOf = (file) => (file.includes('/') ? file.slice(0, file.indexOf('/')) : 'entry');
const rank = (layer) => (layer === 'entry' ? LAYERS.length : LAYERS.indexOf(layer));

for (const file of files) {
  const layer = layerOf(file);
  if (rank(layer) < 0)
    problems.push(`src/${file}: folder ${layer} has no place in scripts/check-imports.mjs LAYERS`);
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
          fail('Node built-ins only in backend/platform, backend/native, files/node-*, cli');
      } else if (layer in ONLY) fail(`${layer} imports nothing from outside`);
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
      if (!allowed)
        fail(`${layer} may import ${ONLY[layer]?.join(', ') || 'only folders above it'}, ${to} is not`);
      else if (target.startsWith('backend/reference/') && layer !== 'backend')
        fail('backend/reference/ only from backend');
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
  console.log(`${files.length} files, every arrow up, no cycle`);
}
