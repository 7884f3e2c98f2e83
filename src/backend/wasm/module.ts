/**
 * The compiled module of the kernels: of two builds the one that the engine supports, relaxed SIMD or SIMD128.
 * `GQA_ISA=relaxed|simd128` forces one.
 *
 * Node, Bun and Deno read the file beside this one, synchronously. Elsewhere `loadModule` fetches it; where a
 * bundler does not carry the file (esbuild), it imports the same bytes as compressed base64.
 */
import { environment, isAllowed, isNode, node } from '../../platform/node.ts';

/** The name of a build. */
type WasmIsa = 'relaxed' | 'simd128';

/** A build of the kernels, compiled. */
export interface KernelModule {
  readonly isa: WasmIsa;
  readonly module: WebAssembly.Module;
}

/** Thrown where the module must be fetched first. */
export class ModuleNotLoaded extends Error {}

// The arguments are literals, because bundlers find the files by them.
const BUILDS: Readonly<Record<WasmIsa, { url(): URL; base64(): Promise<{ readonly default: string }> }>> = {
  relaxed: {
    url: () => new URL('./relaxed.wasm', import.meta.url),
    base64: () => import('./relaxed.embedded.js'),
  },
  simd128: {
    url: () => new URL('./simd128.wasm', import.meta.url),
    base64: () => import('./simd128.embedded.js'),
  },
};

/** A function of one relaxed-SIMD instruction; wasm-feature-detect uses the same bytes. */
const RELAXED_SIMD = [
  ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0],
  ...[65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11],
];

let loaded: KernelModule | undefined;

/** Whether `GQA_ISA` names one of the WASM builds. */
export function isWasmIsa(isa: string): isa is WasmIsa {
  return isa === 'relaxed' || isa === 'simd128';
}

/**
 * The compiled module, now.
 * @throws ModuleNotLoaded when its file cannot be read and `loadModule` has not run; RangeError for an
 * unknown GQA_ISA; CompileError when the engine lacks the build's instructions
 */
export function kernelModule(): KernelModule {
  if (!loaded) {
    const isa = chosenIsa();
    loaded = { isa, module: new WebAssembly.Module(readBuild(isa)) };
  }
  return loaded;
}

/** Fetches and compiles the module, so that `kernelModule` returns it. @throws as `kernelModule` */
export async function loadModule(): Promise<void> {
  const isa = chosenIsa();
  // Where Node's modules are, there is no file, or it may not be read.
  const fetched = isNode ? undefined : await fetchBuild(isa);
  const module = fetched ?? (await WebAssembly.compile(await embeddedBuild(isa)));
  loaded ??= { isa, module };
}

function chosenIsa(): WasmIsa {
  // Node 20 has relaxed SIMD behind a flag, which can be set at run time.
  if (isNode && Number(process.versions.node.split('.')[0]) < 22) {
    node.v8.setFlagsFromString('--experimental-wasm-relaxed-simd');
  }
  const wanted = environment('GQA_ISA');
  if (wanted !== undefined && isWasmIsa(wanted)) return wanted;
  // Names of native instruction sets are ignored, so that one setting serves a program that uses both.
  if (wanted !== undefined && !/^(avx512|avx2|baseline|neon)(\+\w+)?$/.test(wanted)) {
    throw new RangeError(`GQA_ISA: expected relaxed or simd128, got ${wanted}`);
  }
  return WebAssembly.validate(new Uint8Array(RELAXED_SIMD)) ? 'relaxed' : 'simd128';
}

function readBuild(isa: WasmIsa): Uint8Array<ArrayBuffer> {
  let reason = isNode ? 'without --allow-read' : 'a browser fetches them';
  if (isNode && isAllowed({ name: 'read' })) {
    try {
      return new Uint8Array(node.fs.readFileSync(BUILDS[isa].url()));
    } catch (error) {
      reason = (error as Error).message;
    }
  }
  throw new ModuleNotLoaded(
    `wasm: expected \`await setBackend('wasm')\` or \`await loadModel(…)\` before the first tensor, because kernels are loaded asynchronously here (${reason})`,
  );
}

/** Undefined when there is no such file, or another one (a server's page for unknown paths). */
async function fetchBuild(isa: WasmIsa): Promise<WebAssembly.Module | undefined> {
  try {
    const response = await fetch(BUILDS[isa].url());
    if (!response.ok) return undefined;
    // Streaming needs the type; some servers send another one.
    if (response.headers.get('content-type') === 'application/wasm') {
      return await WebAssembly.compileStreaming(response);
    }
    return await WebAssembly.compile(await response.arrayBuffer());
  } catch {
    return undefined;
  }
}

async function embeddedBuild(isa: WasmIsa): Promise<Uint8Array<ArrayBuffer>> {
  const { default: base64 } = await BUILDS[isa].base64();
  const compressed = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const bytes = new Blob([compressed]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(bytes).arrayBuffer());
}
