/**
 * Packs what is published into a folder: the main package, and one package for each platform whose kernels
 * are in build/prebuilt (tools/prebuilt/build.mjs). The same sources give the same bytes.
 *
 * Usage: node scripts/release.mjs [folder] (default: release)
 * The folder may hold an earlier release, which is removed, and nothing else.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PLATFORMS } from '../tools/prebuilt/platforms.mjs';
import {
  emptyRelease,
  mainManifest,
  platformManifest,
  platformReadme,
  withHashes,
} from './release-packages.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const out = resolve(process.argv[2] ?? join(root, 'release'));
const main = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

emptyRelease(out);
const temporary = mkdtempSync(join(tmpdir(), 'gqa-release-'));

const sha256 = (path) => createHash('sha256').update(readFileSync(path)).digest('hex');
const writeJson = (path, value) => writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`);
const binaryOf = (name) => join(root, 'build/prebuilt', name, 'gqa.node');

function npmPack(folder, to, ...options) {
  const args = ['pack', '--silent', '--pack-destination', to, ...options];
  const stdio = ['ignore', 'pipe', 'inherit'];
  // Progress of the scripts comes first; the last line is the name of the file.
  return execFileSync('npm', args, { cwd: folder, encoding: 'utf8', stdio }).trim().split('\n').at(-1);
}

function packPlatform(name) {
  const folder = join(temporary, name);
  mkdirSync(folder);
  copyFileSync(binaryOf(name), join(folder, 'gqa.node'));
  copyFileSync(join(root, 'LICENSE'), join(folder, 'LICENSE'));
  writeFileSync(join(folder, 'README.md'), platformReadme(main, name));
  writeJson(join(folder, 'package.json'), platformManifest(main, name));
  npmPack(folder, out, '--ignore-scripts');
}

function packMain(platforms) {
  const hashes = Object.fromEntries(platforms.map((name) => [name, sha256(binaryOf(name))]));
  // The files that `npm pack` chooses in the clone, with another manifest and the checksums.
  const tarball = npmPack(root, temporary);
  execFileSync('tar', ['-xzf', join(temporary, tarball), '-C', temporary]);
  const folder = join(temporary, 'package');
  writeJson(join(folder, 'package.json'), mainManifest(main, platforms));
  const table = join(folder, 'dist/backend/prebuilt.js');
  writeFileSync(table, withHashes(readFileSync(table, 'utf8'), hashes));
  npmPack(folder, out, '--ignore-scripts');
}

const platforms = Object.keys(PLATFORMS).filter((name) => existsSync(binaryOf(name)));
const missing = Object.keys(PLATFORMS).filter((name) => !platforms.includes(name));
if (missing.length > 0) console.error(`release: without ${missing.join(', ')}: not in build/prebuilt`);
try {
  for (const name of platforms) packPlatform(name);
  packMain(platforms);
} finally {
  rmSync(temporary, { recursive: true });
}
for (const name of readdirSync(out).sort()) {
  const path = join(out, name);
  console.log(`${sha256(path)}  ${name}  ${readFileSync(path).length} bytes`);
}
