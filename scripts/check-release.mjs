/**
 * Installs the packages of a release in an empty project, without a compiler, without the network and without
 * install scripts' output, and runs a program on the native kernels.
 *
 * Usage: node scripts/check-release.mjs [folder] [runtime …]
 *   folder   what scripts/release.mjs wrote (default: release)
 *   runtime  paths of node, bun or deno to run the program with (default: this Node)
 * The dependencies must be in npm's cache, which `npm ci` in the clone fills.
 */
import { spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const out = resolve(process.argv[2] ?? join(root, 'release'));
const runtimes = process.argv.length > 3 ? process.argv.slice(3) : [process.execPath];
const MOST_SECONDS = 10;
const MOST_BYTES = 12e6;

const project = mkdtempSync(join(tmpdir(), 'gqa-installed-'));
const bin = join(project, 'bin');
let failures = 0;

function check(good, text) {
  console.log(`${good ? 'ok' : 'FAILED'}  ${text}`);
  if (!good) failures++;
}

/** Runs with node alone on the PATH. */
function run(command, ...args) {
  const env = { ...process.env, PATH: bin };
  for (const name of ['CC', 'GQA_ADDON', 'GQA_BACKEND', 'GQA_ISA']) delete env[name];
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: project, env, encoding: 'utf8' });
  return { status, output: `${stdout}${stderr}${error ?? ''}`.trim() };
}

function bytesBelow(folder) {
  return readdirSync(folder, { recursive: true })
    .map((name) => statSync(join(folder, name)))
    .reduce((sum, stat) => sum + (stat.isFile() ? stat.size : 0), 0);
}

const PROGRAM = `import { dotProductAttention, getBackend, tensor } from 'gqa';
const x = tensor(Float32Array.from({ length: 32 }, (_, i) => Math.sin(i)), { shape: [1, 2, 2, 8] });
const y = dotProductAttention(x, x, x, { isCausal: true }).dataSync();
console.log(getBackend().description + ', ' + y[8].toFixed(4));
`;

try {
  mkdirSync(bin);
  symlinkSync(process.execPath, join(bin, 'node'));
  writeFileSync(join(project, 'package.json'), '{ "type": "module" }\n');
  writeFileSync(join(project, 'program.mjs'), PROGRAM);
  writeFileSync(join(project, 'program.cjs'), "console.log(require('gqa').getBackend().description);\n");

  // npm itself is outside the PATH.
  const npm =
    process.env.npm_execpath ?? realpathSync(spawnSync('which', ['npm'], { encoding: 'utf8' }).stdout.trim());
  const names = ['gqa', `gqa-${process.platform}-${process.arch}`];
  const tarballs = names.map((name) => join(out, `${name}-${version}.tgz`));
  const start = performance.now();
  const installed = run(
    process.execPath,
    npm,
    'install',
    '--offline',
    '--no-audit',
    '--no-fund',
    ...tarballs,
  );
  const seconds = (performance.now() - start) / 1000;
  const text = installed.output.replaceAll('\n', ' ');
  check(
    installed.status === 0 && /^added \d+ packages in \S+$/.test(text),
    `npm install prints only "${text}"`,
  );
  check(seconds < MOST_SECONDS, `npm install took ${seconds.toFixed(1)} s, at most ${MOST_SECONDS}`);
  const bytes = bytesBelow(join(project, 'node_modules'));
  check(bytes < MOST_BYTES, `node_modules has ${(bytes / 1e6).toFixed(1)} MB, at most ${MOST_BYTES / 1e6}`);

  for (const runtime of runtimes) {
    const flags = basename(runtime).startsWith('deno') ? ['run', '-A'] : [];
    for (const program of ['program.mjs', 'program.cjs']) {
      const { status, output } = run(resolve(runtime), ...flags, join(project, program));
      check(status === 0 && /^native \(.*\)[^\n]*$/.test(output), `${runtime} ${program}: ${output}`);
    }
  }
  const help = run(process.execPath, join(project, 'node_modules/gqa/dist/cli/main.js'), '--version');
  check(help.status === 0, `gqa --version: ${help.output}`);
} finally {
  rmSync(project, { recursive: true });
}
process.exitCode = failures > 0 ? 1 : 0;
