/**
 * Cross-compiles the native kernels for every platform of platforms.mjs, with zig's clang and C libraries,
 * into build/prebuilt/<platform>/gqa.node. The same sources give the same bytes: paths are relative or
 * mapped, and nothing holds a time.
 *
 * Usage: node tools/prebuilt/build.mjs [platform …]
 *   PYTHON names a Python with tools/prebuilt/requirements.txt installed (default python3).
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { kernelsHash, nativeSources } from '../../scripts/kernels-hash.mjs';
import { NATIVE_FLAGS, nativeUnits } from '../../scripts/native-units.mjs';
import { PLATFORMS } from './platforms.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { include_dir: headers, def_paths: definitions } = createRequire(import.meta.url)('node-api-headers');
const sources = kernelsHash(join(root, 'kernels'), nativeSources(join(root, 'kernels')));

async function zig(cwd, ...args) {
  const python = process.env.PYTHON ?? 'python3';
  const env = { ...process.env, SOURCE_DATE_EPOCH: '0' };
  const { stdout, stderr } = await promisify(execFile)(python, ['-m', 'ziglang', ...args], { cwd, env });
  process.stderr.write(stderr);
  return stdout;
}

/** Runs the jobs, one per processor at a time. */
async function parallel(jobs) {
  const queue = [...jobs];
  const worker = async () => {
    for (let job = queue.shift(); job; job = queue.shift()) await job();
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
}

/** What the linker needs on a platform, beside the objects. */
async function linkFlags({ os, cpu }, folder) {
  if (os === 'linux') return ['-Wl,--build-id=none', '-lpthread'];
  if (os === 'darwin') return ['-undefined', 'dynamic_lookup'];
  // Import libraries for the functions that node.exe exports.
  const machine = { x64: 'i386:x86-64' }[cpu];
  const libraries = [];
  for (const name of ['js_native_api', 'node_api']) {
    const library = `${name}.lib`;
    await zig(folder, 'dlltool', '-m', machine, '-d', definitions[`${name}_def`], '-l', library);
    libraries.push(library);
  }
  return libraries;
}

async function build(name) {
  const platform = PLATFORMS[name];
  const folder = join(root, 'build/prebuilt', name);
  mkdirSync(folder, { recursive: true });
  const temporary = mkdtempSync(join(folder, 'build-'));
  try {
    const common = ['-target', platform.target, ...NATIVE_FLAGS, '-g0', `-ffile-prefix-map=${headers}=node`];
    if (platform.os !== 'win32') common.push('-fPIC');
    // zig takes the extensions of arm64 with -mcpu only.
    const ofZig = (flag) => flag.replace(/^-march=armv8\.2-a\+/, '-mcpu=generic+');
    const units = Object.entries(nativeUnits(platform.os, platform.cpu)).map(([unit, flags]) => [
      unit,
      flags.map(ofZig),
    ]);
    const objectOf = (unit) => unit.replace(/c$/, 'o');
    await parallel(
      units.map(
        ([unit, flags]) =>
          () =>
            zig(
              root,
              ...['cc', ...common, ...flags, `-DGQA_KERNELS_SHA256=${sources}`, '-I', headers],
              ...['-c', `kernels/${unit}`, '-o', join(temporary, objectOf(unit))],
            ),
      ),
    );
    const objects = units.map(([unit]) => objectOf(unit));
    const flags = await linkFlags(platform, temporary);
    // Names relative to the folder, since a linker may store them.
    await zig(
      temporary,
      'cc',
      '-target',
      platform.target,
      '-shared',
      '-s',
      '-o',
      'gqa.node',
      ...objects,
      ...flags,
    );
    renameSync(join(temporary, 'gqa.node'), join(folder, 'gqa.node'));
  } finally {
    rmSync(temporary, { recursive: true });
  }
  const bytes = readFileSync(join(folder, 'gqa.node'));
  const digest = createHash('sha256').update(bytes).digest('hex');
  console.log(`${name}\t${bytes.length} bytes\tsha256 ${digest}`);
}

const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(PLATFORMS);
const unknown = names.filter((name) => !(name in PLATFORMS));
if (unknown.length > 0) {
  console.error(`prebuilt: expected ${Object.keys(PLATFORMS).join(', ')}, got ${unknown.join(', ')}`);
  process.exit(2);
}
for (const name of names) await build(name);
