/** The memory of the WASM build: freed memory is used again, and the engine works on after it ran out. */
import { beforeAll, expect, test, vi } from 'vitest';
import { open } from '../../src/backend/registry.ts';
import type { KernelExports } from '../../src/backend/wasm/exports.ts';
import { kernelModule } from '../../src/backend/wasm/module.ts';
import { dotProductAttention, matmul, ones, setBackend, setThreads, tensor } from '../../src/index.ts';
import { loadModel } from '../../src/models/index.ts';
import type { Storage } from '../../src/tensor/storage.ts';
import { randomFrom } from '../cases/inputs.ts';
import { GOLDEN } from '../models/golden.ts';
import { runs } from '../runs.ts';

const MIB = 2 ** 20;
const LIMIT = 256 * MIB;

/** The memory of the engine, where not more than 256 MiB can be reserved. Before the imports open it. */
const engineMemory = vi.hoisted(() => {
  const memories: WebAssembly.Memory[] = [];
  WebAssembly.Memory = class extends WebAssembly.Memory {
    constructor(descriptor: WebAssembly.MemoryDescriptor) {
      if ((descriptor.maximum ?? 0) > 4096) throw new RangeError('could not allocate memory');
      super(descriptor);
      memories.push(this);
    }
  };
  return memories;
});

beforeAll(async () => {
  await setBackend('wasm');
  await setThreads(3);
});

const uniform = randomFrom(29);
const below = (count: number) => Math.floor(uniform() * count);
const make = (...shape: number[]) =>
  tensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => 2 * uniform() - 1),
    { shape },
  );

/** Allocates all memory that is left, and returns what frees it. */
function fill(): () => void {
  const buffers: Storage[] = [];
  for (let byteLength = 64 * MIB; byteLength >= 64; ) {
    try {
      buffers.push(open('wasm').allocate(byteLength));
    } catch {
      byteLength /= 2;
    }
  }
  return () => {
    for (const buffer of buffers) open('wasm').free(buffer);
  };
}

test('random buffers do not overlap, and the same ones again need no more memory', () => {
  const memory = new WebAssembly.Memory({ initial: 16, maximum: LIMIT / 65536, shared: true });
  const { exports } = new WebAssembly.Instance(kernelModule().module, { env: { memory } });
  const wasm = exports as unknown as KernelExports;
  const round = (seed: number) => {
    const random = randomFrom(seed);
    const live: { address: number; byteLength: number; tag: number }[] = [];
    let bytes = 0;
    let most = 0;
    const free = (index: number) => {
      const [{ address, byteLength, tag }] = live.splice(index, 1);
      const view = new Uint8Array(memory.buffer, address, byteLength);
      expect([view[0], view[byteLength - 1]]).toEqual([tag, tag]);
      wasm.gqa_free(address, byteLength);
      bytes -= byteLength;
    };
    for (let i = 0; i < 2000; i++) {
      if (live.length > 0 && random() < 0.48) {
        free(Math.floor(random() * live.length));
        continue;
      }
      const byteLength = Math.ceil(2 ** (21 * random()));
      const [address, tag] = [wasm.gqa_alloc(byteLength) >>> 0, i % 251];
      expect(address % 64).toBe(0);
      new Uint8Array(memory.buffer, address, byteLength).fill(tag);
      live.push({ address, byteLength, tag });
      bytes += byteLength;
      most = Math.max(most, bytes);
    }
    expect(wasm.gqa_bytes_in_use()).toBeGreaterThanOrEqual(bytes);
    while (live.length > 0) free(live.length - 1);
    expect(wasm.gqa_bytes_in_use()).toBe(0);
    return most;
  };
  round(1);
  // The second finds small buffers on their lists: from then on each is the same.
  const most = round(1);
  const { byteLength } = memory.buffer;
  expect(byteLength).toBeLessThan(1.5 * most);
  for (let i = 0; i < 3; i++) round(1);
  expect(memory.buffer.byteLength).toBe(byteLength);
});

test('many loads of a model take the memory of one', async () => {
  const load = async () => {
    const model = await loadModel(`${GOLDEN}/tiny-llama/gqa-tied`);
    const logits = await model.forward([[below(32), 2, 3]]).data();
    model.dispose();
    return logits.length;
  };
  for (let i = 0; i < 3; i++) await load();
  const [memory] = engineMemory;
  const { byteLength } = memory.buffer;
  for (let i = 0; i < runs(100, 500); i++) await load();
  memory.grow(0); // a worker may have grown it
  expect(memory.buffer.byteLength).toBe(byteLength);
});

test('out of memory gives the numbers, and the engine works afterwards', async () => {
  const x = ones([8, 8]);
  const inUse = /(\d+) of at most 268435456 in use/;
  expect(() => ones([LIMIT])).toThrow(RangeError);
  expect(() => ones([LIMIT])).toThrow(
    /^wasm: out of memory allocating 1073741824 bytes, \d+ of at most 268435456 in use/,
  );
  const free = fill();
  try {
    ones([MIB]);
    expect.unreachable();
  } catch (error) {
    expect(Number(inUse.exec((error as Error).message)?.[1])).toBeGreaterThan(0.98 * LIMIT);
  } finally {
    free();
  }
  expect(await matmul(x, x).data()).toEqual(new Float32Array(64).fill(8));
  ones([32 * MIB]).dispose();
});

test.each([40, 80, 160, 256])(
  'a call whose tasks have no memory for their scratch fails, and the next is right (%i)',
  async (size) => {
    // Each needs more scratch than the one before. The output is small, so that it fits where `output` was.
    const [heads, length] = [2, 61];
    const q = make(1, length, heads, size);
    const [k, v] = [make(1, length, 1, size), make(1, length, 1, size)];
    const output = ones([1, length, heads, size]);
    const free = fill();
    output.dispose();
    expect(() => dotProductAttention(q, k, v)).toThrow(/^wasm: out of memory allocating \d+ bytes/);
    free();
    const after = await dotProductAttention(q, k, v).data();
    await setThreads(1);
    expect(after).toEqual(await dotProductAttention(q, k, v).data());
    await setThreads(3);
  },
);
