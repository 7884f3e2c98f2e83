/**
 * Checks the imports between the folders of src/ (ARCHITECTURE.md, "Layers"), type imports included:
 * - a folder imports only from folders below it (before it in LAYERS), and those of ONLY from fewer;
 * - `backend/reference/` is imported only from `backend`;
 * - outside cli nothing but types is imported from Node built-ins: library code has them from platform/node.ts,
 *   which alone asks whether there is a `process`;
 * - no top-level await outside cli: Node's `require` refuses it;
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
    'platform',
    'arguments',
    'worker',
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
  platform: [],
  arguments: [],
  worker: ['arguments'],
  page: ['arguments'],
  format: ['arguments'],
  files: ['arguments', 'format', 'platform'],
  plan: ['arguments', 'format', 'files'],
};

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
  const { imports, topLevelAwaits, processTests } = parse(file);
  if (layer !== 'cli') {
    for (const line of topLevelAwaits) problems.push(`src/${file}:${line}: top-level await`);
    for (const line of layer === 'platform' ? [] : processTests)
      problems.push(`src/${file}:${line}: tests for process; isNode of platform/node.ts does`);
  }
  for (const { specifier, isType, line } of imports) {
    const fail = (rule) => problems.push(`src/${file}:${line}: imports ${specifier}; ${rule}`);
    if (!specifier.startsWith('.')) {
      if (isBuiltin(specifier)) {
        if (!specifier.startsWith('node:')) fail(`write node:${specifier}`);
        if (layer !== 'cli' && !isType) fail('only cli may; platform/node.ts has them for library code');
      } else if (layer in ONLY) fail(`${layer} may import no package`);
      continue;
    }
    const target = relative(source, resolve(source, dirname(file), specifier))
      .split(sep)
      .join('/');
    if (target.startsWith('..')) fail('outside src/');
    // Modules that the build writes are declared by a .d.ts file.
    else if (![target, target.replace(/\.js$/, '.d.ts')].some((path) => existsSync(join(source, path))))
      fail('no such file');
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

/** What the rules need of a file: its imports, and the lines of top-level awaits and of `typeof process`. */
function parse(file) {
  const text = readFileSync(join(source, file), 'utf8');
  const tree = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, false);
  const lineOf = (node) => tree.getLineAndCharacterOfPosition(node.getStart(tree)).line + 1;
  const found = { imports: [], topLevelAwaits: [], processTests: [] };
  const add = (literal, isType) => {
    if (literal && ts.isStringLiteralLike(literal))
      found.imports.push({ specifier: literal.text, isType, line: lineOf(literal) });
  };
  function visit(node, isTopLevel) {
    if (ts.isImportDeclaration(node)) add(node.moduleSpecifier, node.importClause?.isTypeOnly ?? false);
    else if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, node.isTypeOnly);
    else if (ts.isImportTypeNode(node)) add(node.argument.literal, true);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
      add(node.arguments[0], false);
    else if (ts.isTypeOfExpression(node) && node.expression.text === 'process')
      found.processTests.push(lineOf(node));
    const isAwait = ts.isAwaitExpression(node) || (ts.isForOfStatement(node) && node.awaitModifier);
    if (isAwait && isTopLevel) found.topLevelAwaits.push(lineOf(node));
    const isInside = !isTopLevel || ts.isFunctionLike(node) || ts.isClassLike(node);
    ts.forEachChild(node, (child) => visit(child, !isInside));
  }
  visit(tree, true);
  return found;
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
