/**
 * `npm run check`: all checks except the tests (`npm test`). They run side by side; each prints one line, and
 * its whole output when it fails. They need dist/, which `npm run check` builds first.
 *
 * Usage: node scripts/check.mjs [name …] runs only those checks.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const temporary = mkdtempSync(join(tmpdir(), 'gqa-check-'));
const tarball = () =>
  join(
    temporary,
    readdirSync(temporary).find((name) => name.endsWith('.tgz')),
  );

/** name -> command. publint and attw check the tarball that npm would publish, which is packed first. */
const checks = {
  readme: () => ['node', 'scripts/check-readme.mjs'],
  examples: () => ['node', 'scripts/check-examples.mjs'],
  families: () => ['node', 'scripts/family-table.mjs', '--check'],
  links: () => ['node', 'scripts/check-links.mjs'],
  types: () => ['tsc', '--noEmit'],
  attw: () => ['attw', '--profile', 'esm-only', '--no-emoji', tarball()],
  knip: () => ['knip', '--no-progress'],
  publint: () => ['publint', '--strict', tarball()],
  format: () => ['biome', 'ci', '--colors=off', '--error-on-warnings', '.'],
  imports: () => ['node', 'scripts/check-imports.mjs'],
  docs: () => ['typedoc', '--emit', 'none', '--logLevel', 'Warn'],
};

function run([command, ...args]) {
  const PATH = `${join(root, 'node_modules/.bin')}${delimiter}${process.env.PATH}`;
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, env: { ...process.env, PATH, NO_COLOR: '1' } });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text) => (output += text));
    child.on('error', (error) => resolve({ ok: false, output: error.message }));
    child.on('close', (code) => resolve({ ok: code === 0, output: output.trimEnd() }));
  });
}

const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(checks);
const unknown = names.filter((name) => !(name in checks));
if (unknown.length > 0) {
  console.error(`check: expected ${Object.keys(checks).join(', ')}, got ${unknown.join(', ')}`);
  process.exit(2);
}

const failed = [];
function report(name, { ok, output }, seconds) {
  console.log(`${ok ? 'ok' : 'FAILED'}  ${name} (${seconds} s)`);
  // Skipped parts are shown for a passed check too.
  const shown = ok
    ? output
        .split('\n')
        .filter((line) => line.startsWith('skipped'))
        .join('\n')
    : output;
  if (shown) console.log(shown.replace(/^/gm, '    '));
  if (!ok) failed.push(name);
}

const queue = [...names];
async function worker() {
  for (let name = queue.shift(); name; name = queue.shift()) {
    const start = Date.now();
    const result = await run(checks[name]());
    report(name, result, ((Date.now() - start) / 1000).toFixed(1));
  }
}

try {
  if (names.some((name) => name === 'publint' || name === 'attw')) {
    const packed = await run([
      'npm',
      'pack',
      '--ignore-scripts',
      '--silent',
      '--pack-destination',
      temporary,
    ]);
    if (!packed.ok) throw new Error(`npm pack failed\n${packed.output}`);
  }
  await Promise.all(Array.from({ length: Math.min(4, availableParallelism()) }, worker));
} finally {
  rmSync(temporary, { recursive: true, force: true });
}
console.log(
  failed.length > 0 ? `check: ${failed.join(', ')} failed` : `check: ${names.length} checks passed`,
);
process.exitCode = failed.length > 0 ? 1 : 0;
