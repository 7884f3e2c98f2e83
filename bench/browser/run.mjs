/**
 * Our model, exact and with int8 products, and wllama's in the same Chromium, on the same files and numbers of
 * threads, in turns. Prints a table of tokens a second (medians), and writes all figures with `--out`.
 *
 * Usage: npm ci --prefix bench/browser, npm run build, then
 *   node bench/browser/run.mjs MODEL.gguf … [--threads 1,2] [--rounds 3] [--prefill 512] [--decode 128]
 *     [--out bench/results/NAME.json]
 * CHROMIUM names the browser, else /usr/bin/chromium.
 */
import { copyFileSync, createReadStream, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import os from 'node:os';
import { basename, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import * as esbuild from 'esbuild';
import { chromium } from 'playwright-core';
import { describeMachine, describeVersions } from '../machine.mjs';
import { median } from '../stats.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const { values, positionals: models } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: 'string', default: '1,2' },
    rounds: { type: 'string', default: '3' },
    prefill: { type: 'string', default: '512' },
    decode: { type: 'string', default: '128' },
    out: { type: 'string' },
  },
});
if (models.length === 0) throw new Error('run: expected paths of GGUF files, got none');
const [rounds, prefill, decode] = [values.rounds, values.prefill, values.decode].map(Number);

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.wasm': 'application/wasm' };

/** The bundles and wllama's WASM files. */
async function build(folder) {
  await esbuild.build({
    entryPoints: [join(here, 'page.js'), join(here, 'worker.js')],
    ...{ bundle: true, splitting: true, format: 'esm', outdir: folder, logLevel: 'error' },
  });
  writeFileSync(join(folder, 'index.html'), '<!doctype html><script type="module" src="page.js"></script>');
  const packages = join(here, 'node_modules');
  copyFileSync(join(packages, '@wllama/wllama/esm/wasm/wllama.wasm'), join(folder, 'wllama-3.wasm'));
  for (const kind of ['single', 'multi']) {
    const file = join(packages, `wllama-2/esm/${kind}-thread/wllama.wasm`);
    copyFileSync(file, join(folder, `wllama-2-${kind}.wasm`));
  }
}

/** Serves the folder and the models, with the headers that shared memory needs. */
async function serve(folder) {
  const paths = new Map(models.map((path) => [`/${basename(path)}`, path]));
  const server = createServer(({ url }, response) => {
    const path = paths.get(url) ?? join(folder, basename(url));
    if (!statSync(path, { throwIfNoEntry: false })?.isFile()) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      'content-type': TYPES[extname(path)] ?? 'application/octet-stream',
      'content-length': statSync(path).size,
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-embedder-policy': 'require-corp',
    });
    createReadStream(path).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, url: `http://127.0.0.1:${server.address().port}` };
}

/** A page of its own for each contender, so that all models stay loaded while they take turns. */
async function openContender(browser, url, name, model, threads) {
  const page = await browser.newPage();
  page.on('pageerror', (error) => console.error(`${name}: ${error.message}`));
  await page.goto(`${url}/index.html`);
  const call = (method, ...args) =>
    page.evaluate(([own, what, rest]) => globalThis.contenders[own][what](...rest), [name, method, args]);
  return { name, page, call, about: await call('load', `/${basename(model)}`, threads) };
}

const folder = mkdtempSync(join(os.tmpdir(), 'gqa-bench-browser-'));
const machine = describeMachine();
const rows = [];
let browser;
let server;
try {
  await build(folder);
  const served = await serve(folder);
  server = served.server;
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
  for (const model of models) {
    for (const threads of values.threads.split(',').map(Number)) {
      const contenders = [];
      for (const name of ['gqa', 'gqa int8', 'wllama 3.13.0', 'wllama 2.4.0']) {
        contenders.push(await openContender(browser, served.url, name, model, threads));
      }
      for (const [kind, count] of Object.entries({ prefill, decode })) {
        const rates = contenders.map(() => []);
        // The first round warms up.
        for (let round = 0; round <= rounds; round++) {
          for (const [i, { call }] of contenders.entries()) {
            const rate = await call(kind, count);
            if (round > 0) rates[i].push(rate);
          }
        }
        const results = contenders.map(({ name, about }, i) => ({
          ...{ name, about, rates: rates[i], median: median(rates[i]) },
        }));
        rows.push({ model: basename(model), kind, count, threads, results });
        const [exact, int8, ...peers] = results;
        const times = (a, b) => (a.median / b.median).toFixed(2);
        const text = [
          `gqa ${exact.median.toFixed(1)}`,
          `gqa int8 ${int8.median.toFixed(1)} (${times(int8, exact)}x as fast)`,
          ...peers.map(
            (peer) =>
              `${peer.name} ${peer.median.toFixed(1)} (gqa ${times(exact, peer)}x, int8 ${times(int8, peer)}x)`,
          ),
        ];
        console.log(`${basename(model)} ${kind} ${count}, ${threads} threads, tokens/s: ${text.join(', ')}`);
      }
      for (const { page } of contenders) await page.close();
    }
  }
  machine.loadAfter = os.loadavg()[0];
  const versions = { ...describeVersions(), chromium: browser.version() };
  const result = { date: new Date().toISOString(), machine, versions, rounds, rows };
  if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify(result, undefined, 1)}\n`);
} finally {
  await browser?.close();
  server?.close();
  rmSync(folder, { recursive: true, force: true });
}
