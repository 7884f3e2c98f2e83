/** The native backend: the memory of workers that end, and builds older than their sources. */
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterEach, expect, test, vi } from 'vitest';
import { backends } from '../ops/backends.ts';

const native = backends.some(({ name }) => name === 'native');

afterEach(() => {
  vi.unstubAllEnvs();
  vi.doUnmock('../../src/platform/node.ts');
  vi.resetModules();
});

test.skipIf(!native)('workers that end give back what they held: tensors and mapped files', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gqa-worker-'));
  const script = join(folder, 'worker.mjs');
  const dist = new URL('../../dist/', import.meta.url).href;
  // 32 MiB each, which nobody disposes of, and a file that stays open.
  writeFileSync(
    script,
    `import { full, setBackend } from '${dist}index.js';
     import { loadTensor, openCheckpoint, writeSafetensors } from '${dist}checkpoint/index.js';
     await setBackend('native');
     globalThis.kept = full([8, 1024, 1024], 1);
     const path = ${JSON.stringify(join(folder, 'x.safetensors'))};
     await writeSafetensors(path, { x: full([1024], 2) });
     globalThis.file = await openCheckpoint(path);
     globalThis.mapped = loadTensor(globalThis.file, 'x');
     if (globalThis.mapped.dataSync()[5] !== 2) throw new Error('not what was written');`,
  );
  const run = () =>
    new Promise<void>((resolve, reject) => {
      new Worker(script).on('error', reject).on('exit', () => resolve());
    });
  try {
    for (let i = 0; i < 4; i++) await run();
    const before = process.memoryUsage.rss();
    for (let i = 0; i < 16; i++) await run();
    // Without: 16 times 32 MiB.
    expect((process.memoryUsage.rss() - before) / 2 ** 20).toBeLessThan(160);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.skipIf(!native)('sources newer than the build: the same ones load, edited ones do not', async () => {
  const binary = fileURLToPath(new URL('../../build/gqa.node', import.meta.url));
  const built = statSync(binary).mtimeMs;
  const opened = async (edit: (source: Buffer) => Buffer) => {
    vi.resetModules();
    vi.doMock('../../src/platform/node.ts', async (original) => {
      const platform = await original<typeof import('../../src/platform/node.ts')>();
      const fs = platform.node.fs;
      const newer = {
        ...fs,
        statSync: (path: string | URL) =>
          String(path).endsWith('/rope.c') ? { mtimeMs: built + 1000 } : fs.statSync(path),
        readFileSync: (path: string | URL) =>
          String(path).endsWith('/rope.c') ? edit(fs.readFileSync(path)) : fs.readFileSync(path),
      };
      return { ...platform, node: { ...platform.node, fs: newer } };
    });
    const { open } = await import('../../src/backend/registry.ts');
    return open('native').name;
  };
  expect(await opened((source) => source)).toBe('native');
  await expect(opened((source) => Buffer.concat([source, Buffer.from('\n')]))).rejects.toThrow(
    /the native build is older than the sources in kernels\/ \(to build it with a C compiler: node .*build-native\.mjs\)/,
  );
});
