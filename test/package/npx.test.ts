/** `npx gqa` in a clone runs this build, whatever is in npx's cache. */
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const path = (relative: string) => fileURLToPath(new URL(`../../${relative}`, import.meta.url));

test.skipIf(process.platform === 'win32')('the build links its command where npx looks first', () => {
  expect(realpathSync(path('node_modules/.bin/gqa'))).toBe(realpathSync(path('dist/cli/main.js')));
});
