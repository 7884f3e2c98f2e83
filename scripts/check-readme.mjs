/**
 * Runs the code blocks of the pages (PAGES and those of docs-pages.mjs) that are marked `run`, against the
 * built package.
 * The marks, in a block's info string:
 *
 *   ```ts run                  run it; it imports `gqa` and its subpaths as a user's program does
 *   ```ts run examples/a.ts    the same, and the block must equal that file
 *   ```sh run                  run it with bash -euo pipefail, without `npm ci &&` and `npm run build &&` at its start
 *   ```sh run model            the same with `model.gguf` in the folder: the file that GQA_MODEL names, else the first
 *                              .gguf of ../shared/models; without either the block is skipped, with a message
 *
 * A ```text block right after a marked block is its exact output on stdout; `…` in it stands for any text.
 *
 * Usage: node scripts/check-readme.mjs [root]. Prints one line per block; exit code 1 when one fails.
 */
import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import ts from 'typescript';
import { docsPages } from './docs-pages.mjs';

const PAGES = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'bench/README.md', 'demo/README.md'];
const TIMEOUT_MS = 300_000;
const SETUP_DONE = /^(npm ci|npm run build)\s*&&\s*/;
const root = resolve(process.argv[2] ?? '.');
const run = promisify(execFile);

/** The marked blocks of a page, each with the output that the page shows. */
function blocksOf(page) {
  const blocks = [];
  const fence = /^```(\S*)[ \t]*([^\n]*)\n([\s\S]*?)^```[ \t]*$/gm;
  const text = readFileSync(join(root, page), 'utf8');
  let previous;
  for (const match of text.matchAll(fence)) {
    const [all, language, info, body] = match;
    const line = text.slice(0, match.index).split('\n').length;
    const gap = previous ? text.slice(previous.end, match.index) : '';
    if (language === 'text' && previous?.block && gap.trim() === '') previous.block.output = body;
    const words = info.trim().split(/\s+/);
    const block =
      words[0] === 'run' ? { where: `${page}:${line}`, language, words: words.slice(1), body } : undefined;
    if (block) blocks.push(block);
    previous = { end: match.index + all.length, block };
  }
  return blocks;
}

function findModel() {
  if (process.env.GQA_MODEL) return resolve(process.env.GQA_MODEL);
  const folder = resolve(root, '../shared/models');
  const name = existsSync(folder) && readdirSync(folder).find((file) => file.endsWith('.gguf'));
  return name ? join(folder, name) : undefined;
}

const sourceOf = (block, index) => join(folder, `block-${index}.${block.language}`);

/**
 * All TypeScript blocks as one program with strict options: a program of each block would read the types of
 * Node and the package every time.
 */
function programOf(blocks) {
  const files = [];
  for (const [index, block] of blocks.entries()) {
    if (block.language === 'sh') continue;
    writeFileSync(sourceOf(block, index), block.body);
    if (block.language === 'ts') files.push(sourceOf(block, index));
  }
  return ts.createProgram(files, {
    ...{ target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.NodeNext, strict: true, skipLibCheck: true },
    ...{ types: ['node'], typeRoots: [fileURLToPath(new URL('../node_modules/@types', import.meta.url))] },
  });
}

/** Type-checks a TypeScript block and writes its JavaScript beside it. */
function compile(file) {
  const source = program.getSourceFile(file);
  const wrong = [...ts.getPreEmitDiagnostics(program, source), ...program.emit(source).diagnostics];
  if (wrong.length > 0) {
    const host = {
      getCanonicalFileName: (name) => name,
      getCurrentDirectory: () => root,
      getNewLine: () => '\n',
    };
    throw new Error(ts.formatDiagnostics(wrong, host));
  }
  return file.replace(/\.ts$/, '.js');
}

async function runBlock(block, index) {
  const { language, words, body } = block;
  const file = words.find((word) => word.includes('.'));
  if (file && readFileSync(join(root, file), 'utf8').trim() !== body.trim()) {
    throw new Error(`the block and ${file} differ`);
  }
  const options = {
    cwd: folder,
    timeout: TIMEOUT_MS,
    maxBuffer: 1 << 26,
    env: { ...process.env, NO_COLOR: '1' },
  };
  if (language === 'sh') {
    let script = body.trim();
    while (SETUP_DONE.test(script)) script = script.replace(SETUP_DONE, '');
    return run('bash', ['-euo', 'pipefail', '-c', script], options);
  }
  const source = sourceOf(block, index);
  return run(process.execPath, [language === 'ts' ? compile(source) : source], options);
}

/** Compares line by line; `…` in `want` matches any text, on a line of its own also no line or several. */
function matches(want, got) {
  const literal = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const lines = (text) =>
    text
      .trimEnd()
      .split('\n')
      .map((line) => line.trimEnd())
      .join('\n');
  return new RegExp(`^${lines(want).split('…').map(literal).join('[\\s\\S]*')}$`).test(lines(got));
}

const pages = [...PAGES.filter((page) => existsSync(join(root, page))), ...docsPages(root)];
const blocks = pages.flatMap(blocksOf);
const model = findModel();
// Inside the package, so that `gqa` resolves to the package itself; build/ is not in git.
mkdirSync(join(root, 'build'), { recursive: true });
const folder = mkdtempSync(join(root, 'build/readme-'));
if (model) symlinkSync(model, join(folder, 'model.gguf'));
const program = programOf(blocks);

let failed = 0;
for (const [index, block] of blocks.entries()) {
  if (block.words.includes('model') && !model) {
    console.log(`skipped ${block.where}: needs a model (set GQA_MODEL to a .gguf file)`);
    continue;
  }
  try {
    const { stdout } = await runBlock(block, index);
    if (block.output !== undefined && !matches(block.output, stdout)) {
      throw new Error(`printed\n${stdout}\nwhere the page says\n${block.output}`);
    }
    console.log(`ok ${block.where}`);
  } catch (error) {
    failed++;
    console.error(`FAILED ${block.where}: ${error.message}${error.stderr ?? ''}`);
  }
}
rmSync(folder, { recursive: true, force: true });
console.log(`${blocks.length} blocks, ${failed} failed`);
if (failed > 0) process.exitCode = 1;
