/** Chromium for tests: `CHROMIUM` names it, else /usr/bin/chromium. */
import { type Browser, chromium } from 'playwright-core';

/**
 * Starts Chromium without a window.
 * @param skipped what the message says is skipped when it does not start
 * @returns undefined when it does not start
 */
export async function openChromium(skipped: string): Promise<Browser | undefined> {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  const args = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-sync'];
  // Tests of memory collect garbage first.
  args.push('--js-flags=--expose-gc');
  try {
    return await chromium.launch({ executablePath, args });
  } catch (error) {
    console.warn(`skipping ${skipped}: ${executablePath}: ${(error as Error).message.split('\n')[0]}`);
    return undefined;
  }
}
