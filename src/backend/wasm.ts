/**
 * The WASM host: the same kernels in SIMD128 and relaxed-SIMD builds (wasm/module.ts), on shared memory of up
 * to 4 GiB with a pool of workers (wasm/threads.ts).
 */
import { isNode, node } from '../platform/node.ts';
import { KERNEL_ABI_TEXT } from './calls/index.ts';
import { KernelBackend, type KernelHost } from './kernel-backend.ts';
import { outOfMemory } from './memory-range.ts';
import type { KernelExports } from './wasm/exports.ts';
import { kernelModule } from './wasm/module.ts';
import { defaultThreads, WasmThreads } from './wasm/threads.ts';

const PAGE = 65536;
const READ_SLICE = 1 << 22;

/**
 * @param threads default: the number of processors
 * @throws as `kernelModule`; RangeError when the engine has no memory; Error for a module of other kernels
 */
export function openWasm(threads: number = defaultThreads()): KernelBackend {
  const { isa, module } = kernelModule();
  const { memory, limit } = makeMemory();
  const wasm = new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as KernelExports;
  checkVersion(wasm, memory);
  const pool = new WasmThreads(module, memory, wasm, threads);
  const stack = wasm.__stack_pointer.value;
  const usage = () => ({ inUse: wasm.gqa_bytes_in_use() >>> 0, limit });
  let blockLength = 0;
  let blockAddress = 0;
  let block: Float64Array;
  const host: KernelHost = {
    name: 'wasm',
    get description() {
      return `wasm (${isa}, ${pool.description})`;
    },
    alloc: (byteLength) => (byteLength < 2 ** 32 ? wasm.gqa_alloc(byteLength) >>> 0 : 0),
    free: (address, byteLength) => wasm.gqa_free(address, byteLength),
    usage,
    // A copy, because much of a browser refuses views of shared memory (TextDecoder, Blob, crypto).
    read: (address, byteLength) => new Uint8Array(viewOf(memory, address, byteLength)),
    write: (address, data) => viewOf(memory, address, data.byteLength).set(data),
    block(length) {
      if (length > blockLength) {
        wasm.gqa_free(blockAddress, 8 * blockLength);
        blockLength = Math.max(256, 2 * length);
        blockAddress = host.alloc(8 * blockLength);
        if (blockAddress === 0) {
          blockLength = 0;
          throw outOfMemory('wasm', 16 * length, usage());
        }
        const { buffer, byteOffset } = viewOf(memory, blockAddress, 8 * blockLength);
        block = new Float64Array(buffer, byteOffset, blockLength);
      }
      return block;
    },
    // Nothing to report: V8 knows the size of WASM memory, which never shrinks.
    reportExternalMemory() {},
    run(op) {
      try {
        if (wasm.gqa_call(op, blockAddress) !== 0) void pool.start();
      } catch (error) {
        if (!(error instanceof WebAssembly.RuntimeError)) throw error;
        // Kernels trap when there is no memory for their scratch. Workers end the tasks that they have begun.
        wasm.gqa_abandon();
        wasm.__stack_pointer.value = stack;
        throw error.message.includes('unreachable')
          ? outOfMemory('wasm', wasm.gqa_bytes_refused() >>> 0, usage())
          : error;
      }
    },
    openFile: (path) => readFile(host, memory, path),
    setThreads: (count) => pool.set(count),
    startThreads: () => pool.start(),
  };
  host.block(256);
  return new KernelBackend(host);
}

/** A module of another version may number operations differently. */
function checkVersion(wasm: KernelExports, memory: WebAssembly.Memory): void {
  const expected = new TextEncoder().encode(`${KERNEL_ABI_TEXT}\0`);
  const stated = wasm.gqa_abi && viewOf(memory, wasm.gqa_abi(), expected.length);
  if (stated && expected.every((byte, i) => byte === stated[i])) return;
  throw new Error('wasm: expected a module of the same kernels, got one of another version (npm run build)');
}

/** Shared memory of at most 4 GiB, or less where the engine does not reserve as much. */
function makeMemory(): { memory: WebAssembly.Memory; limit: number } {
  for (let maximum = 65536; ; maximum /= 2) {
    try {
      const memory = new WebAssembly.Memory({ initial: 16, maximum, shared: true });
      return { memory, limit: maximum * PAGE };
    } catch (error) {
      if (maximum === 2048) throw error;
    }
  }
}

/** The bytes in memory. */
function viewOf(memory: WebAssembly.Memory, address: number, byteLength: number): Uint8Array<ArrayBuffer> {
  // When a worker has grown the memory, the buffer of this thread may still have the old size.
  if (memory.buffer.byteLength < address + byteLength) memory.grow(0);
  return new Uint8Array(memory.buffer, address, byteLength);
}

/** Reads each requested range into WASM memory, one slice at a time. */
function readFile(
  host: KernelHost,
  memory: WebAssembly.Memory,
  path: string,
): ReturnType<KernelHost['openFile']> {
  if (!isNode) throw new Error(`${path}: no file access outside Node`);
  const { fs } = node;
  const descriptor = fs.openSync(path, 'r');
  return {
    size: fs.fstatSync(descriptor).size,
    map(byteOffset, byteLength) {
      const address = host.alloc(byteLength);
      if (address === 0) throw outOfMemory(`wasm: reading ${path}`, byteLength, host.usage?.());
      for (let done = 0; done < byteLength; ) {
        const view = viewOf(memory, address + done, Math.min(READ_SLICE, byteLength - done));
        const count = fs.readSync(descriptor, view, 0, view.length, byteOffset + done);
        if (count === 0) throw new Error(`${path}: unexpected end of file at byte ${byteOffset + done}`);
        done += count;
      }
      return { address, free: () => host.free(address, byteLength) };
    },
    close: () => fs.closeSync(descriptor),
  };
}
