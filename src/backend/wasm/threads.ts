/**
 * The workers of the WASM kernels. Each has an instance of the module on the same shared memory, and runs
 * tasks of the calls that the program's thread makes (kernels/threads_wasm.c). They start with the first call
 * that has work for them, or with `set`, and never keep a process alive.
 */
import { isNode, node } from '../../platform/node.ts';
import type { KernelExports } from './exports.ts';

const STACK_BYTES = 1 << 18;
const MAX_THREADS = 64;

/**
 * The program of a worker, for Node (CommonJS) and browsers (a classic script). A trap ends a task, not the
 * worker: it begins again, with an empty stack.
 */
const SOURCE = `
const run = (post) => ({ module, memory, worker, stack }) => {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  post('ready');
  for (;;) {
    exports.__stack_pointer.value = stack;
    try {
      exports.gqa_worker(worker);
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError)) throw error;
    }
  }
};
if (typeof require === 'function') {
  const { parentPort, workerData } = require('node:worker_threads');
  run((message) => parentPort.postMessage(message))(workerData);
} else {
  onmessage = ({ data }) => run(postMessage)(data);
}
`;

/** What a worker is made of, as it is posted. */
interface WorkerParts {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  /** Its number; the program's thread is 0. */
  readonly worker: number;
  /** The top of its stack. */
  readonly stack: number;
}

export class WasmThreads {
  readonly #module: WebAssembly.Module;
  readonly #memory: WebAssembly.Memory;
  readonly #wasm: KernelExports;
  /** One promise for each worker, which resolves when it takes tasks. */
  readonly #workers: Promise<void>[] = [];
  #threads: number;
  /** The most threads that there can be, and why not more. */
  #most = MAX_THREADS;
  #reason: string | undefined;

  /** @param threads wanted */
  constructor(module: WebAssembly.Module, memory: WebAssembly.Memory, wasm: KernelExports, threads: number) {
    this.#module = module;
    this.#memory = memory;
    this.#wasm = wasm;
    this.#reason = whyNoWorkers();
    if (this.#reason !== undefined) this.#most = 1;
    this.#threads = this.#want(threads);
  }

  /** For display: `2 threads`, or `1 thread: the page is not cross-origin isolated`. */
  get description(): string {
    const reason = this.#reason === undefined ? '' : `: ${this.#reason}`;
    return `${this.#threads} ${this.#threads === 1 ? 'thread' : 'threads'}${reason}`;
  }

  /** Uses `threads` threads, or as many as there can be, from now on; resolves when their workers are ready. */
  async set(threads: number): Promise<void> {
    this.#threads = this.#want(threads);
    await this.start();
  }

  /** Starts the workers that are missing; resolves when they are ready. Never rejects. */
  async start(): Promise<void> {
    while (this.#workers.length < this.#threads - 1)
      this.#workers.push(this.#begin(this.#workers.length + 1));
    await Promise.all(this.#workers.slice(0, this.#threads - 1));
  }

  #want(threads: number): number {
    const possible = Math.min(threads, this.#most);
    this.#wasm.gqa_set_threads(possible);
    return possible;
  }

  async #begin(worker: number): Promise<void> {
    try {
      const address = this.#wasm.gqa_alloc(STACK_BYTES) >>> 0;
      if (address === 0) throw new RangeError('out of memory for its stack');
      const stack = address + STACK_BYTES;
      await startWorker({ module: this.#module, memory: this.#memory, worker, stack });
    } catch (error) {
      this.#reason ??= `no worker (${(error as Error)?.message ?? error})`;
      this.#most = Math.min(this.#most, worker);
      this.#threads = this.#want(this.#threads);
    }
  }
}

/** The number of threads where nobody asks for another: one for each processor. */
export function defaultThreads(): number {
  const processors = isNode ? node.os.availableParallelism() : navigator.hardwareConcurrency;
  return Math.min(Math.max(processors || 1, 1), MAX_THREADS);
}

function whyNoWorkers(): string | undefined {
  if (isNode) return undefined;
  if (!globalThis.crossOriginIsolated) return 'the page is not cross-origin isolated';
  return typeof Worker === 'function' ? undefined : 'there are no workers here';
}

/** Resolves when the worker takes tasks. */
function startWorker(parts: WorkerParts): Promise<void> {
  if (isNode) {
    const { Worker } = node.worker_threads;
    const worker = new Worker(SOURCE, { eval: true, workerData: parts, execArgv: [] });
    // Until it is ready it keeps the process alive: else a program that waits for nothing else would end.
    return new Promise<void>((resolve, reject) => {
      worker.once('message', () => resolve()).once('error', reject);
    }).finally(() => worker.unref());
  }
  const url = URL.createObjectURL(new Blob([SOURCE], { type: 'text/javascript' }));
  const worker = new Worker(url, { name: `gqa ${parts.worker}` });
  return new Promise<void>((resolve, reject) => {
    worker.onmessage = () => resolve();
    worker.onerror = (event) => reject(new Error(event.message || 'a worker of a blob: address is refused'));
    worker.postMessage(parts);
  }).finally(() => URL.revokeObjectURL(url));
}
