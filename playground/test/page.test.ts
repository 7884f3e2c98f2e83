/** The built page in Chromium, as a reader uses it. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { setBackend } from '../../src/index.ts';
import { loadModel } from '../../src/models/index.ts';
import { servePages } from '../../test/browser/page-server.ts';
import { runCli } from '../../test/cli/run-cli.ts';
import type { Attention } from '../src/worker/look.ts';
import type { Speed } from '../src/worker/speed.ts';
import { continuedInNode, continuedInPage } from './continuation.ts';
import { unzip } from './folders.ts';
import { idle, openPage, openStage, type Stage, shownLosses, site } from './open-page.ts';

const demo = fileURLToPath(new URL('../../demo/model', import.meta.url));
const opened = await openStage();
const stage = opened as Stage;
afterAll(() => opened?.[Symbol.asyncDispose]());

/** The worker's functions, in the page. */
declare const engine: {
  attention(which: string, text: string, layer: number): Promise<Attention>;
  measureSpeeds(heads: number, latent: object, signal: AbortSignal): Promise<readonly Speed[]>;
};

describe.skipIf(opened === undefined)('the page', () => {
  test('tells the story: fewer heads, a higher loss, uptraining, a download that continues in Node', async () => {
    const { page, problems, foreign } = await stage.open();
    const slider = page.getByRole('slider', { name: 'Key/value heads' });
    const recover = page.getByRole('region', { name: 'Recover' });
    const tasks = await stage.longestTasks(page, async () => {
      await page.getByText('similar', { exact: true }).click();
      await slider.press('ArrowRight');
      await slider.press('ArrowRight');
      await expect.poll(() => slider.getAttribute('aria-valuetext')).toBe('2');
      await idle(page);
      await expect.poll(async () => (await shownLosses(page)).length).toBe(2);
      await idle(page);
      const [original, converted] = await shownLosses(page);
      expect(original).toBeLessThan(1.4);
      expect(converted).toBeGreaterThan(original + 0.3);

      const text = page.getByRole('region', { name: 'Text' });
      await text.getByRole('button', { name: 'Continue' }).click();
      const lengths = async () =>
        (await text.locator('.written').allInnerTexts()).map(({ length }) => length);
      await expect.poll(async () => Math.min(...(await lengths()))).toBeGreaterThan(150);
      await expect.poll(() => text.getByRole('button', { name: 'Stop' }).isDisabled()).toBe(true);

      const start = performance.now();
      await recover.getByRole('button', { name: 'Uptrain' }).click();
      await expect.poll(() => recover.getByText(/^Step \d+ of/).count()).toBe(1);
      const atStop = await page.evaluate(() => {
        const part = document.querySelector<HTMLElement>('#recover');
        const stop = [...(part?.querySelectorAll('button') ?? [])].find((one) => one.textContent === 'Stop');
        stop?.click();
        return Number(/Step (\d+) of/.exec(part?.innerText ?? '')?.[1]);
      });
      await idle(page);
      // One step may be on its way to the page, and one between two batches when the message comes.
      const stopped = Number(/Step (\d+) of/.exec(await recover.innerText())?.[1]);
      expect(stopped - atStop).toBeLessThanOrEqual(2);
      await recover.getByRole('button', { name: 'Go on' }).click();
      await idle(page, 500_000);
      const [, uptrained] = await shownLosses(page);
      const seconds = Math.round((performance.now() - start) / 1000);
      console.log(`loss ${original}, ${converted}, ${uptrained} in ${seconds} s`);
      expect(uptrained).toBeLessThan(1.5);
      expect(await recover.getByRole('row').last().innerText()).toContain(String(uptrained));
    });
    console.log('longest tasks, ms of processor time', tasks);
    expect(tasks.page.count).toBeGreaterThan(100);
    expect(tasks.page.processor).toBeLessThan(50);
    // Stop takes effect between two tasks of the worker. They take less than 200 ms on an idle machine; on a busy
    // one the worker spins while it waits for the engine's other threads, which counts as processor time.
    expect(tasks.worker.count).toBeGreaterThan(100);
    expect(tasks.worker.processor).toBeLessThan(1000);

    const download = page.getByRole('region', { name: 'Download' });
    const [file] = await Promise.all([
      page.waitForEvent('download'),
      download.getByRole('button', { name: 'Download GGUF' }).click(),
    ]);
    expect(file.suggestedFilename()).toBe('moby-dick-gpt-k2.gguf');
    const path = `${await file.path()}.gguf`;
    await file.saveAs(path);
    expect(await continuedInNode(path)).toBe(await continuedInPage(page));
    await idle(page);

    const [zip] = await Promise.all([
      page.waitForEvent('download'),
      download.getByRole('button', { name: /\(\.zip\)/ }).click(),
    ]);
    expect(zip.suggestedFilename()).toBe('moby-dick-gpt-k2.zip');
    await idle(page);
    const unpacked = unzip(await zip.path());
    if (unpacked !== undefined)
      expect(await continuedInNode(join(unpacked, 'moby-dick-gpt-k2'))).toBe(await continuedInPage(page));
    expect(problems).toEqual([]);
    expect(foreign).toEqual([]);
    await page.context().close();
  });

  test('a conversion can be stopped, and made after all', async () => {
    const { page, problems } = await stage.open('#method=similar');
    const whole = page.evaluate(
      () =>
        new Promise<void>((resolve) => {
          const stopWhenConverting = () => {
            const status = document.querySelector('.status');
            const stop = status?.querySelector('button');
            if (stop && status?.textContent?.startsWith('Converting')) {
              stop.click();
              resolve();
            } else requestAnimationFrame(stopWhenConverting);
          };
          stopWhenConverting();
        }),
    );
    await page.getByRole('slider', { name: 'Key/value heads' }).press('End');
    await whole;
    await idle(page);
    expect((await shownLosses(page)).length).toBe(1);
    expect(await page.getByText('Convert to fewer key/value heads first').count()).toBe(2);
    await page.getByRole('button', { name: 'Convert' }).click();
    await expect.poll(async () => (await shownLosses(page)).length).toBe(2);
    await idle(page);
    expect(await page.getByRole('button', { name: 'Convert' }).count()).toBe(0);
    expect(problems).toEqual([]);
    await page.context().close();
  });

  test.each([
    ['The whale swam round the ship', 0, 1],
    ['Call me Ishmael.', 2, 5],
    ['and the great shroud of the sea rolled on', 3, 0],
  ])(
    'attention over “%s” in layer %d and head %d is that of the reference backend',
    async (text, layer, head) => {
      const { page } = await stage.open();
      const { weights, tokens } = await page.evaluate(
        async ([prompt, at]) => {
          const { weights: all, tokens: own } = await engine.attention('original', prompt, at);
          return { weights: [...all], tokens: own };
        },
        [text, layer] as const,
      );
      await setBackend('reference');
      const model = await loadModel(demo, { dtype: 'f32' });
      const { attentions } = model.forward([model.tokenizer!.encode(text)], { output: ['attentions'] });
      const expected = (await attentions[layer].data()) as Float32Array;
      model.dispose();
      await setBackend('wasm');
      const size = tokens.length ** 2;
      const own = weights.slice(head * size, (head + 1) * size);
      const errors = own.map((weight, i) => Math.abs(weight - expected[head * size + i]));
      expect(Math.max(...errors)).toBeLessThan(1e-5);
      await page.context().close();
    },
  );

  test('the sizes of the part Cache are those of the caches', async () => {
    const { page } = await stage.open('#k=2&batch=8');
    const speeds = await page.evaluate(() =>
      engine.measureSpeeds(2, { rank: 128, ropeDim: 16 }, new AbortController().signal),
    );
    const model = await loadModel(demo);
    const cache = model.initCache({ batchSize: 8, maxLength: 512 });
    expect(speeds[0].cacheBytes).toBe(cache.bytes);
    cache.dispose();
    model.dispose();
    const rows = page.getByRole('table', { name: 'Caches' }).locator('tbody tr');
    for (const [i, { cacheBytes }] of speeds.entries()) {
      const perToken = (cacheBytes / 8 / 512).toLocaleString('en');
      expect(await rows.nth(i).innerText()).toContain(`${perToken} bytes`);
    }
    await page.getByLabel('Model', { exact: true }).selectOption('llama-2-70b');
    expect(await rows.nth(0).innerText()).toContain('2.62 MB');
    expect(await rows.nth(1).innerText()).toContain('327,680 bytes');
    await page.getByLabel('Model', { exact: true }).selectOption('deepseek-v3');
    expect(await rows.last().innerText()).toContain('576 values');
    await page.context().close();
  });

  test('memory and speed of the part Cache are those of gqa plan', async () => {
    const { page } = await stage.open('#batch=4&device=h100');
    const rows = page.getByRole('table', { name: 'Memory and speed' }).getByRole('row');
    const shown = async () => (await rows.allInnerTexts()).map((text) => text.replaceAll(/\s+/g, ' '));
    const expectPlanned = async (...args: string[]) => {
      const { stdout } = await runCli(['plan', ...args, '--batch', '4', '--json']);
      const { memory, totalBytes, speed } = JSON.parse(stdout);
      const sizes = [memory.weights.bytes, totalBytes, memory.activations.bytes, memory.totalBytes];
      const rates = [speed.decode, speed.prefill].filter((one) => one !== undefined);
      const texts = await shown();
      expect(texts.length).toBe(sizes.length + rates.length);
      for (const [i, size] of sizes.entries())
        expect(texts[i]).toContain(` ${size.toLocaleString('en')} bytes `);
      for (const [i, { tokensPerSecond }] of rates.entries()) {
        const digits = Number(tokensPerSecond.toPrecision(3)).toLocaleString('en');
        expect(texts[sizes.length + i]).toContain(` ${digits} tokens/s `);
      }
      for (const { basis } of [memory.weights, memory.activations, ...rates]) {
        expect(texts.some((text) => text.endsWith(basis))).toBe(true);
      }
    };
    await expectPlanned(demo, '--context', '512', '--kv-dtype', 'f32', '--device', 'h100');
    await page.getByLabel('Model', { exact: true }).selectOption('llama-3-8b');
    await page.getByLabel('Weights', { exact: true }).selectOption('q4_k');
    await page.getByLabel('Device', { exact: true }).selectOption('m2');
    await expectPlanned('llama-3-8b', '--context', '4096', '--weights', 'q4_k', '--device', 'm2');
    await page.context().close();
  });

  test('the address restores what its sender saw', async () => {
    const first = await stage.open('#k=3&method=similar&layer=2&head=4&prompt=Call+me&model=llama-3-8b');
    const { page } = first;
    await page.getByRole('slider', { name: 'Texts in a batch' }).press('ArrowRight');
    await page.waitForFunction(() => location.hash.includes('batch=2'));
    const address = page.url();
    const { page: second } = await openPage(stage.browser, address);
    for (const one of [page, second]) {
      expect(await one.getByRole('slider', { name: 'Key/value heads' }).getAttribute('aria-valuetext')).toBe(
        '3',
      );
      expect(await one.getByRole('radio', { name: 'similar' }).isChecked()).toBe(true);
      expect(await one.getByLabel('Text', { exact: true }).first().inputValue()).toBe('Call me');
      expect(await one.getByRole('slider', { name: 'Texts in a batch' }).getAttribute('aria-valuetext')).toBe(
        '2',
      );
      expect(await one.getByRole('button', { name: /^Query head 4/ }).getAttribute('aria-pressed')).toBe(
        'true',
      );
    }
    const losses = await shownLosses(page);
    expect(losses.length).toBe(2);
    expect(await shownLosses(second)).toEqual(losses);
    await page.context().close();
    await second.context().close();
  });

  test.each(['light', 'dark'] as const)('axe finds nothing, %s', async (colorScheme) => {
    const { page } = await stage.open('#k=2', { colorScheme });
    await page.getByLabel('Show probabilities').check();
    await page.getByRole('button', { name: 'Continue' }).click();
    await page.waitForTimeout(1000);
    // The policy lets no script in by a tag; evaluate is the browser's own.
    await page.evaluate(readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8'));
    const violations = await page.evaluate(async () => {
      const { axe } = globalThis as unknown as {
        axe: { run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> };
      };
      return (await axe.run()).violations.map(
        ({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' | ')}`,
      );
    });
    expect(violations).toEqual([]);
    await page.context().close();
  });

  test('says beside the text which characters it lacks, until they are gone', async () => {
    const { page } = await stage.open();
    const heads = page.getByRole('region', { name: 'Heads' });
    const field = heads.getByLabel('Text', { exact: true });
    await field.fill('🐋 whale');
    await expect.poll(() => heads.getByRole('alert').innerText()).toContain('without a token: "🐋"');
    expect(await page.locator('.map').count()).toBe(0);
    await field.fill('a whale');
    await expect.poll(() => page.locator('.map').count()).toBe(6);
    expect(await heads.getByRole('alert').count()).toBe(0);
    await page.context().close();
  });

  test('takes no numbers from the address that do not fit', async () => {
    const { page } = await stage.open('#k=2.5&layer=1.5&head=999&context=1.5&model=none');
    expect(await page.getByRole('radio', { name: '1', exact: true }).isChecked()).toBe(true);
    expect(await page.getByRole('button', { name: /^Query head 6/ }).getAttribute('aria-pressed')).toBe(
      'true',
    );
    expect(await page.locator('.problem:visible').count()).toBe(0);
    expect(await page.getByLabel('Model', { exact: true }).inputValue()).toBe('');
    await page.context().close();
  });

  test.skipIf(process.platform !== 'linux')('ten conversions take no more memory than two', async () => {
    const { page } = await stage.open();
    const resident = async () => {
      // Not in the workers of threads, which sleep.
      const models = page.workers().find((worker) => worker.url().includes('/assets/worker'));
      await models?.evaluate(() => (globalThis as { gc?: () => void }).gc?.());
      const session = await stage.browser.newBrowserCDPSession();
      const { processInfo } = await session.send('SystemInfo.getProcessInfo');
      await session.detach();
      const sizes = processInfo
        .filter(({ type }) => type === 'renderer')
        .map(({ id }) =>
          Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${id}/status`, 'utf8'))?.[1]),
        );
      return Math.max(...sizes);
    };
    const slider = page.getByRole('slider', { name: 'Key/value heads' });
    const convert = async (times: number) => {
      for (let i = 0; i < times; i++) {
        await slider.press(i % 2 === 0 ? 'ArrowRight' : 'ArrowLeft');
        await idle(page);
        await page.waitForTimeout(200);
        await idle(page);
      }
    };
    await slider.press('ArrowRight'); // K = 3, then 2 and 3 in turn
    await convert(2);
    const before = await resident();
    await convert(10);
    expect(await resident()).toBeLessThan(1.1 * before);
    await page.context().close();
  });

  test('without isolation, under a sub-path, runs on one thread and says so', async () => {
    await using server = await servePages({ '/some/path/': site }, false);
    const { page } = await openPage(stage.browser, `${server.url}/some/path/index.html`);
    expect(await page.locator('.card').innerText()).toMatch(
      /1 thread, since the page is not cross-origin isolated/,
    );
    await page.context().close();
  });
});
