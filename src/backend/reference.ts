/**
 * The reference backend: every kernel in the simplest correct TypeScript. Sums are f64, results are rounded
 * once to the output's dtype, and all ops accept f64 tensors. It is the oracle of the tests and favours
 * clarity over speed. New memory is filled with NaN, so that reads of unwritten memory show.
 */
import { isNode, node } from '../platform/node.ts';
import { UnsupportedError } from '../tensor/errors.ts';
import { release, retain, type Storage } from '../tensor/storage.ts';
import type { Backend, BackendFile } from './backend.ts';
import type { ArgumentsOf, Call } from './calls/call.ts';
import type { CallFunctions } from './calls/index.ts';
import { checkFileRange, checkRange, isCount, outOfMemory } from './memory-range.ts';
import { attention } from './reference/attention.ts';
import { attentionBackward } from './reference/attention-backward.ts';
import * as copy from './reference/copy.ts';
import * as elementwise from './reference/elementwise.ts';
import * as experts from './reference/experts.ts';
import * as linear from './reference/linear.ts';
import * as loss from './reference/loss.ts';
import * as matmul from './reference/matmul.ts';
import { bytesOf, bytesStorage } from './reference/memory.ts';
import * as norm from './reference/norm.ts';
import * as optimizer from './reference/optimizer.ts';
import { random } from './reference/random.ts';
import * as reduce from './reference/reduce.ts';
import * as rope from './reference/rope.ts';

const FUNCTIONS: CallFunctions = {
  attention,
  attentionBackward,
  random,
  ...copy,
  ...elementwise,
  ...experts,
  ...linear,
  ...loss,
  ...matmul,
  ...norm,
  ...optimizer,
  ...reduce,
  ...rope,
};

export class ReferenceBackend implements Backend {
  readonly name = 'reference';
  readonly description = 'reference (TypeScript, f64 accumulation)';
  #bytesInUse = 0;
  /** Views, and the storages that hold their bytes. */
  readonly #parts = new WeakMap<Storage, Storage>();

  /** Bytes of all live storages; lifetime tests read it. */
  get bytesInUse(): number {
    return this.#bytesInUse;
  }

  allocate(byteLength: number): Storage {
    if (!isCount(byteLength)) throw outOfMemory(this.name, byteLength);
    let bytes: Uint8Array<ArrayBuffer>;
    try {
      bytes = new Uint8Array(byteLength);
    } catch {
      throw outOfMemory(this.name, byteLength);
    }
    return this.#adopt(bytes.fill(0xff));
  }

  #adopt(bytes: Uint8Array<ArrayBuffer>): Storage {
    this.#bytesInUse += bytes.byteLength;
    return bytesStorage(this, bytes);
  }

  free(storage: Storage): void {
    const whole = this.#parts.get(storage);
    if (whole) release(whole);
    else this.#bytesInUse -= storage.byteLength;
  }

  /** Nothing to report: V8 allocates the memory. */
  reportExternalMemory(): void {}

  read(storage: Storage, byteOffset: number, byteLength: number): Uint8Array<ArrayBuffer> {
    checkRange('read', storage, byteOffset, byteLength);
    return bytesOf(storage).slice(byteOffset, byteOffset + byteLength);
  }

  write(storage: Storage, bytes: Uint8Array, byteOffset = 0): void {
    checkRange('write', storage, byteOffset, bytes.byteLength);
    bytesOf(storage).set(bytes, byteOffset);
  }

  view(storage: Storage, byteOffset: number, byteLength: number): Storage {
    checkRange('view', storage, byteOffset, byteLength);
    const bytes = bytesOf(storage).subarray(byteOffset, byteOffset + byteLength);
    const part = bytesStorage(this, bytes);
    retain(storage);
    this.#parts.set(part, storage);
    return part;
  }

  openFile(path: string): BackendFile {
    if (!isNode)
      throw new UnsupportedError('openFile', 'a path', this.name, 'there are no files in a browser');
    const { fs } = node;
    const file = fs.openSync(path, 'r');
    const { size } = fs.fstatSync(file);
    let closed = false;
    return {
      size,
      storage: (byteOffset, byteLength) => {
        if (closed) throw new Error(`${path}: read after close()`);
        checkFileRange(path, size, byteOffset, byteLength);
        const bytes = new Uint8Array(byteLength);
        for (let done = 0; done < byteLength; ) {
          const count = fs.readSync(file, bytes, done, byteLength - done, byteOffset + done);
          if (count === 0)
            throw new RangeError(`${path}: unexpected end of file at byte ${byteOffset + done} of ${size}`);
          done += count;
        }
        return this.#adopt(bytes);
      },
      close() {
        if (!closed) fs.closeSync(file);
        closed = true;
      },
    };
  }

  async setThreads(): Promise<void> {}

  async startThreads(): Promise<void> {}

  run<C extends Call>(call: C, args: NoInfer<ArgumentsOf<C>>): void {
    const run: (args: never) => void = FUNCTIONS[call.name as keyof CallFunctions];
    run(args as never);
  }
}
