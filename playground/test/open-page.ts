/** `gqa play` and Chromium, for tests of the built page. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { openChromium } from '../../test/browser/chromium.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
export const site: string = `${root}dist/playground`;

/** What a page must not do; filled while it runs. */
export interface Watched {
  readonly page: Page;
  /** Errors and warnings of its console, and errors that nothing caught. */
  readonly problems: string[];
  /** Requests to another origin. */
  readonly foreign: string[];
  /** Milliseconds of each task of the page's thread above 50 ms since the last call. */
  longTasks(): Promise<number[]>;
}

export interface Stage extends AsyncDisposable {
  readonly browser: Browser;
  /** Where `gqa play` serves the page. */
  readonly address: string;
  /** Opens the page in a profile of its own; the model is loaded when it returns. */
  open(path?: string, options?: BrowserContextOptions): Promise<Watched>;
}

/**
 * @param args of `gqa play`
 * @returns undefined without a browser, with a message
 */
export async function openStage(...args: string[]): Promise<Stage | undefined> {
  if (!existsSync(`${site}/index.html`))
    throw new Error('expected dist/playground; npm run build:playground');
  const browser = await openChromium('the page of gqa play');
  if (browser === undefined) return undefined;
  const server = spawn(process.execPath, [`${root}dist/cli/main.js`, 'play', '--port', '0', ...args]);
  const address = await addressOf(server);
  return {
    browser,
    address,
    open: (path = '', options = {}) => openPage(browser, address + path, options),
    async [Symbol.asyncDispose]() {
      await browser.close();
      server.kill('SIGINT');
    },
  };
}

async function addressOf(server: ChildProcess): Promise<string> {
  for await (const line of server.stdout as NodeJS.ReadableStream) {
    const [found] = /http:\S+/.exec(String(line)) ?? [];
    if (found !== undefined) return found;
  }
  throw new Error('gqa play: expected an address, got none');
}

export async function openPage(
  browser: Browser,
  address: string,
  options: BrowserContextOptions = {},
): Promise<Watched> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const [problems, foreign]: string[][] = [[], []];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) problems.push(message.text());
  });
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('request', (request) => {
    const { origin, protocol } = new URL(request.url());
    if (protocol !== 'blob:' && protocol !== 'data:' && origin !== new URL(address).origin)
      foreign.push(request.url());
  });
  await page.addInitScript(() => {
    const tasks: number[] = [];
    Object.assign(globalThis, { takeLongTasks: () => tasks.splice(0) });
    new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) tasks.push(duration);
    }).observe({ entryTypes: ['longtask'] });
  });
  await page.goto(address);
  await page.locator('.map').first().waitFor();
  await idle(page);
  return {
    page,
    problems,
    foreign,
    longTasks: () =>
      page.evaluate(() => (globalThis as { takeLongTasks?: () => number[] }).takeLongTasks?.() ?? []),
  };
}

/** Waits until no work that changes models is in progress. */
export async function idle(page: Page, timeout = 120_000): Promise<void> {
  await page.waitForFunction(
    () => document.querySelector('.status [role=status]')?.textContent === '',
    undefined,
    {
      timeout,
    },
  );
}

/** Original and converted loss, as the controls show them. */
export async function shownLosses(page: Page): Promise<number[]> {
  const text = await page.locator('.costs dd').nth(1).innerText();
  return [...text.matchAll(/\d+\.\d+/g)].map(Number);
}
