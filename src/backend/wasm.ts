/**
 * The WASM host: the same kernels in SIMD128 and relaxed-SIMD builds, embedded as base64 in
 * kernels.generated.ts. `GQA_ISA=relaxed|simd128` forces one; otherwise relaxed SIMD where the engine
 * validates it. One thread.
 */
import { KernelBackend, type KernelHost } from './kernel-backend.ts';
import { environment, node } from './platform.ts';

type WasmIsa = 'relaxed' | 'simd128';

/**
 * The file of the embedded builds, when it lies beside this one (Node, unless bundled). It is read when WASM
 * is first used: as a module, V8 would keep its 0.8 MB of source in memory for programs that run on the
 * native build.
 */
const file = node && fileOfBuilds(node.fs.existsSync);
/** Elsewhere it is imported as a module. */
const embedded = file ? undefined : (await import('./kernels.generated.ts')).WASM_BUILDS;

interface Exports {
  memory: WebAssembly.Memory;
  gqa_alloc(byteLength: number): number;
  gqa_free(address: number, byteLength: number): void;
  gqa_call(op: number, block: number): void;
}

const READ_SLICE = 1 << 22;

/** @throws Error when the engine has no WASM SIMD; RangeError when GQA_ISA names a build that cannot run. */
export function openWasm(): KernelBackend {
  const { isa, module } = compile();
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

/** Whether `GQA_ISA` names one of the WASM builds. */
export function isWasmIsa(isa: string): isa is WasmIsa {
  return isa === 'relaxed' || isa === 'simd128';
}

function compile(): { isa: WasmIsa; module: WebAssembly.Module } {
  // Node 20 has relaxed SIMD behind a flag, which can be set at run time.
  if (Number(node && process.versions.node.split('.')[0]) < 22) {
    node?.v8.setFlagsFromString('--experimental-wasm-relaxed-simd');
  }
  const wanted = environment('GQA_ISA');
  const forced = wanted !== undefined && isWasmIsa(wanted) ? wanted : undefined;
  // Names of native instruction sets are ignored, so that one setting serves a program that uses both.
  if (!forced && wanted !== undefined && !['avx512', 'avx2', 'baseline'].includes(wanted)) {
    throw new RangeError(`GQA_ISA: expected relaxed or simd128, got ${wanted}`);
  }
  for (const isa of forced ? [forced] : (['relaxed', 'simd128'] satisfies WasmIsa[])) {
    const bytes = fromBase64(embedded?.[isa] ?? readBuild(isa));
    if (WebAssembly.validate(bytes)) return { isa, module: new WebAssembly.Module(bytes) };
  }
  throw new Error(`wasm: this engine does not support ${forced ?? 'SIMD'} WebAssembly`);
}

function fileOfBuilds(exists: (path: URL) => boolean): URL | undefined {
  // The extension is .ts when running from src/.
  const [, folder, extension] = /^(file:.*\/)wasm(\.[jt]s)$/.exec(import.meta.url) ?? [];
  if (!folder) return undefined;
  const path = new URL(`${folder}kernels.generated${extension}`);
  return exists(path) ? path : undefined;
}

function readBuild(isa: WasmIsa): string {
  const source = node && file ? node.fs.readFileSync(file, 'latin1') : '';
  const text = new RegExp(`\\b${isa}: ["']([^"']+)["']`).exec(source)?.[1];
  if (!text) throw new Error(`wasm: no build for ${isa} in ${file}`);
  return text;
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** Reads each requested range into WASM memory, one slice at a time. */
function readFile(host: KernelHost, wasm: Exports, path: string): ReturnType<KernelHost['openFile']> {
  if (!node) throw new Error(`${path}: no file access outside Node`);
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
