/**
 * `npm run build`: the native kernels where there is a C compiler (elsewhere the package runs on its WASM
 * kernels), then dist/ from src/. tsc writes into a folder beside dist/, and each finished file is renamed
 * into its place: a program that loads dist/ meanwhile never finds a missing or half-written file. Files of
 * an earlier build go last. tsc does not run where neither its inputs nor dist/ have changed since the last
 * build, by their sizes and times (build/dist.stamp).
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = join(root, 'dist');
const built = join(root, `dist-${process.pid}.tmp`);
const node = (...command) => execFileSync(process.execPath, command, { cwd: root, stdio: 'inherit' });

/** The paths of all files below `folder`, relative to it. */
const filesOf = (folder) =>
  readdirSync(folder, { recursive: true }).filter((name) => statSync(join(folder, name)).isFile());

/** Files of dist/ that tsc has made; the page in dist/playground has a build of its own. */
const compiledFiles = () => filesOf(dist).filter((name) => !name.startsWith('playground'));

/** The state of these files and folders: each file's path, size and time of change. */
function stateOf(paths) {
  const hash = createHash('sha256');
  for (const path of paths) {
    const folder = statSync(path).isDirectory();
    const names = path === dist ? compiledFiles() : folder ? filesOf(path) : [];
    for (const file of folder ? names.map((name) => join(path, name)) : [path]) {
      const { size, mtimeMs } = statSync(file);
      hash.update(`${file} ${size} ${mtimeMs}\n`);
    }
  }
  return hash.digest('hex');
}

const INPUTS = [
  'src',
  'scripts/build.mjs',
  'tsconfig.json',
  'tsconfig.build.json',
  'package.json',
  'package-lock.json',
];
const stamp = join(root, 'build/dist.stamp');
// Taken before tsc runs: a source that is changed meanwhile is compiled by the next build.
const inputs = stateOf(INPUTS.map((name) => join(root, name)));
const isCurrent =
  existsSync(stamp) && existsSync(dist) && readFileSync(stamp, 'utf8') === `${inputs} ${stateOf([dist])}`;

/** dist/ from src/. */
function compile() {
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  node(tsc, '-p', 'tsconfig.build.json', '--outDir', built);
  // `npx gqa` in this checkout runs the file itself, and tsc does not make it executable.
  chmodSync(join(built, 'cli/main.js'), 0o755);
  // The WASM kernels, as files and as compressed base64 for bundles that do not carry files.
  for (const isa of ['relaxed', 'simd128']) {
    const file = join(root, `src/backend/wasm/${isa}.wasm`);
    copyFileSync(file, join(built, `backend/wasm/${isa}.wasm`));
    writeFileSync(
      join(built, `backend/wasm/${isa}.embedded.js`),
      `export default '${gzipSync(readFileSync(file), { level: 9 }).toString('base64')}';\n`,
    );
  }
  const names = filesOf(built);
  for (const name of names) {
    mkdirSync(dirname(join(dist, name)), { recursive: true });
    renameSync(join(built, name), join(dist, name));
  }
  for (const name of compiledFiles()) if (!names.includes(name)) rmSync(join(dist, name), { force: true });
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, `${inputs} ${stateOf([dist])}`);
}

node(join(root, 'scripts/build-native.mjs'), '--optional');
try {
  if (!isCurrent) compile();
} catch (error) {
  // A failed tsc has printed its errors.
  if (error.status === undefined) console.error(`build: ${error.message}`);
  process.exitCode = 1;
} finally {
  rmSync(built, { recursive: true, force: true });
}

// npx looks in node_modules/.bin first. Without this link it makes one for this folder in its own cache on
// first use, and finds no command there ever after if that was before the first build.
const bin = join(root, 'node_modules/.bin');
if (process.exitCode === undefined && process.platform !== 'win32' && existsSync(bin)) {
  rmSync(join(bin, 'gqa'), { force: true });
  symlinkSync('../../dist/cli/main.js', join(bin, 'gqa'));
}
