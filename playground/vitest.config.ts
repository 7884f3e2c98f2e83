import { defineConfig } from 'vitest/config';

/** `npm run test:browser`: the built page in Chromium. */
export default defineConfig({
  test: {
    include: ['playground/test/*.test.ts'],
    testTimeout: 300_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 60_000 } },
    // One after another: the tests measure times.
    fileParallelism: false,
  },
});
