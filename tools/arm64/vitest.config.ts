/**
 * Tests on an emulated arm64 processor. Vitest runs on this machine; each test file runs in a Node for arm64
 * (`tools/arm64/node`), on the kernels that `node tools/prebuilt/build.mjs linux-arm64` compiled:
 *
 *   ARM64_NODE=<node for arm64> npx vitest run --config tools/arm64/vitest.config.ts test/ops
 */
import { fileURLToPath } from 'node:url';
import { mergeConfig } from 'vitest/config';
import config from '../../vitest.config.ts';

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

process.execPath = path('node'); // what Vitest forks

export default mergeConfig(config, {
  test: {
    root: path('../..'),
    pool: 'forks',
    testTimeout: 600_000,
    hookTimeout: 600_000,
    env: {
      GQA_ADDON: path('../../build/prebuilt/linux-arm64/gqa.node'),
      GQA_TEST_BACKENDS: 'reference,native',
    },
  },
});
