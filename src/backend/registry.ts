/**
 * The choice of backend. The default is native when its binary loads, else WASM; `GQA_BACKEND` or
 * `setBackend` force one. A fallback prints one line on stderr.
 */
import { show } from '../arguments/kinds.ts';
import { environment, isNode } from '../platform/node.ts';
import { ownerOf } from '../tensor/storage.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Backend, BackendName } from './backend.ts';
import type { Operand } from './calls/call.ts';
import { openNative } from './native.ts';
import { ReferenceBackend } from './reference.ts';
import { isWasmIsa, loadModule, ModuleNotLoaded } from './wasm/module.ts';
import { openWasm } from './wasm.ts';

const NAMES: readonly BackendName[] = ['native', 'wasm', 'reference'];
const opened = new Map<BackendName, Backend>();
let current: Backend | undefined;

/** The backend that new tensors are made on. Opens the default one on first use. */
export function getBackend(): Backend {
  current ??= openDefault();
  return current;
}

/**
 * Makes `name` the backend of new tensors; existing tensors stay where they are.
 * @throws RangeError for an unknown name; Error when that backend cannot run here, with the reason.
 * @returns the backend.
 */
export async function setBackend(name: BackendName): Promise<Backend> {
  current = await readyBackend(name);
  return current;
}

/**
 * Number of threads the current backend's kernels may use, the calling one included. Default: `GQA_THREADS`,
 * else the number of processors. Results have the same bits for any number. On the native backend it takes
 * effect before this returns. On WASM the promise resolves when the workers are ready; in a browser they need
 * a page that is cross-origin isolated, and `getBackend().description` says what there is. The reference
 * backend has one thread.
 * @throws RangeError unless `threads` is an integer from 1 to 64.
 */
export async function setThreads(threads: number): Promise<void> {
  checkThreads('setThreads', threads);
  const backend = openNow(getBackend) ?? (await readyBackend());
  await backend.setThreads(threads);
}

/**
 * `open(name, op)`, or the current backend without a name. Opens it first where that is asynchronous: in a
 * browser the kernels are fetched. Async functions that make tensors begin with it.
 */
export async function readyBackend(name?: BackendName, op?: string): Promise<Backend> {
  const openIt = () => (name === undefined ? getBackend() : open(name, op));
  const backend = openNow(openIt);
  if (backend) return backend;
  await loadModule();
  const loaded = openIt();
  // Workers start only while the program waits, which later calls need not do.
  await loaded.startThreads();
  return loaded;
}

/** Undefined when the module of the kernels must be loaded first. */
function openNow(openIt: () => Backend): Backend | undefined {
  try {
    return openIt();
  } catch (error) {
    if (error instanceof ModuleNotLoaded) return undefined;
    throw error;
  }
}

/** Opens a backend by name without making it current; `op` is the function named in errors. */
export function open(name: BackendName, op = 'setBackend'): Backend {
  if (!NAMES.includes(name)) {
    throw new RangeError(`${op}: expected one of ${NAMES.join(', ')}, got ${show(name)}`);
  }
  let backend = opened.get(name);
  if (!backend) {
    const given = environment('GQA_THREADS');
    const threads = given === undefined ? undefined : checkThreads('GQA_THREADS', Number(given), given);
    if (name === 'reference') backend = new ReferenceBackend();
    else backend = name === 'native' ? openNative(threads) : openWasm(threads);
    opened.set(name, backend);
  }
  return backend;
}

/** The backend a tensor lives on. */
export function backendOf(tensor: Tensor | Operand): Backend {
  return ownerOf(tensor.storage) as Backend;
}

function openDefault(): Backend {
  const forced = environment('GQA_BACKEND');
  if (forced !== undefined) return open(forced as BackendName, 'GQA_BACKEND');
  // A requested instruction set that is unavailable is an error, not a fallback.
  const isa = environment('GQA_ISA');
  if (isa !== undefined) return open(isWasmIsa(isa) ? 'wasm' : 'native');
  try {
    return open('native');
  } catch (error) {
    const backend = open('wasm');
    // In a browser WASM is not a fallback.
    if (isNode) {
      console.warn(
        `gqa: using ${backend.description}: ${(error as Error).message} (GQA_BACKEND=wasm silences this)`,
      );
    }
    return backend;
  }
}

/** @param given the value as the caller wrote it */
function checkThreads(op: string, threads: number, given: unknown = threads): number {
  if (!Number.isInteger(threads) || threads < 1 || threads > 64) {
    throw new RangeError(`${op}: expected an integer from 1 to 64, got ${show(given)}`);
  }
  return threads;
}
