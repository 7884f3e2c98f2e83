/**
 * The WASM host: the same kernels in SIMD128 and relaxed-SIMD builds (wasm/module.ts). One thread.
 */
import { isNode, node } from '../platform/node.ts';
import { KernelBackend, type KernelHost } from './kernel-backend.ts';
import { kernelModule } from './wasm/module.ts';

interface Exports {
  memory: WebAssembly.Memory;
  gqa_alloc(byteLength: number): number;
  gqa_free(address: number, byteLength: number): void;
  gqa_call(op: number, block: number): void;
}

const READ_SLICE = 1 << 22;

/** @throws as `kernelModule` */
export function openWasm(): KernelBackend {
  const { isa, module } = kernelModule();
  const wasm = new WebAssembly.Instance(module, {}).exports as unknown as Exports;
  const bytes = () => new Uint8Array(wasm.memory.buffer);
  let blockLength = 256;
  let blockAddress = wasm.gqa_alloc(8 * blockLength);
  const host: KernelHost = {
    name: 'wasm',
    description: `wasm (${isa}, 1 thread)`,
    // Addresses above 2 GiB come back from WASM as negative i32.
    alloc: (byteLength) => (byteLength < 2 ** 32 ? wasm.gqa_alloc(byteLength) >>> 0 : 0),
    free: (address, byteLength) => wasm.gqa_free(address, byteLength),
    read: (address, byteLength) => bytes().slice(address, address + byteLength) as Uint8Array<ArrayBuffer>,
    write: (address, data) => bytes().set(data, address),
    block(length) {
      if (length > blockLength) {
        wasm.gqa_free(blockAddress, 8 * blockLength);
        blockLength = 2 * length;
        blockAddress = wasm.gqa_alloc(8 * blockLength) >>> 0;
      }
      return new Float64Array(wasm.memory.buffer, blockAddress, blockLength);
    },
    // Nothing to report: V8 knows the size of WASM memory, which never shrinks.
    reportExternalMemory() {},
    run: (op) => wasm.gqa_call(op, blockAddress),
    openFile: (path) => readFile(host, wasm, path),
    setThreads() {},
  };
  return new KernelBackend(host);
}

/** Reads each requested range into WASM memory, one slice at a time. */
function readFile(host: KernelHost, wasm: Exports, path: string): ReturnType<KernelHost['openFile']> {
  if (!isNode) throw new Error(`${path}: no file access outside Node`);
  const { fs } = node;
  const descriptor = fs.openSync(path, 'r');
  return {
    size: fs.fstatSync(descriptor).size,
    map(byteOffset, byteLength) {
      const address = host.alloc(byteLength);
      if (address === 0) throw new RangeError(`wasm: out of memory reading ${byteLength} bytes of ${path}`);
      for (let done = 0; done < byteLength; ) {
        const view = new Uint8Array(
          wasm.memory.buffer,
          address + done,
          Math.min(READ_SLICE, byteLength - done),
        );
        const count = fs.readSync(descriptor, view, 0, view.length, byteOffset + done);
        if (count === 0) throw new Error(`${path}: unexpected end of file at byte ${byteOffset + done}`);
        done += count;
      }
      return { address, free: () => host.free(address, byteLength) };
    },
    close: () => fs.closeSync(descriptor),
  };
}
