/**
 * The native host: the kernels as a Node-API addon, `build/gqa.node`, made by scripts/build-native.mjs. The
 * instruction set is chosen at load time (`GQA_ISA=avx512|avx2|baseline` forces one). Files are
 * memory-mapped.
 */
import { KERNEL_ABI, KERNEL_NAMES } from './calls/index.ts';
import { KernelBackend, type KernelHost } from './kernel-backend.ts';

import { environment, type NodePlatform, node } from './platform.ts';

/** What kernels/napi.c exports. */
interface Addon {
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

/**
 * @throws Error with the reason when the addon is missing, does not load, or was built from other kernels.
 */
export function openNative(): KernelBackend {
  const addon = loadAddon();
  const isa = addon.init(environment('GQA_ISA') ?? '');
  let block = new Float64Array(256);
  addon.setBlock(block);
  const host: KernelHost = {
    name: 'native',
    get description() {
      const threads = addon.threads();
      return `native (${isa}, ${threads} ${threads === 1 ? 'thread' : 'threads'})`;
    },
    alloc: addon.alloc,
    free: addon.free,
    reportExternalMemory: addon.reportExternalMemory,
    read: (address, byteLength) => new Uint8Array(addon.read(address, byteLength)),
    write: addon.write,
    block(length) {
      if (length > block.length) {
        block = new Float64Array(2 * length);
        addon.setBlock(block);
      }
      return block;
    },
    run: addon.run,
    openFile: (path) => mapFile(addon, path),
    setThreads: addon.setThreads,
  };
  return new KernelBackend(host);
}

function loadAddon(): Addon {
  if (!node) throw new Error('no native build outside Node');
  // The same relative path from src/backend/ and dist/backend/; `GQA_ADDON` is the path of another build.
  const path = environment('GQA_ADDON') ?? new URL('../../build/gqa.node', import.meta.url);
  if (!node.fs.existsSync(path)) {
    throw new Error(
      'no native build (to build it, with a C compiler: `npm rebuild gqa`, in a clone `npm run build`)',
    );
  }
  const require = node.createRequire(import.meta.url);
  const addon = require(typeof path === 'string' ? path : '../../build/gqa.node') as Addon;
  // A build of another version may number operations differently.
  if (addon.abi !== [KERNEL_ABI, ...KERNEL_NAMES].join(' ')) {
    throw new Error(
      'the native build is from another version of the kernels (rebuild it: `npm rebuild gqa`, in a clone `npm run build`)',
    );
  }
  if (addon.kernels !== sourcesHash(node, require, path, addon.kernels)) {
    throw new Error(
      'the native build is older than the sources in kernels/ (rebuild it: `npm run build`, in an installed package `npm rebuild gqa`)',
    );
  }
  return addon;
}

/**
 * The hash of kernels/*.[ch] when one of them is newer than the build; otherwise, or without sources, the
 * build's hash.
 */
function sourcesHash(
  { fs }: NodePlatform,
  require: (id: string) => unknown,
  binary: string | URL,
  built: string,
): string {
  const folder = new URL('../../kernels/', import.meta.url);
  if (!fs.existsSync(folder)) return built;
  const names = fs.readdirSync(folder).filter((name) => /\.[ch]$/.test(name));
  const { mtimeMs } = fs.statSync(binary);
  if (names.every((name) => fs.statSync(new URL(name, folder)).mtimeMs <= mtimeMs)) return built;
  const hash = (require('node:crypto') as typeof import('node:crypto')).createHash('sha256');
  for (const name of names.sort()) {
    hash
      .update(name)
      .update('\0')
      .update(fs.readFileSync(new URL(name, folder)));
  }
  return hash.digest('hex');
}

/** One mapping per file; unmapped when the file is closed and its last storage is freed. */
function mapFile(addon: Addon, path: string): ReturnType<KernelHost['openFile']> {
  const { address, byteLength } = addon.mapFile(path);
  let users = 1;
  const release = () => {
    if (--users === 0 && byteLength > 0) addon.free(address);
  };
  return {
    size: byteLength,
    map(byteOffset) {
      users++;
      return { address: address + byteOffset, free: release };
    },
    close: release,
  };
}
