import { defineConfig } from 'vitest/config';

/** `npm run test:browser`: the built page in Chromium. */
export default defineConfig({
  test: {
    include: ['playground/test/*.test.ts'],
    testTimeout: 600_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 60_000 } },
    // One after another: each has a browser that uses all processors.
    fileParallelism: false,
  },
});
