/**
 * `npm run build`: the native kernels where there is a C compiler (without one the package runs on its WASM kernels), then
 * dist/ from src/. What an earlier build left in dist/ goes; dist/ is never empty meanwhile, so that programs running
 * on it keep working.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = join(root, 'dist');
const node = (...command) => execFileSync(process.execPath, command, { cwd: root, stdio: 'inherit' });

const started = Date.now();
const before = existsSync(dist) ? readdirSync(dist, { recursive: true }).map((name) => join(dist, name)) : [];
node(join(root, 'scripts/build-native.mjs'), '--optional');
try {
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  node(tsc, '-p', 'tsconfig.build.json');
} catch {
  process.exit(1); // tsc has said why
}
for (const path of before) {
  const state = statSync(path, { throwIfNoEntry: false });
  if (state?.isFile() && state.mtimeMs < started) rmSync(path, { force: true });
}
// `npx gqa` in this checkout runs the file itself, and tsc does not make it executable.
const cli = join(dist, 'cli/main.js');
if (existsSync(cli)) {
  chmodSync(cli, 0o755);
  // npx looks here first. Else it keeps a link of its own for this folder, made once, and finds no command ever after
  // where it was first asked before the first build.
  const bin = join(root, 'node_modules/.bin');
  if (process.platform !== 'win32' && existsSync(bin)) {
    rmSync(join(bin, 'gqa'), { force: true });
    symlinkSync('../../dist/cli/main.js', join(bin, 'gqa'));
  }
}
