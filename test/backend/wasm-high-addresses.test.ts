/** WASM tensors above 2 GiB, whose addresses are negative as signed 32-bit numbers. */
import { expect, test } from 'vitest';
import { open } from '../../src/backend/registry.ts';
import {
  cast,
  dotProductAttention,
  linear,
  matmul,
  setBackend,
  setThreads,
  softmax,
  tensor,
} from '../../src/index.ts';
import { addressOf, type Storage } from '../../src/tensor/storage.ts';
import { randomFrom } from '../cases/inputs.ts';

const GIB = 2 ** 30;
const uniform = randomFrom(31);
const numbers = (...shape: number[]) => ({
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => 2 * uniform() - 1),
  shape,
});
/** Above 140 KiB each, as all outputs: smaller buffers share pieces of memory, which may be low. */
const INPUTS = [numbers(181, 257), numbers(257, 293), numbers(1, 97, 12, 32), numbers(1, 293, 4, 32)];
const SMALLEST = 140 * 1024;

function compute() {
  const [a, b, q, k] = INPUTS.map(({ data, shape }) => tensor(data, { shape }));
  const [product, half] = [matmul(a, b), cast(b, 'bf16')];
  const outputs = [product, linear(product, half), softmax(a), dotProductAttention(q, k, k)];
  const lowest = Math.min(...[a, b, q, k, half, ...outputs].map((x) => addressOf(x.storage)));
  return { lowest, bytes: () => Promise.all(outputs.map((y) => y.data())) };
}

// Memory that is not written takes no memory of the machine.
test('ops above 2 GiB, and at the end of memory', async (context) => {
  await setBackend('wasm');
  await setThreads(2);
  const wasm = open('wasm');
  const low = compute();
  expect(low.lowest).toBeLessThan(GIB);
  const fillers: Storage[] = [];
  try {
    for (const byteLength of [1.5 * GIB, 0.5 * GIB]) fillers.push(wasm.allocate(byteLength));
  } catch (error) {
    console.warn(`skipping WASM tensors above 2 GiB: ${(error as Error).message}`);
    context.skip();
  }
  /** Takes the gaps below. */
  const fillBelow = (address: number) => {
    do fillers.push(wasm.allocate(SMALLEST));
    while (addressOf(fillers[fillers.length - 1]) < address);
  };
  fillBelow(2 * GIB);
  const high = compute();
  expect(high.lowest).toBeGreaterThan(2 * GIB);
  expect(await high.bytes()).toEqual(await low.bytes());

  fillers.push(wasm.allocate(1.9375 * GIB));
  fillBelow(3.9375 * GIB);
  const highest = compute();
  expect(highest.lowest).toBeGreaterThan(3.9375 * GIB);
  expect(await highest.bytes()).toEqual(await low.bytes());
  for (const filler of fillers) wasm.free(filler);
});
