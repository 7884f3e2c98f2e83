/**
 * The native host: the kernels as a Node-API addon. The instruction set is chosen at load time
 * (`GQA_ISA` forces one of the names in kernels/dispatch.c, such as `avx512+amx`, `avx512`, `neon`). Files are
 * memory-mapped.
 */
import { environment, node } from '../platform/node.ts';
import { KernelBackend, type KernelHost } from './kernel-backend.ts';
import { type Addon, loadAddon } from './native-addon.ts';

/**
 * @param threads default: the number of processors
 * @throws Error with the reason when the addon is missing, does not load, or was built from other kernels.
 */
export function openNative(threads?: number): KernelBackend {
  const addon = loadAddon();
  const isa = addon.init(environment('GQA_ISA') ?? '');
  let block = new Float64Array(256);
  addon.setBlock(block);
  if (threads !== undefined) addon.setThreads(threads);
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
    async setThreads(count) {
      addon.setThreads(count);
    },
  };
  return new KernelBackend(host);
}

/** One mapping per file; unmapped when the file is closed and its last storage is freed. */
function mapFile(addon: Addon, path: string): ReturnType<KernelHost['openFile']> {
  // Windows takes paths above 260 characters only in this form; elsewhere it is the path itself.
  const { address, byteLength } = addon.mapFile(node.path.toNamespacedPath(path));
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
