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
}

/** Milliseconds of processor time of the longest task of a thread, and how many tasks it ran. */
export interface LongestTask {
  readonly processor: number;
  readonly count: number;
}

export interface Stage extends AsyncDisposable {
  readonly browser: Browser;
  /** Where `gqa play` serves the page. */
  readonly address: string;
  /** Opens the page in a profile of its own; the model is loaded when it returns. */
  open(path?: string, options?: BrowserContextOptions): Promise<Watched>;
  /**
   * The longest tasks of a page's threads while `run` ran. A task of the page that waits for a processor takes
   * longer, but not more processor time, so that its limit holds on a busy machine too.
   */
  longestTasks(
    page: Page,
    run: () => Promise<void>,
  ): Promise<{ readonly page: LongestTask; readonly worker: LongestTask }>;
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
    async longestTasks(page, run) {
      await browser.startTracing(page, { categories: ['toplevel'] });
      await run();
      const { traceEvents } = JSON.parse(String(await browser.stopTracing())) as {
        traceEvents: TraceEvent[];
      };
      return {
        page: longestOf(traceEvents, 'CrRendererMain'),
        worker: longestOf(traceEvents, 'DedicatedWorker thread'),
      };
    },
    async [Symbol.asyncDispose]() {
      await browser.close();
      server.kill('SIGINT');
    },
  };
}

/** Of Chromium's trace: a task (`X`), or the name of a thread (`M`). Times are in microseconds. */
interface TraceEvent {
  readonly ph: string;
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  /** Processor time. */
  readonly tdur?: number;
  readonly args: { readonly name?: string };
}

function longestOf(events: readonly TraceEvent[], thread: string): LongestTask {
  const idOf = ({ pid, tid }: TraceEvent) => `${pid} ${tid}`;
  const named = events.filter(({ name, args }) => name === 'thread_name' && args.name === thread);
  const threads = new Set(named.map(idOf));
  const times = events
    .filter((event) => event.name.endsWith('RunTask') && threads.has(idOf(event)))
    // A task that had begun before the trace has no duration.
    .flatMap(({ tdur }) => (tdur === undefined ? [] : [tdur / 1000]));
  return { processor: times.reduce((most, time) => Math.max(most, time), 0), count: times.length };
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
  await page.goto(address);
  await page.locator('.map').first().waitFor();
  await idle(page);
  return { page, problems, foreign };
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
