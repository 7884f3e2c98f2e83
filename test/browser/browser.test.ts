import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { BUNDLERS, makeProject } from './bundles.ts';
import { openChromium } from './chromium.ts';
import { type PageServer, servePages } from './page-server.ts';

const browser = await openChromium('what runs in a browser');
const project = mkdtempSync(join(tmpdir(), 'gqa-browser-'));
afterAll(async () => {
  await browser?.close();
  rmSync(project, { recursive: true, force: true });
});

describe.skipIf(browser === undefined)('x', () => {
  let server: PageServer;
  beforeAll(async () => {
    makeProject(project);
    const content: Record<string, string> = {};
    for (const [name, build] of Object.entries(BUNDLERS)) {
      console.time(name);
      content[`/${name}/`] = await build(project);
      console.timeEnd(name);
    }
    server = await servePages(content);
  });
  afterAll(() => server[Symbol.asyncDispose]());
  test.each(Object.keys(BUNDLERS))('%s', async (bundler) => {
    const page: Page = await browser!.newPage();
    page.on('console', (message) => console.log(message.text()));
    page.on('pageerror', (error) => console.log(error));
    await page.goto(`${server.url}/${bundler}/index.html`);
    console.log(await page.evaluate('engine.describe()'));
    await page.close();
  });
});
