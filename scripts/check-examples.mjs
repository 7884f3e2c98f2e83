/**
 * Type-checks the examples that are not run, with strict options as in a user's project: every `@example` of
 * src/, and the ts blocks of README.md and the pages of docs/ without `run` (check-readme.mjs runs the others). All
 * examples are compiled as one program, which takes seconds. A name that an example does not declare is
 * imported, first from the entry whose folder it is in, or is one of GIVEN.
 *
 * Usage: node scripts/check-examples.mjs [root]. Prints one line per problem; exit code 1 when there is one.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve, sep } from 'node:path';
import ts from 'typescript';
import { docsPages } from './docs-pages.mjs';

const TENSOR = "import('gqa').Tensor";
/** Names that examples may use without declaring them, and their types. */
const GIVEN = {
  ...{ q: TENSOR, k: TENSOR, v: TENSOR, x: TENSOR, Q: TENSOR, K: TENSOR, V: TENSOR },
  ...{ from: 'string', to: 'string', text: 'string', tokens: 'number[][]' },
  model: "import('gqa/train').TrainableModel",
  layer: "import('gqa/nn').Module",
  cache: "import('gqa/cache').KeyValueCache",
  optimizer: "import('gqa/train').Optimizer",
  result: "import('gqa/convert').ConvertResult",
};

const root = resolve(process.argv[2] ?? '.');
const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile);
const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
const names = readdirSync(join(root, 'src')).filter((name) => existsSync(join(root, `src/${name}/index.ts`)));
const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const entries = ['gqa', ...names.filter((name) => `./${name}` in exports).map((name) => `gqa/${name}`)];

/** The line number of position `index`. */
const lineAt = (text, index) => text.slice(0, index).split('\n').length;

/** @returns {{ where: string, folder: string, body: string }[]} */
function examples() {
  const found = [];
  for (const path of readdirSync(join(root, 'src'), { recursive: true }).map((name) =>
    name.split(sep).join('/'),
  )) {
    if (!path.endsWith('.ts')) continue;
    const text = readFileSync(join(root, 'src', path), 'utf8');
    for (const comment of text.matchAll(/\/\*\*[\s\S]*?\*\//g)) {
      for (const example of comment[0].matchAll(/@example([\s\S]*?)(?=\n\s*\* (?:@|Source:)|\*\/)/g)) {
        const where = `src/${path}:${lineAt(text, comment.index + example.index)}`;
        found.push({ where, folder: path.split('/')[0], body: example[1].replace(/^\s*\* ?/gm, '') });
      }
    }
  }
  for (const page of ['README.md', ...docsPages(root)].filter((name) => existsSync(join(root, name)))) {
    const text = readFileSync(join(root, page), 'utf8');
    for (const block of text.matchAll(/^```ts[ \t]*\n([\s\S]*?)^```/gm)) {
      found.push({ where: `${page}:${lineAt(text, block.index)}`, folder: '', body: block[1] });
    }
  }
  return found;
}

/** Entry -> the names of its exports, types included. */
function exportsOf() {
  const file = (entry) => join(root, entry === 'gqa' ? 'src/index.ts' : `src/${entry.slice(4)}/index.ts`);
  const program = ts.createProgram(entries.map(file), options);
  const checker = program.getTypeChecker();
  return new Map(
    entries.map((entry) => {
      const module = checker.getSymbolAtLocation(program.getSourceFile(file(entry)));
      return [entry, new Set(checker.getExportsOfModule(module).map((symbol) => symbol.name))];
    }),
  );
}

/** The example as a module: with imports of the exports it uses and declarations of the names of GIVEN. */
function moduleOf({ folder, body }, exported) {
  const own = entries.includes(`gqa/${folder}`) ? [`gqa/${folder}`] : [];
  const source = ts.createSourceFile('x.ts', body, ts.ScriptTarget.ESNext, true);
  const used = new Set();
  const made = new Set();
  const visit = (node) => {
    if (ts.isIdentifier(node)) {
      const { parent } = node;
      const isName =
        (ts.isVariableDeclaration(parent) || ts.isParameter(parent) || ts.isBindingElement(parent)) &&
        parent.name === node;
      if (isName || ts.isImportSpecifier(parent)) made.add(node.text);
      else if (!(ts.isPropertyAccessExpression(parent) && parent.name === node)) used.add(node.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  const head = [];
  for (const name of used) {
    if (made.has(name)) continue;
    const entry = [...own, ...entries].find((candidate) => exported.get(candidate)?.has(name));
    if (entry) head.push(`import { ${name} } from '${entry}';`);
    else if (name in GIVEN) head.push(`declare const ${name}: ${GIVEN[name]};`);
  }
  return `${head.join('\n')}\n${body}\nexport {};\n`;
}

const found = examples();
const exported = exportsOf();
const files = new Map(
  found.map((example, i) => [join(root, `example-${i}.ts`), moduleOf(example, exported)]),
);
const strict = {
  ...options,
  noEmit: true,
  verbatimModuleSyntax: false,
  isolatedDeclarations: false,
  declaration: false,
};
const host = ts.createCompilerHost({ ...strict, declarationMap: false });
const { fileExists, readFile, getSourceFile } = host;
host.fileExists = (name) => files.has(name) || fileExists(name);
host.readFile = (name) => files.get(name) ?? readFile(name);
host.getSourceFile = (name, version, ...rest) =>
  files.has(name)
    ? ts.createSourceFile(name, files.get(name), version, true)
    : getSourceFile(name, version, ...rest);
const program = ts.createProgram(
  [...files.keys()],
  { ...strict, declarationMap: false, noUnusedLocals: false, noUnusedParameters: false },
  host,
);
let failed = 0;
for (const [i, file] of [...files.keys()].entries()) {
  const source = program.getSourceFile(file);
  for (const problem of [
    ...program.getSyntacticDiagnostics(source),
    ...program.getSemanticDiagnostics(source),
  ]) {
    failed++;
    const text = ts.flattenDiagnosticMessageText(problem.messageText, ' ');
    console.error(
      `${found[i].where}: TS${problem.code}: ${text}\n${found[i].body.trim().replace(/^/gm, '    ')}`,
    );
  }
}
console.log(`${found.length} examples, ${failed} problems`);
if (found.length === 0 || failed > 0) process.exitCode = 1;
