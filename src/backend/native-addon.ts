/**
 * Finds and checks the native addon. The first of these that exists is loaded:
 * - the file that `GQA_ADDON` names,
 * - build/gqa.node beside this package's files, made by scripts/build-native.mjs,
 * - gqa.node of the package `@gqa/<platform>`, prebuilt.
 */
import { environment, isNode, node } from '../platform/node.ts';
import { KERNEL_ABI, KERNEL_NAMES } from './calls/index.ts';
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
  const require = node.module.createRequire(import.meta.url);
  const named = environment('GQA_ADDON');
  // The same relative path from src/backend/ and dist/backend/.
  const built = new URL('../../build/gqa.node', import.meta.url);
  if (named !== undefined || node.fs.existsSync(built)) {
    const addon = checkAbi(require(named ?? '../../build/gqa.node') as Addon, require);
    if (addon.kernels !== sourcesHash(require, named ?? built, addon.kernels)) {
      throw new Error(`the native build is older than the sources in kernels/ (${howToBuild(require)})`);
    }
    return addon;
  }
  return checkAbi(loadPrebuilt(require), require);
}

/**
 * The platforms whose prebuilt kernels may run here. On Linux they are those for glibc and for musl: npm
 * installs the one that fits (`libc` in its manifest), and loading the other one fails.
 */
export function prebuiltPlatforms(platform: string, arch: string): string[] {
  const name = `${platform}-${arch}`;
  return platform === 'linux' ? [name, `${name}-musl`] : [name];
}

/** Checked before it is loaded, because loading runs its code. Hashing takes 1 to 3 ms. */
function loadPrebuilt(require: Require): Addon {
  const platforms = prebuiltPlatforms(process.platform, process.arch).filter((name) => name in PREBUILT);
  let failure: unknown;
  for (const platform of platforms) {
    const name = `@gqa/${platform}`;
    let path: string;
    try {
      path = require.resolve(`${name}/gqa.node`);
    } catch {
      continue; // not installed
    }
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
      ? `no native build: the optional dependency @gqa/${platforms[0]} is not installed (${howToBuild(require)})`
      : `no native build for ${process.platform}-${process.arch} (${howToBuild(require)})`,
  );
}

/** A build of another version may number operations differently. */
function checkAbi(addon: Addon, require: Require): Addon {
  if (addon.abi !== [KERNEL_ABI, ...KERNEL_NAMES].join(' ')) {
    throw new Error(`the native build is from another version of the kernels (${howToBuild(require)})`);
  }
  return addon;
}

function howToBuild(require: Require): string {
  try {
    return `to build it with a C compiler: node ${require.resolve('../../scripts/build-native.mjs')}`;
  } catch {
    return 'in a bundle: install gqa beside it'; // the script is not in the bundle
  }
}

function sha256(require: Require): import('node:crypto').Hash {
  return (require('node:crypto') as typeof import('node:crypto')).createHash('sha256');
}

/**
 * The hash of kernels/*.[ch] when one of them is newer than the build; otherwise, or without sources, the
 * build's hash.
 */
function sourcesHash(require: Require, binary: string | URL, built: string): string {
  const { fs } = node;
  const folder = new URL('../../kernels/', import.meta.url);
  if (!fs.existsSync(folder)) return built;
  const names = fs.readdirSync(folder).filter((name) => /\.[ch]$/.test(name));
  const { mtimeMs } = fs.statSync(binary);
  if (names.every((name) => fs.statSync(new URL(name, folder)).mtimeMs <= mtimeMs)) return built;
  const hash = sha256(require);
  for (const name of names.sort()) {
    hash
      .update(name)
      .update('\0')
      .update(fs.readFileSync(new URL(name, folder)));
  }
  return hash.digest('hex');
}
