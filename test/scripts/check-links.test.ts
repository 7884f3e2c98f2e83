/** check-links.mjs on a small package: each broken link must fail. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';

const script = fileURLToPath(new URL('../../scripts/check-links.mjs', import.meta.url));
const roots: string[] = [];

function check(files: Record<string, string>) {
  const root = mkdtempSync(join(tmpdir(), 'gqa-links-'));
  roots.push(root);
  const all = { 'package.json': JSON.stringify({ files: ['docs', '!docs/draft.md'] }), ...files };
  for (const [name, text] of Object.entries(all)) {
    mkdirSync(join(root, dirname(name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, root], { encoding: 'utf8' });
  return { status, output: stderr + stdout };
}

afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true, force: true });
});

test('links to files, headings and folders of the package pass', () => {
  const { status, output } = check({
    'README.md':
      '# One\n[a](docs/a.md) [b](docs/a.md#two-parts-of-it) [c](#one) [d](docs) [e](https://example.org/x) `[f](g.md)`\n```sh\n[h](i.md)\n```\n',
    'docs/a.md': '## Two parts, of `it`\n[up](../README.md)\n',
    'node_modules/x/README.md': '[a](b.md)',
  });
  expect(output).toBe('5 links in 2 pages, 0 problems\n');
  expect(status).toBe(0);
});

test('each link that leads nowhere fails', () => {
  const { status, output } = check({
    'README.md': '[a](b.md) [c](docs/a.md#no) [d](TODO.md) [e](docs/draft.md)',
    'TODO.md': '[a](README.md)',
    'docs/a.md': '# A',
    'docs/draft.md': '[a](../TODO.md)',
  });
  expect(output).toBe(
    'README.md: b.md: no such file\n' +
      'README.md: docs/a.md#no: no such heading\n' +
      'README.md: TODO.md: not in the npm package (files of package.json)\n' +
      'README.md: docs/draft.md: not in the npm package (files of package.json)\n' +
      '6 links in 4 pages, 4 problems\n',
  );
  expect(status).toBe(1);
});
