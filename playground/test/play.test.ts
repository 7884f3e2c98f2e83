/** `gqa play`: what its server gives, and a checkpoint on the command line. */
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { type RequestOptions, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openStage, type Stage } from './open-page.ts';

const checkpoint = fileURLToPath(new URL('../../demo/model', import.meta.url));
const opened = await openStage(checkpoint);
const stage = opened as Stage;
const folder = mkdtempSync(join(tmpdir(), 'gqa-play-'));
afterAll(async () => {
  await opened?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

/** The status of a request that fetch cannot make: with another `Host`, or a path that is no URL. */
const statusFor = (options: RequestOptions) =>
  new Promise<number | undefined>((resolve, reject) => {
    request(stage.address, options, ({ statusCode }) => resolve(statusCode))
      .on('error', reject)
      .end();
  });

describe.skipIf(opened === undefined)('gqa play <checkpoint>', () => {
  test('opens the checkpoint in the page', async () => {
    const { page, problems } = await stage.open();
    expect(new URL(page.url()).search).toBe('?checkpoint');
    expect(await page.locator('.card .name').innerText()).toBe('model');
    expect(problems).toEqual([]);
    await page.context().close();
  });

  test('serves the site and the checkpoint, isolated, and nothing else', async () => {
    const { headers } = await fetch(`${stage.address}index.html`);
    expect(headers.get('cross-origin-opener-policy')).toBe('same-origin');
    expect(headers.get('cross-origin-embedder-policy')).toBe('require-corp');
    const page = await (await fetch(`${stage.address}index.html`)).text();
    expect(page).toMatch(/http-equiv="Content-Security-Policy" content="default-src (&#39;|')self/);
    expect((await fetch(`${stage.address}checkpoint/config.json`)).status).toBe(200);
    // The package has the kernels once, beside its code.
    const kernels = await fetch(`${stage.address}assets/relaxed-of-the-package.wasm`);
    expect(kernels.headers.get('content-type')).toBe('application/wasm');
    const own = readFileSync(new URL('../../dist/backend/wasm/relaxed.wasm', import.meta.url));
    expect(Buffer.from(await kernels.arrayBuffer()).equals(own)).toBe(true);
    for (const path of ['package.json', '..%2fpackage.json', 'checkpoint/..%2fconfig.json', 'checkpoint/'])
      expect((await fetch(stage.address + path)).status).toBe(404);
    expect((await fetch(stage.address, { method: 'POST' })).status).toBe(405);
  });

  test('refuses a page of another name that leads to its address', async () => {
    expect(await statusFor({ headers: { host: 'evil.example' } })).toBe(403);
  });

  test.each(['//', '/%', '/../package.json'])('answers %s, and goes on', async (path) => {
    expect(await statusFor({ path })).toBe(404);
    expect((await fetch(`${stage.address}index.html`)).status).toBe(200);
  });
});

describe.skipIf(opened === undefined)('a model that a tab cannot hold', () => {
  const weights = join(folder, 'model.safetensors');
  const config = join(folder, 'config.json');
  beforeAll(() => {
    // 5 GB of zeros, which take no room on the disk.
    const shape = [1_220_704, 1024];
    const bytes = 4 * shape[0] * shape[1];
    const header = JSON.stringify({
      'model.embed_tokens.weight': { dtype: 'F32', shape, data_offsets: [0, bytes] },
    });
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    const file = openSync(weights, 'w');
    writeSync(file, Buffer.concat([length, Buffer.from(header)]));
    ftruncateSync(file, 8 + header.length + bytes);
    closeSync(file);
    const sizes = { hidden_size: 1024, num_attention_heads: 8, num_hidden_layers: 1, vocab_size: shape[0] };
    writeFileSync(config, JSON.stringify({ model_type: 'llama', intermediate_size: 64, ...sizes }));
  });

  test('is refused with the numbers, and the page goes on', async () => {
    const { page } = await stage.open();
    await page.locator('input[type=file]').setInputFiles([weights, config]);
    const alert = page.getByRole('alert');
    await expect
      .poll(() => alert.innerText(), { timeout: 30_000 })
      .toMatch(/expected at most 3.50 GiB of weights.*got 4.66 GiB/);
    expect(await page.locator('.card .name').innerText()).toBe('model');
    await page.context().close();
  });
});
