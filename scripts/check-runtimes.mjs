/**
 * Runs the packed package in empty folders, with and without a native build, on every runtime there is: Node
 * (this one, and 20.19, 22, 24), Deno and Bun of tools/runtimes (`npm ci --prefix tools/runtimes`). The
 * programs are in tools/runtimes/programs/.
 *
 * Usage: node scripts/check-runtimes.mjs [runtime …] (after `npm run build`)
 */
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const installed = join(root, 'tools/runtimes/node_modules');
const TIMEOUT_MS = 300_000;

/** Name -> command. */
const RUNTIMES = {
  node: [process.execPath],
  'node-20.19': [join(installed, 'node-20.19/bin/node')],
  'node-22': [join(installed, 'node-22/bin/node')],
  'node-24': [join(installed, 'node-24/bin/node')],
  deno: [join(installed, '.bin/deno'), 'run', '--allow-all'],
  bun: [join(installed, '.bin/bun')],
};
/** Program -> the exit code that is right. */
const PROGRAMS = { 'train.mjs': 0, 'require.cjs': 0, 'workers.mjs': 0, 'exit.mjs': 3 };

const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(RUNTIMES);
const unknown = names.filter((name) => !(name in RUNTIMES));
if (unknown.length > 0) {
  console.error(`check-runtimes: expected ${Object.keys(RUNTIMES).join(', ')}, got ${unknown.join(', ')}`);
  process.exit(2);
}

/** Runs a program; a terminal as its input would let Deno ask for permissions. */
function run([command, ...args], cwd) {
  return new Promise((resolve) => {
    // Settings of the caller must not choose the build.
    const env = { ...process.env, GQA_BACKEND: '', GQA_ISA: '', GQA_ADDON: '', NO_COLOR: '1' };
    const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS);
    const printed = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'])
      child[name].setEncoding('utf8').on('data', (text) => (printed[name] += text));
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code: code ?? signal, ...printed });
    });
  });
}

const failed = [];
function report(name, problem, output) {
  console.log(`${problem ? 'FAILED' : 'ok'}  ${name}${problem ? `: ${problem}` : ''}`);
  if (!problem) return;
  failed.push(name);
  console.log(output.trimEnd().replace(/^/gm, '    '));
}

const folder = mkdtempSync(join(tmpdir(), 'gqa-runtimes-'));
try {
  const pack = ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder];
  const tarball = execFileSync('npm', pack, { cwd: root, encoding: 'utf8' }).trim();
  const addon = join(root, 'build/gqa.node');
  for (const backend of ['native', 'wasm']) {
    if (backend === 'native' && !existsSync(addon)) {
      console.log('skipped: native, there is no build/gqa.node');
      continue;
    }
    const project = join(folder, backend);
    const target = join(project, 'node_modules/gqa');
    mkdirSync(target, { recursive: true });
    execFileSync('tar', ['-xzf', join(folder, tarball), '--strip-components=1', '-C', target]);
    if (backend === 'native') cpSync(addon, join(target, 'build/gqa.node'), { recursive: true });
    cpSync(join(root, 'tools/runtimes/programs'), project, { recursive: true });
    writeFileSync(join(project, 'package.json'), '{ "dependencies": { "gqa": "*" } }\n');

    for (const [program, exitCode] of Object.entries(PROGRAMS)) {
      // The results of this Node are the others' too.
      const expected = (await run([process.execPath, program], project)).stdout.trim();
      for (const name of names) {
        if (!existsSync(RUNTIMES[name][0])) continue;
        const { code, stdout, stderr } = await run([...RUNTIMES[name], program], project);
        const problem =
          code !== exitCode
            ? `exit code ${code}`
            : !stdout.includes(`"backend":"${backend}"`)
              ? `expected ${backend}`
              : stdout.trim() !== expected && `expected ${expected}`;
        report(`${name} ${backend} ${program}`, problem, stdout + stderr);
      }
    }
    if (names.includes('deno') && existsSync(RUNTIMES.deno[0]))
      await denoWithoutPermissions(project, backend);
  }
  for (const name of names) {
    if (existsSync(RUNTIMES[name][0])) continue;
    console.log(`skipped: ${name} is not installed (npm ci --prefix tools/runtimes)`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** WebAssembly runs; a program that does not wait for its kernels is told to. */
async function denoWithoutPermissions(project, backend) {
  const [deno] = RUNTIMES.deno;
  const trained = await run([deno, 'run', 'train.mjs', 'wasm'], project);
  const isRight = trained.code === 0 && trained.stdout.includes('"backend":"wasm"');
  report(
    `deno without permissions ${backend} train.mjs`,
    !isRight && 'expected wasm',
    trained.stdout + trained.stderr,
  );
  const { code, stderr } = await run([deno, 'run', 'at-once.mjs'], project);
  const isClear = code === 1 && stderr.includes("expected `await setBackend('wasm')`");
  report(`deno without permissions ${backend} at-once.mjs`, !isClear && 'expected a clear error', stderr);
}

if (failed.length > 0) process.exitCode = 1;
console.log(failed.length > 0 ? `${failed.length} failed` : 'all passed');
