/** Rarely used modules are loaded on first use only, because V8 keeps the source of every loaded module. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));

/**
 * The addresses of all modules that a fresh process loads when it imports these entry points and makes a
 * tensor.
 */
function loaded(entries: readonly string[]): string[] {
  const hook = `import { writeSync } from 'node:fs';
    export async function load(url, context, next) { writeSync(1, url + ' '); return next(url, context); }`;
  const program = `import { register } from 'node:module';
    register(${JSON.stringify(`data:text/javascript,${encodeURIComponent(hook)}`)});
    for (const entry of ${JSON.stringify(entries)}) await import(entry);
    (await import('gqa')).zeros([1]).dispose();`;
  const urls = execFileSync(process.execPath, ['--input-type=module', '--eval', program], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, GQA_BACKEND: '', GQA_ISA: '' },
  });
  return urls.trim().split(' ');
}

test('neither the WASM kernels nor the tokenizers are loaded before they are asked for', () => {
  const urls = loaded(['gqa', 'gqa/train', 'gqa/models', 'gqa/convert', 'gqa/nn', 'gqa/cache', 'gqa/flax']);
  expect(urls.some((url) => url.endsWith('/dist/train/index.js'))).toBe(true);
  expect(urls.filter((url) => /kernels\.generated|node_modules/.test(url))).toEqual([]);
});
