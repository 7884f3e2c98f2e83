/** Files that the page opens and writes, in Chromium. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { modelFile, noModel } from '../../test/text/fixtures.ts';
import { continuedInNode, continuedInPage } from './continuation.ts';
import { freshFolder } from './folders.ts';
import { idle, openStage, type Stage, shownLosses } from './open-page.ts';

const demo = fileURLToPath(new URL('../../demo/model', import.meta.url));
const opened = await openStage();
const stage = opened as Stage;
afterAll(() => opened?.[Symbol.asyncDispose]());

describe.skipIf(opened === undefined)('files', () => {
  test('a folder that is dropped ends training and is opened', async () => {
    const { page, problems } = await stage.open('#k=2');
    const recover = page.getByRole('region', { name: 'Recover' });
    await recover.getByRole('button', { name: 'Uptrain' }).click();
    await expect.poll(() => recover.getByText(/^Step \d+ of/).count()).toBe(1);
    // As the browser's own drop: a DataTransfer that a script makes has no folders.
    const session = await page.context().newCDPSession(page);
    const data = { items: [], files: [demo], dragOperationsMask: 1 };
    for (const type of ['dragEnter', 'dragOver', 'drop'] as const)
      await session.send('Input.dispatchDragEvent', { type, x: 300, y: 300, data });
    await page.locator('.card .name').getByText('model', { exact: true }).waitFor();
    await idle(page);
    expect(await recover.getByText(/^Step \d+ of/).count()).toBe(0);
    expect((await shownLosses(page)).length).toBe(2); // converted as before
    expect(problems).toEqual([]);
    await page.context().close();
  });

  test('writes into a folder what Node reads', async () => {
    const { page, problems } = await stage.open('#k=3');
    // In place of the browser's dialogue: a folder of its own storage.
    await page.evaluate(() => {
      const showDirectoryPicker = async () =>
        (await navigator.storage.getDirectory()).getDirectoryHandle('chosen', { create: true });
      Object.assign(globalThis, { showDirectoryPicker });
    });
    const download = page.getByRole('region', { name: 'Download' });
    await download.getByRole('button', { name: 'Write into a folder' }).click();
    await expect.poll(() => download.getByRole('status').innerText()).toBe('Wrote chosen/moby-dick-gpt-k3.');
    const files = await page.evaluate(async () => {
      const storage = await navigator.storage.getDirectory();
      const made = await (await storage.getDirectoryHandle('chosen')).getDirectoryHandle('moby-dick-gpt-k3');
      const found: [name: string, dataUrl: string][] = [];
      for await (const [name, handle] of made as unknown as AsyncIterable<[string, FileSystemFileHandle]>) {
        const reader = new FileReader();
        reader.readAsDataURL(await handle.getFile());
        await new Promise((resolve) => reader.addEventListener('load', resolve));
        found.push([name, String(reader.result)]);
      }
      return found;
    });
    const folder = freshFolder();
    for (const [name, url] of files)
      writeFileSync(join(folder, name), Buffer.from(url.slice(url.indexOf(',') + 1), 'base64'));
    expect(await continuedInNode(folder)).toBe(await continuedInPage(page));
    expect(problems).toEqual([]);
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
