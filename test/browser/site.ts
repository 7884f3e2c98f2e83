/** Chromium, and a server of the fixtures' page as Vite and esbuild build it. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { Browser, Page } from 'playwright-core';
import { connect, type Remote } from '../../src/worker/index.ts';
import { modelFile } from '../text/fixtures.ts';
import { BUNDLERS, makeProject } from './bundles.ts';
import { openChromium } from './chromium.ts';
import { type PageServer, servePages } from './page-server.ts';

/** The functions of fixtures/worker.js. */
export type Functions = {
  start(options: { backend?: string; threads?: number }): Promise<string>;
  load(source: unknown, options?: object): Promise<number>;
  generate(prompt: string | number[], options: { maxNewTokens: number }): AsyncGenerator<number>;
  train(steps: number): Promise<number[]>;
  convert(source: unknown, numKeyValueHeads: number): Promise<Uint8Array>;
  end(): Promise<void>;
  churn(source: unknown, times: number): Promise<void>;
};

/** The page's globals (fixtures/page.js). */
declare global {
  var engine: Remote<Functions>;
  var files: File[] | undefined;
  function dropPicked(): void;
  function saveAs(bytes: Uint8Array, name: string): void;
}

const root = fileURLToPath(new URL('../../', import.meta.url));
export const tinyModel: string = join(root, 'test/golden/tiny-llama/gqa-tied');

export interface Site {
  /** With shared memory, and without (`plain`). The paths are `/tiny/`, `/models/` and the bundlers' names. */
  readonly servers: { readonly isolated: PageServer; readonly plain: PageServer };
  /** The same worker in Node, on its default backend. */
  readonly node: Remote<Functions>;
  /** Opens a page in a profile of its own, and closes it after `use`. */
  withPage<T>(server: PageServer, path: string, use: (page: Page) => Promise<T>): Promise<T>;
  /** Resident bytes of the tabs' processes. */
  residentBytes(): Promise<number>;
  close(): Promise<void>;
}

/**
 * @param skipped what a message names as skipped where there is no Chromium; the result is undefined then
 * @param folders more folders to serve, by the start of their paths
 */
export async function openSite(
  skipped: string,
  folders: Readonly<Record<string, string>> = {},
): Promise<Site | undefined> {
  const browser = await openChromium(skipped);
  return browser && openedSite(browser, folders);
}

async function openedSite(browser: Browser, folders: Readonly<Record<string, string>>): Promise<Site> {
  const project = mkdtempSync(join(tmpdir(), 'gqa-browser-'));
  makeProject(project);
  const content: Record<string, string> = { ...folders, '/tiny/': tinyModel, '/models/': dirname(modelFile) };
  for (const [name, build] of Object.entries(BUNDLERS)) content[`/${name}/`] = await build(project);
  const servers = { isolated: await servePages(content), plain: await servePages(content, false) };
  const addon = join(root, 'build/gqa.node');
  const env = { ...process.env, ...(existsSync(addon) && { GQA_ADDON: addon }) };
  const thread = new Worker(join(project, 'worker.js'), { env });
  return {
    servers,
    node: connect<Functions>(thread),
    async withPage(server, path, use) {
      const context = await browser.newContext();
      try {
        const page = await context.newPage();
        page.on('console', (message) => console.warn(`page: ${message.text()}`));
        page.on('pageerror', (error) => console.warn(`page: ${error}`));
        await page.goto(`${server.url}${path}`);
        return await use(page);
      } finally {
        await context.close();
      }
    },
    async residentBytes() {
      const session = await browser.newBrowserCDPSession();
      const { processInfo } = await session.send('SystemInfo.getProcessInfo');
      await session.detach();
      const renderers = processInfo.filter(({ type }) => type === 'renderer');
      const kilobytes = renderers.map(({ id }) =>
        Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${id}/status`, 'utf8'))?.[1]),
      );
      return 1024 * kilobytes.reduce((sum, own) => sum + own, 0);
    },
    async close() {
      await thread.terminate();
      for (const server of Object.values(servers)) await server[Symbol.asyncDispose]();
      await browser.close();
      rmSync(project, { recursive: true, force: true });
    },
  };
}

/** The tokens that the page's worker generates, one at a time. */
export function tokensOf(page: Page, prompt: string | number[], maxNewTokens: number): Promise<number[]> {
  return page.evaluate(
    async ([start, length]) => {
      const tokens: number[] = [];
      for await (const token of engine.generate(start, { maxNewTokens: length })) tokens.push(token);
      return tokens;
    },
    [prompt, maxNewTokens] as const,
  );
}
