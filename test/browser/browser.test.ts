/**
 * Models in Chromium, in a worker of a page that Vite or esbuild built: loading, generating, training and
 * converting give what Node gives.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { modelFile, noModel } from '../text/fixtures.ts';
import { BUNDLERS } from './bundles.ts';
import { openSite, type Site, tinyModel, tokensOf } from './site.ts';

if (noModel !== undefined) console.warn(`skipping SmolLM2 in a browser: ${noModel}`);
const opened = await openSite('models in a browser');
const site = opened as Site;
afterAll(() => opened?.close());

const tinyFiles = readdirSync(tinyModel).map((name) => join(tinyModel, name));
const smolPath = `/models/${basename(modelFile)}`;

async function collect<T>(values: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const value of values) items.push(value);
  return items;
}

const configurations = Object.keys(BUNDLERS).flatMap((bundler) =>
  [1, 2].map((threads) => ({ bundler, threads })),
);

describe.skipIf(opened === undefined).each(configurations)(
  'built by $bundler, threads: $threads',
  ({ bundler, threads }) => {
    const path = `/${bundler}/index.html`;

    test('a tiny model from an address and from files, training, converting and downloading', async () => {
      const { node, servers } = site;
      const prompt = [5, 3, 11, 7];
      await node.load(tinyModel);
      const expected = await collect(node.generate(prompt, { maxNewTokens: 12 }));
      const expectedLosses = await node.train(20);
      const converted = await node.convert(tinyModel, 1);
      await site.withPage(servers.isolated, path, async (page) => {
        const options = { backend: 'wasm', threads };
        const description = await page.evaluate((given) => engine.start(given), options);
        expect(description).toMatch(new RegExp(`^wasm \\(\\w+, ${threads} threads?\\)$`));

        await page.evaluate((url) => engine.load(url), `${servers.isolated.url}/tiny/`);
        expect(await tokensOf(page, prompt, 12)).toEqual(expected);
        await page.setInputFiles('input', tinyFiles);
        await page.evaluate(() => engine.load(files));
        expect(await tokensOf(page, prompt, 12)).toEqual(expected);
        await page.evaluate(() => dropPicked());
        await page.evaluate(() => engine.load(files));
        expect(await tokensOf(page, prompt, 12)).toEqual(expected);

        const losses = await page.evaluate(() => engine.train(20));
        expect(losses.length).toBe(20);
        const differences = losses.map((loss, step) => Math.abs(loss - expectedLosses[step]));
        expect(Math.max(...differences)).toBeLessThan(1e-4);

        const [download] = await Promise.all([
          page.waitForEvent('download'),
          page.evaluate(async () => saveAs(await engine.convert(files, 1), 'model.safetensors')),
        ]);
        expect(Buffer.compare(readFileSync(await download.path()), converted)).toBe(0);
      });
    });

    test.skipIf(noModel !== undefined)(
      'SmolLM2 from a dropped file, from an address, and again without a request',
      async () => {
        const { node, servers } = site;
        const prompt = 'The capital of France is';
        await node.load(modelFile);
        const expected = await collect(node.generate(prompt, { maxNewTokens: 8 }));
        await site.withPage(servers.isolated, path, async (page) => {
          await page.evaluate((given) => engine.start(given), { backend: 'wasm', threads });
          await page.setInputFiles('input', modelFile);
          await page.evaluate(async () => {
            dropPicked();
            await engine.load(files?.[0]);
          });
          expect(await tokensOf(page, prompt, 8)).toEqual(expected);

          const requests = () => servers.isolated.requests.get(smolPath) ?? 0;
          const before = requests();
          const load = () =>
            page.evaluate((url) => engine.load(url, { cache: true }), servers.isolated.url + smolPath);
          await load();
          expect(requests()).toBeGreaterThan(before);
          expect(await tokensOf(page, prompt, 8)).toEqual(expected);
          const after = requests();
          await load();
          expect(requests()).toBe(after);
          expect(await tokensOf(page, prompt, 8)).toEqual(expected);
        });
      },
    );
  },
);

describe.skipIf(opened === undefined)('a tab', () => {
  test('has no paths', async () => {
    const { servers } = site;
    await site.withPage(servers.isolated, '/vite/index.html', async (page) => {
      await page.evaluate((given) => engine.start(given), { backend: 'wasm' });
      await expect(page.evaluate(() => engine.load('/tiny/'))).rejects.toThrow(
        'loadModel: expected an address with its host, such as new URL(path, location.href), or org/name of a hub, got "/tiny/"',
      );
    });
  });

  test('without shared memory runs on one thread, and says why', async () => {
    const { servers } = site;
    await site.withPage(servers.plain, '/vite/index.html', async (page) => {
      const description = await page.evaluate(() => engine.start({ backend: 'wasm', threads: 2 }));
      expect(description).toMatch(/^wasm \(\w+, 1 thread.*isolated/);
      await page.evaluate((url) => engine.load(url), `${servers.plain.url}/tiny/`);
      expect((await tokensOf(page, [5, 3], 3)).length).toBeGreaterThan(0);
    });
  });

  test('rejects pending and later calls when its worker ends', async () => {
    const { servers } = site;
    await site.withPage(servers.isolated, '/esbuild/index.html', async (page) => {
      await expect(page.evaluate(() => engine.end())).rejects.toThrow('connect: the worker ended during end');
      await expect(page.evaluate(() => engine.start({}))).rejects.toThrow(
        'connect: the worker ended during start',
      );
    });
  });

  test.skipIf(process.platform !== 'linux')('uses freed memory again: 500 loads', async () => {
    const { servers } = site;
    await site.withPage(servers.isolated, '/vite/index.html', async (page) => {
      await page.setInputFiles('input', tinyFiles);
      const churn = (times: number) => page.evaluate((count) => engine.churn(files, count), times);
      await churn(100);
      const before = await site.residentBytes();
      await churn(500);
      // 500 models of 0.2 MB would take 100 MB.
      expect((await site.residentBytes()) - before).toBeLessThan(32e6);
    });
  });
});
