import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/equality.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // The default leaves one core idle: on two cores the suite takes almost twice as long.
    maxWorkers: '100%',
  },
});
