/** The built page in Chromium, as a reader uses it. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { setBackend } from '../../src/index.ts';
import { generate, loadModel } from '../../src/models/index.ts';
import { servePages } from '../../test/browser/page-server.ts';
import { modelFile, noModel } from '../../test/text/fixtures.ts';
import type { Attention } from '../src/worker/look.ts';
import type { Speed } from '../src/worker/speed.ts';
import { idle, openPage, openStage, type Stage, shownLosses, site } from './open-page.ts';

const demo = fileURLToPath(new URL('../../demo/model', import.meta.url));
/** Whether other programs take the processors, so that times say little. */
const isBusy = (): boolean => loadavg()[0] > 1.5 * availableParallelism();
if (isBusy()) console.warn('the machine is busy: limits of times are wider');

const opened = await openStage();
const stage = opened as Stage;
afterAll(() => opened?.[Symbol.asyncDispose]());

/** The worker's functions, in the page. */
declare const engine: {
  attention(which: string, text: string, layer: number): Promise<Attention>;
  continueText(
    which: string,
    text: string,
    sampling: object,
    signal: AbortSignal,
  ): AsyncGenerator<{ text: string }>;
  measureSpeeds(heads: number, latent: object, signal: AbortSignal): Promise<readonly Speed[]>;
};

describe.skipIf(opened === undefined)('the page', () => {
  test('tells the story: fewer heads, a higher loss, uptraining, a download that continues in Node', async () => {
    const { page, problems, foreign, longTasks } = await stage.open();
    const slider = page.getByRole('slider', { name: 'Key/value heads' });
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

    await longTasks();
    const text = page.getByRole('region', { name: 'Text' });
    await text.getByRole('button', { name: 'Continue' }).click();
    const lengths = async () => (await text.locator('.written').allInnerTexts()).map(({ length }) => length);
    await expect.poll(async () => Math.min(...(await lengths()))).toBeGreaterThan(150);
    await expect.poll(() => text.getByRole('button', { name: 'Stop' }).isDisabled()).toBe(true);

    const recover = page.getByRole('region', { name: 'Recover' });
    const start = performance.now();
    await recover.getByRole('button', { name: 'Uptrain' }).click();
    await page.waitForTimeout(3000);
    const stopped = performance.now();
    await recover.getByRole('button', { name: 'Stop' }).click();
    await idle(page);
    expect(performance.now() - stopped).toBeLessThan(isBusy() ? 2000 : 200);
    await recover.getByRole('button', { name: 'Go on' }).click();
    await idle(page, 280_000);
    const [, uptrained] = await shownLosses(page);
    console.log(
      `loss ${original}, ${converted}, ${uptrained} in ${Math.round((performance.now() - start) / 1000)} s`,
    );
    expect(uptrained).toBeLessThan(1.5);
    expect(Math.max(0, ...(await longTasks()))).toBeLessThan(isBusy() ? 200 : 50);
    expect(await recover.getByRole('row').last().innerText()).toContain(String(uptrained));

    const download = page.getByRole('region', { name: 'Download' });
    const [file] = await Promise.all([
      page.waitForEvent('download'),
      download.getByRole('button', { name: 'Download GGUF' }).click(),
    ]);
    expect(file.suggestedFilename()).toBe('moby-dick-gpt-k2.gguf');
    const own = await page.evaluate(async () => {
      let made = '';
      const sampling = { maxNewTokens: 40, temperature: 0, seed: 0 };
      const { signal } = new AbortController();
      for await (const piece of engine.continueText('converted', 'The whale ', sampling, signal))
        made += piece.text;
      return made;
    });
    const path = `${await file.path()}.gguf`;
    await file.saveAs(path);
    const model = await loadModel(path);
    const tokens: number[] = [];
    for await (const token of generate(model, model.tokenizer!.encode('The whale '), { maxNewTokens: 40 }))
      tokens.push(token);
    expect(model.tokenizer!.decode(tokens)).toBe(own);
    expect(model.config.numKeyValueHeads).toBe(2);
    model.dispose();
    expect(problems).toEqual([]);
    expect(foreign).toEqual([]);
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
    const rows = page.getByRole('region', { name: 'Cache' }).locator('tbody tr');
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

  test('refuses files with the reason, and keeps its model', async () => {
    const { page } = await stage.open();
    const files = page.locator('input[type=file]');
    const alert = page.locator('.controls').getByRole('alert');
    await page.evaluate(() => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File(['PK'], 'notes.docx'));
      document.dispatchEvent(new DragEvent('drop', { dataTransfer, cancelable: true }));
    });
    await expect.poll(() => alert.innerText()).toContain('notes.docx: expected a .gguf file');
    await files.setInputFiles({ name: 'cut.gguf', mimeType: '', buffer: Buffer.from('GGUF\x03\0\0\0\x01') });
    await expect.poll(() => alert.innerText()).toMatch(/^cut\.gguf: .*byte/);
    await idle(page);
    const losses = await shownLosses(page);
    await files.setInputFiles({ name: 'short.txt', mimeType: '', buffer: Buffer.from('a whale') });
    await expect
      .poll(() => alert.innerText())
      .toBe('short.txt: expected a text of more than 5120 tokens, got 7');
    await idle(page);
    expect(await shownLosses(page)).toEqual(losses);
    expect(await page.locator('.map').count()).toBe(6);
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

  test.skipIf(noModel !== undefined)('SmolLM2 is opened, and chats', async () => {
    const { page, problems } = await stage.open();
    await page.locator('input[type=file]').setInputFiles(modelFile);
    await page.locator('.card .name', { hasText: 'SmolLM2' }).waitFor({ timeout: 60_000 });
    await idle(page);
    const text = page.getByRole('region', { name: 'Text' });
    await text.getByText('chat', { exact: true }).click();
    await text.getByLabel('Message').fill('What is the capital of France?');
    await text.getByRole('slider', { name: 'Temperature' }).press('Home');
    await text.getByRole('button', { name: 'Send' }).click();
    await expect
      .poll(() => text.locator('.turn.assistant').innerText(), { timeout: 60_000 })
      .toContain('Paris');
    await text
      .getByRole('button', { name: 'Stop' })
      .click({ timeout: 1000 })
      .catch(() => {}); // it may be done
    expect(problems).toEqual([]);
    await page.context().close();
  });
});
if (noModel !== undefined) console.warn(`skipping SmolLM2 in the page: ${noModel}`);
