/**
 * Builds the native kernels with the C compiler of this machine: build/gqa.node, one Node-API addon. Each
 * instruction set is one object file with its own -m flags; the addon chooses among them when it loads.
 * Unchanged sources are not compiled again.
 *
 * Usage: node scripts/build-native.mjs [--optional] [--sanitize]
 *   --optional   without a compiler print one line and exit with 0; the package then runs on its WASM kernels
 *   --sanitize   build/sanitize/gqa.node, under the address sanitizer (make sanitize-addon)
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { kernelsHash, nativeSources } from './kernels-hash.mjs';
import { NATIVE_FLAGS, nativeUnits } from './native-units.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const kernels = join(root, 'kernels');
const optional = process.argv.includes('--optional');
const SANITIZE = process.argv.includes('--sanitize')
  ? ['-O1', '-g', '-fsanitize=address', '-fno-omit-frame-pointer']
  : [];
const build = join(root, SANITIZE.length > 0 ? 'build/sanitize' : 'build');
const binary = join(build, 'gqa.node');

const COMMON = [...NATIVE_FLAGS, '-fPIC'];

function giveUp(reason) {
  console.error(`gqa: native kernels were not built: ${reason}; WASM will be used`);
  process.exit(optional ? 0 : 1);
}

function findCompiler() {
  const candidates = [process.env.CC, 'cc', 'gcc', 'clang'].filter(Boolean);
  for (const command of candidates) {
    const { status, stdout } = spawnSync(command, ['--version'], { encoding: 'utf8' });
    if (status === 0) return { command, version: stdout.split('\n')[0] };
  }
  return giveUp(`no C compiler found (tried ${candidates.join(', ')})`);
}

function run(command, args) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'] });
    child.on('error', () => resolve(1));
    child.on('exit', (code) => resolve(code ?? 1));
  });
}

if (process.platform === 'win32') giveUp('there is no build from source on Windows');
const compiler = findCompiler();
/** Compiles nothing with the flags. */
const accepts = (flags) =>
  spawnSync(compiler.command, [...flags, '-fsyntax-only', '-x', 'c', '/dev/null']).status === 0;
const units = nativeUnits(process.platform, process.arch, accepts);
const sources = kernelsHash(kernels, nativeSources(kernels));
const how = JSON.stringify([compiler.version, COMMON, SANITIZE, units, process.arch, sources]);
const stamp = join(build, 'gqa.stamp');
const digest = createHash('sha256').update(how).digest('hex');
if (existsSync(binary) && existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) {
  // A binary newer than its sources loads without hashing them (src/backend/native.ts).
  utimesSync(binary, new Date(), new Date());
  process.exit(0);
}

let headers;
try {
  headers = createRequire(import.meta.url)('node-api-headers').include_dir;
} catch {
  giveUp('the package node-api-headers is not installed');
}
mkdirSync(build, { recursive: true });
// The process id in the names: two builds may run at once.
const objects = Object.keys(units).map((name) => join(build, name.replace(/c$/, `${process.pid}.o`)));
const codes = await Promise.all(
  Object.entries(units).map(([name, flags], i) =>
    run(compiler.command, [
      ...[...COMMON, ...SANITIZE, ...flags, `-DGQA_KERNELS_SHA256=${sources}`, '-I', headers],
      ...['-c', join(kernels, name), '-o', objects[i]],
    ]),
  ),
);
const temporary = `${binary}.${process.pid}`;
const link = [
  '-shared',
  ...SANITIZE,
  '-o',
  temporary,
  ...objects,
  '-lpthread',
  ...(process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : []),
];
const failed = codes.some((code) => code !== 0) || (await run(compiler.command, link)) !== 0;
for (const object of objects) rmSync(object, { force: true });
if (failed) giveUp(`${compiler.version} failed`);
// A running process may have the old binary mapped: rename over it instead of writing into it.
renameSync(temporary, binary);
writeFileSync(stamp, digest);
console.error(`gqa: native kernels built with ${compiler.version}`);
