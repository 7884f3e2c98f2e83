/** The pages of the package link to files of the package: what is in the repository alone is a dead link once installed. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));

test('every relative link of a packed page leads to a packed file', () => {
  const pack = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: root,
    encoding: 'utf8',
  });
  const files = (JSON.parse(pack) as [{ files: { path: string }[] }])[0].files.map(({ path }) => path);
  const pages = files.filter((path) => path.endsWith('.md') && !path.startsWith('docs/api/'));
  expect(pages).toContain('README.md');
  const dead = pages.flatMap((page) =>
    [...readFileSync(root + page, 'utf8').matchAll(/\]\(([^)#\s]+)/g)]
      .map(([, target]) => target)
      .filter((target) => !/^[a-z]+:/.test(target))
      .map((target) => posix.normalize(posix.join(dirname(page), target)).replace(/\/$/, ''))
      .filter((target) => !files.some((path) => path === target || path.startsWith(`${target}/`)))
      .map((target) => `${page}: ${target}`),
  );
  expect(dead).toEqual([]);
}, 60_000);
