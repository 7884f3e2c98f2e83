/** WASM with workers: the same bits for any number of threads, and how workers and processes end. */
import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { open } from '../../src/backend/registry.ts';
import { kernelModule } from '../../src/backend/wasm/module.ts';
import { WasmThreads } from '../../src/backend/wasm/threads.ts';
import {
  cast,
  dotProductAttention,
  gelu,
  layerNorm,
  linear,
  matmul,
  mul,
  rmsNorm,
  setBackend,
  setThreads,
  softmax,
  sum,
  type Tensor,
  tensor,
  valueAndGrad,
} from '../../src/index.ts';
import { loadModel } from '../../src/models/index.ts';
import { randomFrom } from '../cases/inputs.ts';
import { GOLDEN } from '../models/golden.ts';

const uniform = randomFrom(23);
const make = (...shape: number[]) =>
  tensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => 2 * uniform() - 1),
    { shape },
  );

/** Each is large enough for several tasks (kernels/tasks.h). */
const OPS: Readonly<Record<string, () => () => Tensor>> = {
  matmul: () => bind(matmul, make(131, 257), make(257, 193)),
  'linear of one row': () => bind(linear, make(1, 1031), make(1031, 1031)),
  'linear of many rows': () => bind(linear, make(67, 509), make(509, 509)),
  'linear of bf16': () => bind(linear, make(19, 509), cast(make(509, 509), 'bf16')),
  gelu: () => bind(gelu, make(211, 353)),
  softmax: () => bind(softmax, make(101, 1009)),
  sum: () => bind(sum, make(211, 1009)),
  rmsNorm: () => bind(rmsNorm, make(211, 353), make(353)),
  layerNorm: () => bind(layerNorm, make(211, 353), make(353), make(353)),
  'attention of one query': () =>
    bind(dotProductAttention, make(2, 1, 6, 32), make(2, 701, 3, 32), make(2, 701, 3, 32)),
  'attention of many': () =>
    bind(dotProductAttention, make(2, 97, 6, 32), make(2, 97, 3, 32), make(2, 97, 3, 32)),
  gradient: () => {
    const [x, weight] = [make(67, 509), make(509, 509)];
    return () => valueAndGrad((w: Tensor) => sum(mul(gelu(linear(x, w)), gelu(linear(x, w)))))(weight)[1];
  },
};

function bind<Arguments extends unknown[]>(op: (...given: Arguments) => Tensor, ...given: Arguments) {
  return () => op(...given);
}

describe('the same bits on 1, 2 and 3 threads', () => {
  beforeAll(() => setBackend('wasm'));
  afterAll(() => setThreads(1));

  test.each(Object.keys(OPS))('%s', async (name) => {
    const op = OPS[name]();
    const bits = async (threads: number) => {
      await setThreads(threads);
      return new Uint8Array((await op().data()).buffer);
    };
    const one = await bits(1);
    for (const threads of [2, 3, 2]) expect(await bits(threads)).toEqual(one);
  });

  test('a tiny model', async () => {
    const model = await loadModel(`${GOLDEN}/tiny-llama/gqa-tied`);
    const tokens = Array.from({ length: 29 }, (_, i) => i);
    const logits = async (threads: number) => {
      await setThreads(threads);
      return await model.forward([tokens, tokens]).data();
    };
    const one = await logits(1);
    for (const threads of [2, 3]) expect(await logits(threads)).toEqual(one);
    model.dispose();
  });
});

test('the description gives the threads', async () => {
  await setBackend('wasm');
  await setThreads(3);
  expect(open('wasm').description).toMatch(/^wasm \(\w+, 3 threads\)$/);
  await setThreads(1);
  expect(open('wasm').description).toMatch(/^wasm \(\w+, 1 thread\)$/);
});

test('without workers there is one thread, and the reason', async () => {
  const wanted: number[] = [];
  const wasm = { gqa_alloc: () => 0, gqa_set_threads: (threads: number) => wanted.push(threads) };
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const pool = new WasmThreads(kernelModule().module, memory, wasm as never, 4);
  await pool.start();
  expect(pool.description).toBe('1 thread: no worker (out of memory for its stack)');
  await pool.set(3);
  expect(wanted.at(-1)).toBe(1);
});

describe('a process', () => {
  const dist = new URL('../../dist/index.js', import.meta.url).href;
  const program = (end: string) => `
    const { matmul, setBackend, setThreads, ones } = await import(${JSON.stringify(dist)});
    await setBackend('wasm');
    await setThreads(3);
    const x = ones([512, 512]);
    const y = await matmul(x, x).data();
    if (y[5] !== 512) throw new Error('got ' + y[5]);
    ${end}`;
  const run = (source: string) =>
    spawnSync(process.execPath, ['--input-type=module', '-e', source], { encoding: 'utf8', timeout: 60_000 });

  test.each([
    ['that has nothing left to do ends', '', 0],
    ['ends by process.exit while workers look for tasks', 'matmul(x, x); process.exit(7);', 7],
    [
      'ends by process.exit between calls',
      'setInterval(() => matmul(x, x), 0); setTimeout(() => process.exit(7), 200);',
      7,
    ],
    ['ends by an error', 'setTimeout(() => { matmul(x, x); throw new Error("end"); }, 10);', 1],
  ])('%s', (_, end, status) => {
    const result = run(program(end));
    expect([result.status, result.signal]).toEqual([status, null]);
  });

  test('frees what a worker of its own held that used WASM with threads', () => {
    const worker = program('globalThis.kept = ones([16, 1024, 1024]);');
    const { stdout, stderr } = run(`
      import { Worker } from 'node:worker_threads';
      const run = () => new Promise((resolve, reject) => {
        new Worker(new URL('data:text/javascript,' + encodeURIComponent(${JSON.stringify(worker)}))).on('error', reject).on('exit', resolve);
      });
      for (let i = 0; i < 3; i++) await run();
      const before = process.memoryUsage.rss();
      for (let i = 0; i < 8; i++) await run();
      console.log((process.memoryUsage.rss() - before) / 2 ** 20);`);
    // Else 8 times 64 MiB.
    expect(stderr).toBe('');
    expect(Number(stdout)).toBeLessThan(200);
  });
});
