/**
 * The native host: the kernels as a Node-API addon, `build/gqa.node`, made by scripts/build-native.mjs. It picks its
 * instruction set when it loads (`GQA_ISA=avx512|avx2|baseline` forces one) and maps files.
 */
import { KernelBackend, type KernelHost } from './kernel-backend.ts';
import { KERNEL_ABI, KERNEL_OPS } from './kernel-ops.ts';
import { environment, node } from './platform.ts';

/** What kernels/napi.c exports. */
interface Addon {
  /** GQA_ABI and the names of the operations, in order. */
  readonly abi: string;
  /** @throws RangeError for an instruction set that is unknown or that this processor lacks. */
  init(isa: string): string;
  alloc(byteLength: number): number;
  free(address: number, byteLength: number): void;
  weigh(byteLength: number): void;
  read(address: number, byteLength: number): ArrayBuffer;
  write(address: number, bytes: Uint8Array): void;
  setBlock(block: Float64Array): void;
  run(op: number): void;
  mapFile(path: string): { address: number; byteLength: number };
  unmapFile(address: number, byteLength: number): void;
  setThreads(threads: number): void;
  threads(): number;
}

/** @throws Error with the reason when the addon is not there, does not load, or was built from other kernels. */
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
    weigh: addon.weigh,
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
  // The same relative place from src/backend/ and from dist/backend/.
  const path = new URL('../../build/gqa.node', import.meta.url);
  if (!node.fs.existsSync(path)) {
    throw new Error(
      'no native build (with a C compiler, `npm rebuild gqa` makes it; in a clone `npm run build`)',
    );
  }
  const addon = node.createRequire(import.meta.url)('../../build/gqa.node') as Addon;
  // After an update without a build, operation numbers would mean others.
  if (addon.abi !== [KERNEL_ABI, ...KERNEL_OPS].join(' ')) {
    throw new Error(
      'the native build is of other kernels than this version (`npm rebuild gqa` renews it; in a clone `npm run build`)',
    );
  }
  return addon;
}

/** One mapping per file; it goes when the file is closed and the last storage on it is freed. */
function mapFile(addon: Addon, path: string): ReturnType<KernelHost['openFile']> {
  const { address, byteLength } = addon.mapFile(path);
  let users = 1;
  const release = () => {
    if (--users === 0) addon.unmapFile(address, byteLength);
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
