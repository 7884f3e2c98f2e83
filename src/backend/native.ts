/**
 * The native host: the kernels as a Node-API addon. The instruction set is chosen at load time
 * (`GQA_ISA` forces one of the names in kernels/dispatch.c, such as `avx512+amx`, `avx512`, `neon`). Files are
 * memory-mapped, or read into memory when asked for.
 */
import { environment, node } from '../platform/node.ts';
import { KernelBackend, type KernelHost } from './kernel-backend.ts';
import { outOfMemory } from './memory-range.ts';
import { type Addon, loadAddon } from './native-addon.ts';

/** Bytes of a file that are read at once. */
const READ_SLICE = 1 << 20;

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
    openFile: (path, useMmap) => (useMmap ? mapFile(addon, path) : readFile(addon, path)),
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

/**
 * One buffer for the whole file, into which each requested range is read. The system gives a large buffer
 * pages of 2 MiB where it has them (kernels/os_posix.c), a mapped file pages of 4 KiB.
 */
function readFile(addon: Addon, path: string): ReturnType<KernelHost['openFile']> {
  const { fs } = node;
  const descriptor = fs.openSync(path, 'r');
  const { size } = fs.fstatSync(descriptor);
  const address = addon.alloc(size);
  if (address === 0) {
    fs.closeSync(descriptor);
    throw outOfMemory(`native: reading ${path}`, size);
  }
  const slice = new Uint8Array(Math.min(size, READ_SLICE));
  let users = 1;
  const release = () => {
    if (--users === 0) addon.free(address);
  };
  return {
    size,
    map(byteOffset, byteLength) {
      for (let done = 0; done < byteLength; ) {
        const length = Math.min(slice.length, byteLength - done);
        const count = fs.readSync(descriptor, slice, 0, length, byteOffset + done);
        if (count === 0) throw new Error(`${path}: unexpected end of file at byte ${byteOffset + done}`);
        addon.write(address + byteOffset + done, slice.subarray(0, count));
        done += count;
      }
      users++;
      return { address: address + byteOffset, free: release };
    },
    close() {
      fs.closeSync(descriptor);
      release();
    },
  };
}
