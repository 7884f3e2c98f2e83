/**
 * Bundles of every entry point, for browsers and for Node: made without options, small, and they run. Chromium
 * (CHROMIUM names it, else /usr/bin/chromium) runs those for browsers.
 */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import * as esbuild from 'esbuild';
import { type Browser, chromium } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BUNDLERS, runEsbuild } from './bundlers.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  exports: Record<string, unknown>;
};
const ENTRIES = Object.keys(exports)
  .filter((name) => name !== './package.json')
  .map((name) => name.replace('.', 'gqa'));

/** Trains a small model for three steps, and generates with it. */
const PROGRAM = `
import { getBackend, setBackend, valueAndGrad } from 'gqa';
import { generate } from 'gqa/models';
import { adamw, causalLmLoss, createModel, drawBatch, llamaConfig, Optimizer } from 'gqa/train';
import { planKvCache } from 'gqa/plan';

export async function answer(backend) {
  await setBackend(backend);
  const sizes = { hiddenSize: 16, numLayers: 1, numHeads: 4, numKeyValueHeads: 2 };
  const model = createModel(llamaConfig({ vocabSize: 11, ...sizes }), { seed: 0 });
  const optimizer = new Optimizer(model, adamw({ learningRate: 0.03 }));
  const text = Int32Array.from({ length: 200 }, (_, i) => (i * i) % 11);
  const losses = [];
  for (let index = 0; index < 3; index++) {
    const batch = drawBatch(text, { batchSize: 2, blockLength: 16, seed: 0, stream: 'train', index });
    const [loss, gradients] = valueAndGrad((m) => causalLmLoss(m, batch))(model);
    losses.push((await loss.data())[0]);
    optimizer.update(model, gradients);
  }
  const tokens = [];
  for await (const token of generate(model, [1, 4, 9], { maxNewTokens: 4, temperature: 0 })) tokens.push(token);
  const plan = planKvCache('llama-3-8b', { contextLength: 8192 }).totalBytes;
  return { backend: getBackend().name, losses, tokens, plan };
}
`;

let folder: string;
/** Path of a module that is written into a project in which the package is installed. */
function write(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'gqa-bundles-'));
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(root, join(folder, 'node_modules/gqa'), 'junction');
  write('package.json', '{ "type": "module" }');
  write('program.js', PROGRAM);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Answer {
  readonly backend: string;
  readonly losses: readonly number[];
  readonly tokens: readonly number[];
  readonly plan: number;
}

/** The same results, with losses within 1e-4. */
function expectSame(got: Answer, expected: Answer): void {
  expect({ ...got, losses: [] }).toEqual({ ...expected, losses: [] });
  expect(got.losses.length).toBe(3);
  got.losses.forEach((loss, i) => {
    expect(Math.abs(loss - expected.losses[i])).toBeLessThan(1e-4);
  });
}

/** What Node gives without a bundle. */
async function unbundled(backend: string): Promise<Answer> {
  const module = write(
    'unbundled.js',
    "import { answer } from './program.js';\nconsole.log(JSON.stringify(await answer(process.argv[2])));",
  );
  return run(module, backend);
}

async function run(...args: string[]): Promise<Answer> {
  const { stdout } = await promisify(execFile)(process.execPath, args, {
    cwd: folder,
    env: { ...process.env, GQA_BACKEND: '', GQA_ISA: '' },
  });
  return JSON.parse(stdout) as Answer;
}

