/**
 * Finds and checks the native addon. The first of these that exists is loaded:
 * - the file that `GQA_ADDON` names,
 * - gqa.node beside this module, which can only be in a bundle,
 * - build/gqa.node of the package, made by scripts/build-native.mjs,
 * - gqa.node of the package `@gqa/<platform>`, prebuilt.
 */
import { environment, isAllowed, isNode, node } from '../platform/node.ts';
import { KERNEL_ABI_TEXT } from './calls/index.ts';
import { PREBUILT } from './prebuilt.ts';

/** What kernels/napi.c exports. */
export interface Addon {
  /** GQA_ABI and the names of the operations, in order. */
  readonly abi: string;
  /** SHA-256 of the sources it was built from (scripts/kernels-hash.mjs). */
  readonly kernels: string;
  /** @throws RangeError for an instruction set that is unknown or that this processor lacks. */
  init(isa: string): string;
  alloc(byteLength: number): number;
  /** Frees an address from `alloc` or `mapFile`. */
  free(address: number): void;
  reportExternalMemory(byteLength: number): void;
  read(address: number, byteLength: number): ArrayBuffer;
  write(address: number, bytes: Uint8Array): void;
  setBlock(block: Float64Array): void;
  run(op: number): void;
  mapFile(path: string): { address: number; byteLength: number };
  setThreads(threads: number): void;
  threads(): number;
}

type Require = ReturnType<typeof node.module.createRequire>;

/**
 * @throws Error with the reason when there is no addon, when it does not load, or when it was built from
 * other kernels.
 */
export function loadAddon(): Addon {
  if (!isNode) throw new Error('no native build outside Node');
  if (!isAllowed({ name: 'read' }) || !isAllowed({ name: 'ffi' })) {
    throw new Error('no native build without --allow-read and --allow-ffi');
  }
  // A CommonJS bundle has no import.meta.url.
  const require = node.module.createRequire(import.meta.url ?? __filename);
  const folder = packageFolder(require);
  const built = folder && node.path.join(folder, 'build/gqa.node');
  const path =
    environment('GQA_ADDON') ??
    resolved(require, './gqa.node') ??
    (built && node.fs.existsSync(built) ? built : undefined);
  const addon = path === undefined ? loadPrebuilt(require, folder) : (require(path) as Addon);
  // A build of another version may number operations differently.
  if (addon.abi !== KERNEL_ABI_TEXT) {
    throw new Error(`the native build is from another version of the kernels (${howToBuild(folder)})`);
  }
  if (path !== undefined && addon.kernels !== sourcesHash(require, folder, path, addon.kernels)) {
    throw new Error(`the native build is older than the sources in kernels/ (${howToBuild(folder)})`);
  }
  return addon;
}

/**
 * The folder of this package, by its name: a bundle lies in another folder, and may have the package installed
 * beside it.
 */
function packageFolder(require: Require): string | undefined {
  const manifest = resolved(require, 'gqa/package.json');
  return manifest && node.path.dirname(manifest);
}

/** The path of a module or file; undefined when there is none. */
function resolved(require: Require, id: string): string | undefined {
  try {
    return require.resolve(id);
  } catch {
    return undefined;
  }
}

/**
 * The platforms whose prebuilt kernels may run here. On Linux they are those for glibc and for musl. npm
 * installs the one that fits (`libc` in its manifest); where both are installed, glibc cannot load the one
 * for musl, while musl loads either.
 */
export function prebuiltPlatforms(platform: string, arch: string): string[] {
  const name = `${platform}-${arch}`;
  return platform === 'linux' ? [name, `${name}-musl`] : [name];
}

/** Checked before it is loaded, because loading runs its code. Hashing takes 1 to 3 ms. */
function loadPrebuilt(require: Require, folder: string | undefined): Addon {
  const platforms = prebuiltPlatforms(process.platform, process.arch).filter((name) => name in PREBUILT);
  let failure: unknown;
  for (const platform of platforms) {
    const name = `@gqa/${platform}`;
    const path = resolved(require, `${name}/gqa.node`);
    if (path === undefined) continue; // not installed
    const hash = sha256(require).update(node.fs.readFileSync(path)).digest('hex');
    if (hash !== PREBUILT[platform]) {
      throw new Error(
        `${name}: expected the kernels of this version (SHA-256 ${PREBUILT[platform]}), got ${hash} (install gqa again)`,
      );
    }
    try {
      return require(path) as Addon;
    } catch (error) {
      failure ??= error;
    }
  }
  if (failure) throw failure;
  throw new Error(
    platforms.length > 0
      ? `no native build: the optional dependency @gqa/${platforms[0]} is not installed (${howToBuild(folder)})`
      : `no native build for ${process.platform}-${process.arch} (${howToBuild(folder)})`,
  );
}

function howToBuild(folder: string | undefined): string {
  if (folder === undefined) return 'in a bundle: install gqa beside it';
  return `to build it with a C compiler: node ${node.path.join(folder, 'scripts/build-native.mjs')}`;
}

function sha256(require: Require): import('node:crypto').Hash {
  return (require('node:crypto') as typeof import('node:crypto')).createHash('sha256');
}

/**
 * The hash of kernels/*.[ch] when one of them is newer than the build; otherwise, or without sources, the
 * build's hash.
 */
function sourcesHash(require: Require, folder: string | undefined, binary: string, built: string): string {
  const { fs, path } = node;
  const kernels = folder && path.join(folder, 'kernels');
  if (!kernels || !fs.existsSync(kernels)) return built;
  const names = fs.readdirSync(kernels).filter((name) => /\.[ch]$/.test(name));
  const { mtimeMs } = fs.statSync(binary);
  if (names.every((name) => fs.statSync(path.join(kernels, name)).mtimeMs <= mtimeMs)) return built;
  const hash = sha256(require);
  for (const name of names.sort()) {
    hash
      .update(name)
      .update('\0')
      .update(fs.readFileSync(path.join(kernels, name)));
  }
  return hash.digest('hex');
}
