/** The manifests of a release. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  emptyRelease,
  mainManifest,
  platformManifest,
  withHashes,
  // @ts-expect-error: plain JavaScript
} from '../../scripts/release-packages.mjs';
// @ts-expect-error: plain JavaScript
import { PLATFORMS } from '../../tools/prebuilt/platforms.mjs';

const path = (relative: string) => new URL(`../../${relative}`, import.meta.url);
const main = JSON.parse(readFileSync(path('package.json'), 'utf8'));

test('the published manifest runs nothing at install and names the packages at its own version', () => {
  const published = mainManifest(main, ['linux-x64', 'win32-x64']);
  expect(published.scripts).toBeUndefined();
  expect(published.devDependencies).toBeUndefined();
  expect(published.dependencies).toEqual(main.dependencies);
  expect(published.exports).toEqual(main.exports);
  expect(published.optionalDependencies).toEqual({
    '@gqa/linux-x64': main.version,
    '@gqa/win32-x64': main.version,
  });
});

test('the manifest of the clone names no package that is not published', () => {
  expect(main.optionalDependencies).toBeUndefined();
});

test("npm selects a platform's package by os, cpu and C library", () => {
  expect(platformManifest(main, 'linux-arm64-musl')).toMatchObject({
    name: '@gqa/linux-arm64-musl',
    version: main.version,
    main: 'gqa.node',
    os: ['linux'],
    cpu: ['arm64'],
    libc: ['musl'],
  });
  expect(platformManifest(main, 'darwin-x64')).not.toHaveProperty('libc');
  for (const name of Object.keys(PLATFORMS)) {
    const { os, cpu, libc } = platformManifest(main, name);
    expect(name).toBe([os, cpu, ...(libc?.[0] === 'musl' ? ['musl'] : [])].join('-'));
  }
});

test('checksums are written into the built table', () => {
  const table = readFileSync(path('dist/backend/prebuilt.js'), 'utf8');
  const text = withHashes(table, { 'linux-x64': 'abc' });
  expect(text).toMatch(/export const PREBUILT = \{\n {2}"linux-x64": "abc"\n\};/);
  expect(() => withHashes(text, {})).toThrow('expected one empty table');
});

test('only an earlier release is removed', () => {
  const folder = mkdtempSync(join(tmpdir(), 'gqa-release-test-'));
  try {
    const out = join(folder, 'a', 'b');
    emptyRelease(out);
    writeFileSync(join(out, 'gqa-0.1.0.tgz'), '');
    writeFileSync(join(out, 'gqa-linux-x64-musl-0.1.0-rc.1.tgz'), '');
    emptyRelease(out);
    expect(readdirSync(out)).toEqual([]);
    for (const make of [(path: string) => writeFileSync(path, ''), mkdirSync]) {
      writeFileSync(join(out, 'gqa-0.1.0.tgz'), '');
      make(join(out, 'thesis'));
      expect(() => emptyRelease(out)).toThrow('expected an empty folder or an earlier release, got ');
      expect(readdirSync(out)).toEqual(['gqa-0.1.0.tgz', 'thesis']);
      rmSync(join(out, 'thesis'), { recursive: true });
    }
    expect(() => emptyRelease(join(out, 'gqa-0.1.0.tgz'))).toThrow();
    expect(readdirSync(out)).toEqual(['gqa-0.1.0.tgz']);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
