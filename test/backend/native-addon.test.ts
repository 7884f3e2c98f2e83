/** Which native addon is loaded: `GQA_ADDON`, build/gqa.node, or a package with prebuilt kernels. */
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { prebuiltPlatforms } from '../../src/backend/native-addon.ts';

const built = process.env.GQA_ADDON || fileURLToPath(new URL('../../build/gqa.node', import.meta.url));
const [first, second] = prebuiltPlatforms(process.platform, process.arch);
let project: string;

beforeEach(() => {
  project = mkdtempSync(join(tmpdir(), 'gqa-addon-'));
});

afterEach(() => {
  vi.unstubAllEnvs();
  vi.doUnmock('../../src/platform/node.ts');
  vi.doUnmock('../../src/backend/prebuilt.ts');
  vi.resetModules();
  rmSync(project, { recursive: true });
});

const addonOf = (platform: string) => join(project, 'node_modules/@gqa', platform, 'gqa.node');
const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

function install(platform: string, write: (path: string) => void) {
  const path = addonOf(platform);
  mkdirSync(dirname(path), { recursive: true });
  write(path);
}

/** `loadAddon` of a bundle in `project`. */
async function load(prebuilt: Readonly<Record<string, string>>) {
  vi.resetModules();
  vi.stubEnv('GQA_ADDON', '');
  vi.doMock('../../src/backend/prebuilt.ts', () => ({ PREBUILT: prebuilt }));
  vi.doMock('../../src/platform/node.ts', async (original) => {
    const platform = await original<typeof import('../../src/platform/node.ts')>();
    const createRequireThere = () => createRequire(join(project, 'program.js'));
    return { ...platform, node: { ...platform.node, module: { createRequire: createRequireThere } } };
  });
  const { loadAddon } = await import('../../src/backend/native-addon.ts');
  return loadAddon();
}

test('the packages of a platform', () => {
  expect(prebuiltPlatforms('linux', 'x64')).toEqual(['linux-x64', 'linux-x64-musl']);
  expect(prebuiltPlatforms('linux', 'arm64')).toEqual(['linux-arm64', 'linux-arm64-musl']);
  expect(prebuiltPlatforms('darwin', 'arm64')).toEqual(['darwin-arm64']);
  expect(prebuiltPlatforms('win32', 'x64')).toEqual(['win32-x64']);
});

test.skipIf(!existsSync(built))('a package with the checksum of this version is loaded', async () => {
  install(first, (path) => copyFileSync(built, path));
  const addon = await load({ [first]: sha256(built) });
  expect(addon.init('')).toMatch(/^((avx512|avx2|neon)(\+\w+)?|baseline)$/);
});

test('a package with another checksum is refused before it runs', async () => {
  install(first, (path) => writeFileSync(path, 'other kernels'));
  const got = sha256(addonOf(first));
  await expect(load({ [first]: 'abc' })).rejects.toThrow(
    `@gqa/${first}: expected the kernels of this version (SHA-256 abc), got ${got} (install gqa again)`,
  );
});

test('without a checksum no package is loaded', async () => {
  install(first, (path) => writeFileSync(path, 'unknown kernels'));
  await expect(load({})).rejects.toThrow(`no native build for ${process.platform}-${process.arch}`);
});

test('a missing package is named, with how to build', async () => {
  await expect(load({ [first]: 'abc' })).rejects.toThrow(
    `no native build: the optional dependency @gqa/${first} is not installed`,
  );
});

test.skipIf(process.platform !== 'linux' || !existsSync(built))(
  'on Linux the package for the other C library is tried when one does not load',
  async () => {
    install(first, (path) => writeFileSync(path, 'not a library of this system'));
    const hashes = { [first]: sha256(addonOf(first)), [second]: sha256(built) };
    await expect(load(hashes)).rejects.toThrow(addonOf(first));
    install(second, (path) => copyFileSync(built, path));
    expect((await load(hashes)).threads()).toBeGreaterThan(0);
  },
);

test('GQA_ADDON comes before every other build', async () => {
  vi.resetModules();
  const path = join(project, 'named.node');
  writeFileSync(path, 'not a library');
  vi.stubEnv('GQA_ADDON', path);
  const { loadAddon } = await import('../../src/backend/native-addon.ts');
  expect(() => loadAddon()).toThrow(path);
});
