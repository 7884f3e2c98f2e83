/**
 * `npm run build`: the native kernels where there is a C compiler (elsewhere the package runs on its WASM
 * kernels), then dist/ from src/. tsc writes into a folder beside dist/, and each finished file is renamed
 * into its place: a program that loads dist/ meanwhile never finds a missing or half-written file. Files of
 * an earlier build go last.
 */
import { execFileSync } from 'node:child_process';
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

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = join(root, 'dist');
const built = join(root, `dist-${process.pid}.tmp`);
const node = (...command) => execFileSync(process.execPath, command, { cwd: root, stdio: 'inherit' });

/** The paths of all files below `folder`, relative to it. */
const filesOf = (folder) =>
  readdirSync(folder, { recursive: true }).filter((name) => statSync(join(folder, name)).isFile());

node(join(root, 'scripts/build-native.mjs'), '--optional');
try {
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  node(tsc, '-p', 'tsconfig.build.json', '--outDir', built);
  // `npx gqa` in this checkout runs the file itself, and tsc does not make it executable.
  chmodSync(join(built, 'cli/main.js'), 0o755);
  // The WASM kernels, as files and as base64 for bundles that do not carry files.
  for (const isa of ['relaxed', 'simd128']) {
    const file = join(root, `src/backend/wasm/${isa}.wasm`);
    copyFileSync(file, join(built, `backend/wasm/${isa}.wasm`));
    writeFileSync(
      join(built, `backend/wasm/${isa}.embedded.js`),
      `export default '${readFileSync(file, 'base64')}';\n`,
    );
  }
  const names = filesOf(built);
  for (const name of names) {
    mkdirSync(dirname(join(dist, name)), { recursive: true });
    renameSync(join(built, name), join(dist, name));
  }
  for (const name of filesOf(dist)) if (!names.includes(name)) rmSync(join(dist, name), { force: true });
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