describe('in a browser', () => {
  /** Bytes of what a page with the entry point loads, minified and compressed, without the kernels. */
  async function size(entry: string): Promise<{ first: number; later: number }> {
    const main = write('size.js', `export * from '${entry}';`);
    const { outputFiles, metafile } = await esbuild.build({
      ...{ entryPoints: [main], outdir: join(folder, 'size'), bundle: true, format: 'esm', splitting: true },
      ...{ minify: true, write: false, metafile: true, logLevel: 'silent', absWorkingDir: folder },
    });
    const now = new Set<string>();
    const visit = (path: string) => {
      if (now.has(path)) return;
      now.add(path);
      for (const { path: next, kind } of metafile.outputs[path].imports) {
        if (kind === 'import-statement') visit(next);
      }
    };
    visit('size/size.js');
    const total = { first: 0, later: 0 };
    for (const [i, [path, { inputs }]] of Object.entries(metafile.outputs).entries()) {
      const isKernels = Object.keys(inputs).some((input) => input.includes('.embedded.'));
      if (isKernels && !now.has(path)) continue;
      total[now.has(path) ? 'first' : 'later'] += gzipSync(outputFiles[i].contents, { level: 9 }).length;
    }
    return total;
  }

  test.each(ENTRIES)('the size of %s', async (entry) => {
    const { first, later } = await size(entry);
    console.info(`${entry}: ${first} bytes gzip, and ${later} on demand`);
    expect(first).toBeLessThan(entry === 'gqa/plan' ? 25_000 : 150_000);
  });

  const MAIN = (entries: readonly string[]) => `
    import { answer } from './program.js';
    ${entries.map((entry, i) => `import * as entry${i} from '${entry}';`).join('\n')}
    globalThis.entries = [${entries.map((_, i) => `entry${i}`)}];
    answer('wasm').then((value) => { globalThis.answer = value; }, (error) => { globalThis.answer = String(error.stack); });
  `;

  let browser: Browser | undefined;
  beforeAll(async () => {
    const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
    if (existsSync(executablePath)) {
      browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
    } else console.warn(`bundles are not run: no Chromium at ${executablePath}`);
  });
  afterAll(() => browser?.close());

  /** Runs the bundle in a page of a server of its folder. */
  async function runInChromium(bundle: string, name: string): Promise<unknown> {
    const types: Record<string, string> = { '.js': 'text/javascript', '.wasm': 'application/wasm' };
    const server = createServer((request, response) => {
      const path = join(bundle, new URL(request.url ?? '/', 'http://localhost').pathname);
      if (path === join(bundle, '/')) {
        response.setHeader('content-type', 'text/html');
        response.end('<!doctype html><script type="module" src="main.js"></script>');
      } else if (existsSync(path)) {
        response.setHeader('content-type', types[extname(path)] ?? 'text/plain');
        response.end(readFileSync(path));
      } else response.writeHead(404).end();
    });
    server.listen(0);
    await once(server, 'listening');
    const page = await (browser as Browser).newPage();
    const problems: string[] = [];
    page.on('pageerror', (error) => problems.push(error.message));
    try {
      await page.goto(`http://localhost:${(server.address() as AddressInfo).port}/`);
      await page
        .waitForFunction('globalThis.answer !== undefined', undefined, { timeout: 60_000 })
        .catch((error) => {
          throw new Error(`${name}: ${problems.join('\n') || error.message}`);
        });
      return await page.evaluate('globalThis.answer');
    } finally {
      await page.close();
      server.close();
    }
  }

  for (const [name, bundle] of Object.entries(BUNDLERS)) {
    if (!bundle) console.warn(`skipped: ${name} is not installed (npm ci --prefix tools/bundles)`);
    test.skipIf(!bundle)(
      `${name} bundles every entry point without a warning, and the bundle runs`,
      { timeout: 300_000 },
      async ({ skip }) => {
        const main = write('main.js', MAIN(ENTRIES));
        const out = mkdtempSync(join(folder, 'out-'));
        expect(await bundle?.(main, out)).toEqual([]);
        if (!browser) skip('no Chromium');
        expectSame((await runInChromium(out, name)) as Answer, await unbundled('wasm'));
      },
    );
  }
});

describe('in Node', () => {
  const addon = join(root, 'build/gqa.node');
  const MAIN = `
    import { answer } from './program.js';
    answer(process.argv[2]).then((value) => console.log(JSON.stringify(value)));
  `;

  async function bundle(format: 'esm' | 'cjs'): Promise<string> {
    const outfile = join(mkdtempSync(join(folder, 'out-')), format === 'esm' ? 'main.mjs' : 'main.cjs');
    const main = write('main.js', MAIN);
    const warnings = await runEsbuild({ entryPoints: [main], outfile, format, platform: 'node' });
    // import.meta is empty there, and nothing needs it.
    expect(warnings.filter((text) => !text.includes('"import.meta" is not available'))).toEqual([]);
    return outfile;
  }

  test.skipIf(!existsSync(addon)).each(['esm', 'cjs'] as const)(
    'a bundle as %s has the native kernels of the package beside it, and WebAssembly',
    async (format) => {
      const outfile = await bundle(format);
      expectSame(await run(outfile, 'native'), await unbundled('native'));
      expectSame(await run(outfile, 'wasm'), await unbundled('wasm'));
    },
  );

  test.skipIf(!existsSync(addon)).each(['esm', 'cjs'] as const)(
    'a bundle as %s without the package has the native kernels of a gqa.node beside it, else WebAssembly',
    async (format) => {
      const outfile = await bundle(format);
      const elsewhere = mkdtempSync(join(tmpdir(), 'gqa-bundle-'));
      try {
        const moved = join(elsewhere, basename(outfile));
        copyFileSync(outfile, moved);
        expectSame(await run(moved, 'wasm'), await unbundled('wasm'));
        await expect(run(moved, 'native')).rejects.toThrow('in a bundle: install gqa beside it');
        copyFileSync(addon, join(elsewhere, 'gqa.node'));
        expectSame(await run(moved, 'native'), await unbundled('native'));
      } finally {
        rmSync(elsewhere, { recursive: true, force: true });
      }
    },
  );
});

// Node 20.16 to 20.18 have require() of ES modules behind a flag.
const [major, minor] = process.versions.node.split('.').map(Number);
test.skipIf(major === 20 && minor < 19)('every entry point can be required, as the same module', async () => {
  const main = write(
    'required.cjs',
    `const entries = ${JSON.stringify(ENTRIES)};
    (async () => {
      for (const entry of entries) {
        if (require(entry) !== (await import(entry))) throw new Error(entry);
      }
      const { ones } = require('gqa');
      console.log(JSON.stringify((await ones([3]).data()).length));
    })();`,
  );
  expect(await run(main)).toBe(3);
});
