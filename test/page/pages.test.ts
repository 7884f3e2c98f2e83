/**
 * The pages that commands write: readable at the width of a telephone, by keyboard and by screen reader. Some
 * tests need Chromium (CHROMIUM names it, else /usr/bin/chromium).
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { afterAll, describe, expect, test } from 'vitest';
import { planPage } from '../../src/cli/pages/plan.ts';
import { trainPage } from '../../src/cli/pages/train.ts';
import { driftPage } from '../../src/convert/drift-page.ts';
import type { DriftReport } from '../../src/convert/index.ts';
import { COLORS } from '../../src/page/html-page.ts';
import { preset } from '../../src/plan/index.ts';
import { openChromium } from '../browser/chromium.ts';

const K = 9;
const similarity = Array.from({ length: K }, (_, j) =>
  Array.from({ length: K }, (_, l) => (j === l ? 1 : 0.3)),
);
const groups = [0, 3, 6].map((first) => [first, first + 1, first + 2]);
const drift: DriftReport = {
  method: 'similar',
  numHeads: K,
  numKeyValueHeads: { before: K, after: 3 },
  predicted: 2040,
  before: { loss: 3, perplexity: Math.exp(3) },
  after: { loss: 5, perplexity: Math.exp(5) },
  kl: 2,
  topOneAgreement: 0.3,
  text: undefined,
  texts: Object.fromEntries(
    ['prose', 'a-rather-long-name-of-a-text.txt'].map((name) => [
      name,
      {
        ...{ predicted: 1020, kl: 2, topOneAgreement: 0.3 },
        before: { loss: 3, perplexity: Math.exp(3) },
        after: { loss: 5, perplexity: Math.exp(5) },
      },
    ]),
  ),
  answers: {
    generation: { prompts: 64, agreement: 3.2, repetition: { before: 0.1, after: 0.4 } },
    cloze: { questions: 40, accuracy: { before: 0.4, after: 0.1 } },
  },
  layers: Array.from({ length: 30 }, (_, i) => ({
    ...{ key: 0.3 + i / 100, value: 0.1, attentionOutput: 0.6, similarity, groups },
  })),
};
const points = Array.from({ length: 200 }, (_, i) => ({ step: 25 * i, value: 4 / (1 + i / 50) }));
const command = `npx gqa train --data ${'folder/'.repeat(20)} --out run`;

const PAGES: Readonly<Record<string, string>> = {
  plan: planPage('llama-3-8b', preset('llama-3-8b').shape, { contextLength: 2 ** 20 }),
  drift: driftPage('a-rather-long-name-of-a-checkpoint to another-long-name', drift),
  train: trainPage(
    'gqa train',
    [['command', command]],
    [{ title: 'Loss', curves: [{ name: 'train', color: COLORS.blue, points }] }],
    'a sample',
  ),
};

describe.each(Object.entries(PAGES))('the page of %s', (_, html) => {
  test('has a main part, and names what scrolls and what is drawn', () => {
    expect(html.match(/<main>/g)?.length).toBe(1);
    const scrolling = html.match(/<div class="wide"[^>]*>/g) ?? [];
    for (const tag of scrolling) expect(tag).toMatch(/role="region" tabindex="0" aria-label="[^"]+"/);
    for (const tag of html.match(/<svg [^>]*>/g) ?? []) expect(tag).toMatch(/role="img" aria-label="[^"]+"/);
    // Each picture that is drawn for a page with room is drawn for a narrow one too.
    expect(html.match(/class="broad"/g)?.length).toBeLessThanOrEqual(
      html.match(/class="narrow"/g)?.length ?? 0,
    );
    for (const [, width] of html.matchAll(/class="narrow"><svg [^>]*width="(\d+)"/g)) {
      expect(Number(width)).toBeLessThanOrEqual(358);
    }
  });
});

const browser = await openChromium('what a browser says of the pages');
afterAll(() => browser?.close());

describe.skipIf(browser === undefined)('in a browser', () => {
  const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

  test.each(
    Object.keys(PAGES).flatMap((name) =>
      [390, 1280].flatMap((width) => (['light', 'dark'] as const).map((scheme) => ({ name, width, scheme }))),
    ),
  )('$name, $width pixels, $scheme: nothing is cut, axe finds nothing', { timeout: 60_000 }, async (row) => {
    const page = await browser!.newPage({
      viewport: { width: row.width, height: 844 },
      colorScheme: row.scheme,
    });
    try {
      await page.setContent(PAGES[row.name]);
      await page.evaluate(axe);
      const found = await page.evaluate(async () => {
        const { axe: checker } = globalThis as unknown as {
          axe: { run(): Promise<{ violations: { id: string }[] }> };
        };
        const cut = [...document.querySelectorAll('html, .wide, svg, figure, table')]
          .filter(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth + 1)
          .map(({ tagName }) => tagName);
        const sizes = [...document.querySelectorAll('svg')]
          .filter((svg) => svg.getBoundingClientRect().width > 0)
          .map((svg) => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width);
        return {
          cut,
          smallest: Math.min(1, ...sizes),
          violations: (await checker.run()).violations.map(({ id }) => id),
        };
      });
      expect(found).toMatchObject({ cut: [], violations: [] });
      // Text of 12 units is never drawn smaller than 11 pixels.
      expect(found.smallest).toBeGreaterThan(0.92);
    } finally {
      await page.close();
    }
  });
});
