/**
 * Screenshots of the page of `gqa play` into docs/play/: each part at two widths, light and dark. Needs
 * Chromium (`CHROMIUM`, else /usr/bin/chromium) and `npm run build:playground`.
 *
 * Usage: node tools/playground/screenshots.mjs [folder]
 */
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const root = fileURLToPath(new URL('../../', import.meta.url));
const out = process.argv[2] ?? join(root, 'docs/play');
const PARTS = ['Heads', 'Cache', 'Text', 'Recover', 'Download'];
const STATE = '#k=2&method=similar&steps=100';

mkdirSync(out, { recursive: true });
const server = spawn(process.execPath, [join(root, 'dist/cli/main.js'), 'play', '--port', '0']);
const address = await new Promise((resolve) => {
  server.stdout.on('data', (line) => resolve(/http:\S+/.exec(String(line))[0]));
});
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
const idle = (page) =>
  page.waitForFunction(() => document.querySelector('.status [role=status]').textContent === '', undefined, {
    timeout: 300_000,
  });
try {
  for (const width of [1280, 390]) {
    const page = await browser.newPage({ viewport: { width, height: 900 } });
    await page.goto(address + STATE);
    await page.locator('.map').first().waitFor();
    await idle(page);
    const click = (part, name) =>
      page.getByRole('region', { name: part }).getByRole('button', { name }).click();
    await click('Cache', 'Measure');
    await page.waitForTimeout(500);
    await idle(page);
    await click('Recover', 'Uptrain');
    await page.waitForTimeout(500);
    await idle(page);
    await page.getByLabel('Show probabilities').check();
    await click('Text', 'Continue');
    await page.waitForTimeout(8000);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      await page.evaluate(() => scrollTo(0, 0));
      await page.waitForTimeout(500);
      const name = (part) => join(out, `${part.toLowerCase()}-${width}-${colorScheme}.png`);
      await page.screenshot({ path: name('page') });
      // The controls that stay in view would cover the parts.
      await page.evaluate(() => {
        document.querySelector('.controls').style.position = 'static';
      });
      for (const part of PARTS)
        await page.getByRole('region', { name: part }).screenshot({ path: name(part) });
    }
    await page.close();
  }
} finally {
  await browser.close();
  server.kill('SIGINT');
}
